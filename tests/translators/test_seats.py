"""What each of our pickers is told, where they have Services: its pools and their endpoints, and no others."""

import pytest
from golden_files import FOLDER, world_of

from protos.pointsman.picker.v1.pool_pb2 import Pool
from translators import Memo, Settings, Translation, translate
from translators.translation import CLUSTER, ENDPOINTS, POOL


def translated(case: str) -> Translation:
    text = (FOLDER / case / "in.yaml").read_text(encoding="utf-8")
    return translate(world_of(text), Settings(picker_services=True), Memo())


def told(translation: Translation) -> dict[str, dict[str, set[str]]]:
    return {
        seat.removeprefix("picker/default/"): {
            "pools": {each.name for each in resources if each.type_url == POOL},
            "endpoints": {each.name for each in resources if each.type_url == ENDPOINTS},
        }
        for seat, resources in translation.pickers.items()
    }


def test_pools_that_share_a_picker_are_told_to_it_with_their_endpoints() -> None:
    assert told(translated("picker-services")) == {
        "alone-picker/9002": {"pools": {"default/alone"}, "endpoints": {"inferencepool/default/alone"}},
        "epp/9002": {
            "pools": {"default/one", "default/two"},
            "endpoints": {"xinferencepool/default/one", "xinferencepool/default/two"},
        },
    }


def test_a_picker_that_stands_in_is_told_so() -> None:
    found = translated("stand-ins")
    assert told(found) == {
        f"{name}-stand-in/9002": {"pools": {f"default/{name}"}, "endpoints": {f"xinferencepool/default/{name}"}}
        for name in ("away", "served")
    }
    pools = [each.message for resources in found.pickers.values() for each in resources if each.type_url == POOL]
    assert all(isinstance(pool, Pool) and pool.stand_in for pool in pools)


MOVING = """
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: gateway}
spec: {gatewayClassName: ours, listeners: [{name: http, port: 8080, protocol: HTTP}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: route}
spec:
  parentRefs: [{name: gateway}]
  rules: [{backendRefs: [{group: inference.networking.x-k8s.io, kind: InferencePool, name: pool}]}]
---
apiVersion: inference.networking.x-k8s.io/v1alpha2
kind: InferencePool
metadata: {name: pool}
spec: {selector: {app: pool}, targetPortNumber: 8000, extensionRef: {name: after}}
"""


def picker(name: str, *, ready: bool, knows: str = "inference.networking.x-k8s.io/pool", port: int = 9100) -> str:
    """A picker of ours as it is in a cluster."""
    return f"""
---
apiVersion: v1
kind: Service
metadata:
  name: {name}
  labels: {{pointsman.dev/picker: "true"}}
  annotations: {{pointsman.dev/picks-for: "inference.networking.k8s.io/other {knows}"}}
spec: {{ports: [{{name: grpc, port: {port}}}, {{name: metrics, port: 9090}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: {name}-1, labels: {{kubernetes.io/service-name: {name}}}}}
addressType: IPv4
ports: [{{name: grpc, port: {port}}}, {{name: metrics, port: 9090}}]
endpoints: [{{addresses: [192.0.2.1], conditions: {{ready: {str(ready).lower()}}}}}]
"""


@pytest.mark.parametrize(
    ("there", "asked", "seats"),
    [
        ("", "after/9002", {"after/9002"}),
        # The old one is asked until the new one is ready; both know the pool, and both are made.
        (picker("before", ready=True), "before/9100", {"before/9100", "after/9002"}),
        (picker("before", ready=True) + picker("after", ready=False, port=9002), "before/9100", None),
        (picker("before", ready=True) + picker("after", ready=True, port=9002), "after/9002", {"after/9002"}),
        # One that is ready for other pools may not know this one yet.
        (picker("before", ready=True) + picker("after", ready=True, port=9002, knows=""), "before/9100", None),
        # Where no other one is ready the new one is as good.
        (picker("before", ready=False) + picker("after", ready=False, port=9002), "after/9002", {"after/9002"}),
        (picker("before", ready=True, knows="inference.networking.k8s.io/pool"), "after/9002", {"after/9002"}),
    ],
)
def test_a_pool_that_moves_to_another_picker(there: str, asked: str, seats: set[str] | None) -> None:
    translation = translate(world_of(MOVING + there), Settings(picker_services=True), Memo())
    clusters = [each.name for each in translation.gateways["default/gateway"] if each.type_url == CLUSTER]
    assert [name for name in clusters if name.startswith("picker/")] == [f"picker/default/{asked}"]
    found = told(translation)
    assert found.keys() == (seats or {"before/9100", "after/9002"})
    pool = {"pools": {"default/pool"}, "endpoints": {"xinferencepool/default/pool"}}
    assert all(known == pool for known in found.values())
    needed = {each.seat.cluster: [pool.key.name for pool in each.pools] for each in translation.needs[1]}
    assert needed == {f"picker/default/{seat}": ["pool"] for seat in found}


def test_a_picker_takes_over_while_the_memory_is_warm() -> None:
    memo, settings = Memo(), Settings(picker_services=True)
    before, after = picker("before", ready=True), picker("after", ready=True, port=9002)
    for there in ("", before, before + after.replace("ready: true", "ready: false"), before + after, after, before):
        world = world_of(MOVING + there)
        warm, cold = translate(world, settings, memo), translate(world, settings, Memo())
        assert warm.needs == cold.needs
        for part in ("gateways", "pickers"):
            one, other = getattr(warm, part), getattr(cold, part)
            assert one.keys() == other.keys()
            for name, resources in one.items():
                assert [(each.type_url, each.name, each.message) for each in resources] == [
                    (each.type_url, each.name, each.message) for each in other[name]
                ]
