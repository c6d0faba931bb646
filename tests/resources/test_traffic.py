import pytest

from resources import DecodeError, InferenceTrafficPolicy, decode


def document(spec: object) -> dict[str, object]:
    kind = {"apiVersion": "inferenceextension.alibabacloud.com/v1alpha1", "kind": "InferenceTrafficPolicy"}
    return {**kind, "metadata": {"name": "it"}, "spec": spec}


def test_a_policy_is_decoded_with_its_defaults() -> None:
    pd = {
        "pdRoleLabelName": "example.com/role",
        "trafficPolicy": {"prefixCache": {}},
        "prefillPolicyRef": "prefixCache",
    }
    found = decode(document({"poolRef": {"name": "p"}, "profile": {"pd": pd}}))
    assert isinstance(found.object, InferenceTrafficPolicy)
    assert found.ignored == ()
    spec = found.object.spec
    assert (spec.pool_ref.group, spec.model_server_runtime) == (None, None)
    assert spec.profile.pd is not None
    assert spec.profile.pd.kv_transfer.bootstrap_port == 8998
    assert spec.profile.pd.traffic_policy.prefix_cache is not None
    assert spec.profile.pd.traffic_policy.prefix_cache.mode == "estimate"
    assert (spec.profile.pd.prefill_policy_ref, spec.profile.pd.decode_policy_ref) == ("prefixCache", None)


@pytest.mark.parametrize(
    ("pd", "message"),
    [
        ({}, "spec.profile.pd.pdRoleLabelName"),
        ({"pdRoleLabelName": "a/b/c"}, "spec.profile.pd.pdRoleLabelName"),
        ({"pdRoleLabelName": "r", "kvTransfer": {"bootstrapPort": 0}}, "spec.profile.pd.kvTransfer.bootstrapPort"),
    ],
)
def test_what_cannot_be_meant_is_refused(pd: object, message: str) -> None:
    with pytest.raises(DecodeError) as error:
        decode(document({"poolRef": {"name": "p"}, "profile": {"pd": pd}}))
    assert message in str(error.value)


def test_what_is_not_known_is_told() -> None:
    found = decode(document({"poolRef": {"name": "p"}, "profile": {"single": {}}, "modelServer": 1}))
    assert set(found.ignored) == {"spec.profile.single", "spec.modelServer"}
