"""InferenceTrafficPolicies: which pools have prefill and decode apart, and what is told of those that cannot."""

import pytest
from envoy_data_plane.envoy.config.cluster.v3 import Cluster
from manifests import translation_of

from protos.pointsman.picker.v1 import pool_pb2
from translators import Translation

BASE = """
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: gw}
spec: {gatewayClassName: any, listeners: [{name: http, port: 8080, protocol: HTTP}]}
---
apiVersion: v1
kind: Service
metadata: {name: s}
spec: {ports: [{port: 80}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: route}
spec:
  parentRefs: [{name: gw}]
  rules:
    - backendRefs: [{group: inference.networking.x-k8s.io, kind: InferencePool, name: p}]
      filters: [FILTERS]
---
apiVersion: inference.networking.x-k8s.io/v1alpha2
kind: InferencePool
metadata: {name: p, annotations: {ANNOTATIONS}}
spec: {selector: {app: a}, targetPortNumber: 8000, extensionRef: {EXTENSION}}
"""
OURS, FOREIGN = "name: nobody, failureMode: FailOpen", "name: s, portNumber: 80"
PD = "pdRoleLabelName: role"
ANNOTATION = "inference.networking.x-k8s.io/model-server-runtime"


def policy(spec: str, name: str = "policy", created: str = "2025-01-01T00:00:00Z") -> str:
    return (
        "apiVersion: inferenceextension.alibabacloud.com/v1alpha1\nkind: InferenceTrafficPolicy\n"
        f"metadata: {{name: {name}, creationTimestamp: {created!r}}}\nspec: {{poolRef: {{name: p}}, {spec}}}\n"
    )


def split(pd: str = PD, runtime: str = "sglang", more: str = "") -> str:
    return policy(f"modelServerRuntime: {runtime}, profile: {{pd: {{{pd}}}}}{more}")


def translated(*policies: str, annotations: str = "", extension: str = OURS, filters: str = "") -> Translation:
    base = BASE.replace("ANNOTATIONS", annotations).replace("EXTENSION", extension).replace("FILTERS", filters)
    return translation_of(base, *policies)


def told(translation: Translation) -> pool_pb2.Pool:
    messages = [each.message for each in translation.gateways["default/gw"]]
    (found,) = (each for each in messages if isinstance(each, pool_pb2.Pool))
    return found


def clusters(translation: Translation) -> set[str]:
    return {each.name for each in translation.gateways["default/gw"] if isinstance(each.message, Cluster)}


def test_a_split_pool_has_a_cluster_for_each_role() -> None:
    found = translated(split())
    assert clusters(found) == {"xinferencepool/default/p", "xinferencepool/default/p/prefill"}
    assert told(found).disaggregation == pool_pb2.Disaggregation(
        prefill_cluster="xinferencepool/default/p/prefill", bootstrap_port=8998
    )
    assert (told(found).runtime, found.problems) == (pool_pb2.RUNTIME_SGLANG, ())


@pytest.mark.parametrize(
    ("refs", "strategies"),
    [
        ("prefillPolicyRef: prefixCache", (1, 0)),
        ("decodePolicyRef: prefixCache", (0, 1)),
        ("prefillPolicyRef: prefixCache, decodePolicyRef: prefixCache", (1, 1)),
    ],
)
def test_each_role_has_the_policy_that_it_names(refs: str, strategies: tuple[int, int]) -> None:
    found = translated(split(f"{PD}, trafficPolicy: {{prefixCache: {{mode: estimate}}}}, {refs}"))
    assert (told(found).disaggregation.prefill_strategy, told(found).strategy) == strategies
    assert found.problems == ()


def test_the_runtime_may_be_said_by_the_pool() -> None:
    found = translated(policy(f"profile: {{pd: {{{PD}}}}}"), annotations=f"{ANNOTATION}: sglang")
    assert told(found).HasField("disaggregation")


def test_a_policy_may_say_the_runtime_and_no_more() -> None:
    found = translated(policy("modelServerRuntime: tgi"))
    assert (told(found).runtime, told(found).HasField("disaggregation")) == (pool_pb2.RUNTIME_TGI, False)


WHERE = "InferenceTrafficPolicy default/policy: spec"


@pytest.mark.parametrize(
    ("manifest", "extension", "line"),
    [
        (split(runtime="vllm"), OURS, f"{WHERE}.profile.pd: prefill and decode can be apart only where"),
        (policy(f"profile: {{pd: {{{PD}}}}}"), OURS, f"{WHERE}.profile.pd: prefill and decode can be apart only where"),
        (split(runtime="sgland"), OURS, f"{WHERE}.modelServerRuntime: 'sgland' is none of vllm, sglang,"),
        (split(), FOREIGN, f"{WHERE}.profile.pd: InferencePool default/p is picked for by another picker"),
        (
            split().replace("{name: p}", "{name: q}"),
            OURS,
            f"{WHERE}.poolRef: InferencePool default/q does not exist",
        ),
        (
            split().replace("{name: p}", "{name: p, group: inference.networking.k8s.io}"),
            OURS,
            f"{WHERE}.poolRef: InferencePool default/p (inference.networking.k8s.io) does not exist",
        ),
    ],
)
def test_a_policy_that_cannot_apply_leaves_the_pool_as_it_is(manifest: str, extension: str, line: str) -> None:
    found = translated(manifest, extension=extension)
    assert [each for each in found.problems if each.startswith(line)] == list(found.problems) != []
    assert clusters(found) - {"picker/default/s/80"} == {"xinferencepool/default/p"}


@pytest.mark.parametrize(
    ("pd", "line"),
    [
        (
            "trafficPolicy: {prefixCache: {mode: tracking}}, prefillPolicyRef: prefixCache",
            ".trafficPolicy.prefixCache.mode: 'tracking' is not supported; 'estimate' applies",
        ),
        ("prefillPolicyRef: prefixCache", ".prefillPolicyRef: trafficPolicy has no 'prefixCache' that is known"),
        ("decodePolicyRef: other", ".decodePolicyRef: trafficPolicy has no 'other' that is known"),
    ],
)
def test_a_word_that_is_not_known_is_told_and_its_default_applies(pd: str, line: str) -> None:
    found = translated(split(f"{PD}, {pd}"))
    (problem,) = found.problems
    assert problem.startswith(f"{WHERE}.profile.pd{line}")
    assert told(found).HasField("disaggregation")


def test_of_two_policies_the_older_counts() -> None:
    later = policy("modelServerRuntime: tgi", "later", "2025-02-01T00:00:00Z")
    found = translated(later, split())
    assert told(found).HasField("disaggregation")
    (problem,) = found.problems
    assert problem.startswith("InferenceTrafficPolicy default/later: spec.poolRef: the pool has")
    assert problem.endswith("default/policy already")


@pytest.mark.parametrize(
    "backend",
    ["name: s, port: 80", "group: inference.networking.x-k8s.io, kind: InferencePool, name: p"],
)
def test_nothing_is_mirrored_from_or_to_a_split_pool(backend: str) -> None:
    filters = f"{{type: RequestMirror, requestMirror: {{backendRef: {{{backend}}}}}}}"
    found = translated(split(), filters=filters)
    (problem,) = found.problems
    assert problem.startswith("HTTPRoute default/route: spec.rules[0].filters[0].requestMirror.backendRef: a pool with")
    assert clusters(found) == {"xinferencepool/default/p", "xinferencepool/default/p/prefill"}
