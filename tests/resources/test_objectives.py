import pytest

from resources import (
    DecodeError,
    InferenceModelRewrite,
    InferenceObjective,
    XInferenceModelRewrite,
    XInferenceObjective,
    decode,
)

GROUPS = ["llm-d.ai", "inference.networking.x-k8s.io"]


def document(group: str, kind: str, spec: object) -> dict[str, object]:
    return {"apiVersion": f"{group}/v1alpha2", "kind": kind, "metadata": {"name": "it"}, "spec": spec}


@pytest.mark.parametrize("group", GROUPS)
def test_an_objective_means_a_stable_pool_and_no_priority_unless_it_says_so(group: str) -> None:
    found = decode(document(group, "InferenceObjective", {"poolRef": {"name": "p"}})).object
    assert isinstance(found, InferenceObjective | XInferenceObjective)
    assert (found.key.group, found.spec.priority) == (group, None)
    assert (found.spec.pool_ref.group, found.spec.pool_ref.kind) == ("inference.networking.k8s.io", "InferencePool")


@pytest.mark.parametrize("group", GROUPS)
def test_a_rewrite_has_rules_with_or_without_matches(group: str) -> None:
    rules = [{"matches": [{"model": {"value": "a"}}], "targets": [{"modelRewrite": "b", "weight": 3}]}]
    rules += [{"targets": [{"modelRewrite": "c"}]}]
    found = decode(document(group, "InferenceModelRewrite", {"poolRef": {"name": "p"}, "rules": rules})).object
    assert isinstance(found, InferenceModelRewrite | XInferenceModelRewrite)
    named, generic = found.spec.rules
    assert (named.matches[0].model.type, named.matches[0].model.value) == ("Exact", "a")
    assert (named.targets[0].model_rewrite, named.targets[0].weight) == ("b", 3)
    assert (generic.matches, generic.targets[0].weight) == ((), None)


@pytest.mark.parametrize(
    ("kind", "spec", "complaint"),
    [
        ("InferenceObjective", {}, "spec.poolRef: required"),
        ("InferenceObjective", {"poolRef": {"name": "p"}, "priority": 1 << 31}, "spec.priority: expected int <"),
        ("InferenceModelRewrite", {"poolRef": {"name": "p"}}, "spec.rules: required"),
        ("InferenceModelRewrite", {"poolRef": {"name": "p"}, "rules": [{}]}, "spec.rules[0].targets: required"),
        (
            "InferenceModelRewrite",
            {
                "poolRef": {"name": "p"},
                "rules": [{"targets": [{"modelRewrite": "a", "weight": 1}, {"modelRewrite": "b"}]}],
            },
            "spec.rules[0].targets: weights must be set for all targets or for none",
        ),
        (
            "InferenceModelRewrite",
            {
                "poolRef": {"name": "p"},
                "rules": [
                    {"matches": [{"model": {"type": "Prefix", "value": "a"}}], "targets": [{"modelRewrite": "a"}]}
                ],
            },
            "spec.rules[0].matches[0].model.type: expected one of Exact",
        ),
    ],
)
def test_what_the_schema_forbids_is_refused(kind: str, spec: object, complaint: str) -> None:
    with pytest.raises(DecodeError) as refused:
        decode(document("llm-d.ai", kind, spec))
    assert complaint in str(refused.value)
