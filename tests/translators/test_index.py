"""The index of a World, and that of the World before with other pods in it."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from manifests import world_of

from resources import Delete, EndpointSlice, Object, ObjectMeta, Pod, Upsert, World, decode
from translators.resolve.index import Index

_POOLS = """
{apiVersion: inference.networking.k8s.io/v1, kind: InferencePool, metadata: {name: plain},
 spec: {selector: {matchLabels: {app: a}}, targetPorts: [{number: 8000}],
  endpointPickerRef: {name: epp, port: {number: 9002}}}}
---
{apiVersion: inference.networking.k8s.io/v1, kind: InferencePool, metadata: {name: narrow, namespace: other},
 spec: {selector: {matchLabels: {app: a, tier: b}}, targetPorts: [{number: 8000}],
  endpointPickerRef: {name: epp, port: {number: 9002}}}}
"""
_WORDS = st.sampled_from(("a", "b"))
_METADATA = st.fixed_dictionaries(
    {"name": st.sampled_from(("p", "q", "r")), "namespace": st.sampled_from(("default", "other"))},
    optional={"labels": st.dictionaries(st.sampled_from(("app", "tier", "unread")), _WORDS)},
)


def _an_object(kind: str, api: str, metadata: dict[str, object], **fields: object) -> Object:
    found = decode({"apiVersion": api, "kind": kind, "metadata": metadata, **fields}).object
    assert found is not None
    return found


def _slice(metadata: dict[str, object], service: str) -> Object:
    labelled = {**metadata, "labels": {"kubernetes.io/service-name": service}}
    return _an_object("EndpointSlice", "discovery.k8s.io/v1", labelled, addressType="IPv4", endpoints=[], ports=[])


_PODS = st.builds(lambda metadata: _an_object("Pod", "v1", metadata), _METADATA)
_CHANGES = st.lists(
    st.builds(Upsert, _PODS)
    | st.builds(Upsert, st.builds(_slice, _METADATA, _WORDS))
    | st.builds(lambda each: Delete(each.key), _PODS)
    | st.builds(lambda each: Delete(each.key), st.builds(_slice, _METADATA, _WORDS)),
    max_size=6,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(_CHANGES, max_size=5))
def test_the_index_with_other_pods_is_that_of_the_world(steps: list[list[Upsert | Delete]]) -> None:
    world: World = world_of(_POOLS)
    index = Index.of(world)
    for changes in steps:
        world = world.apply(changes)
        assert world.differs_only_in([Pod, EndpointSlice], index.world)
        index = index.with_pods_of(world)
        assert index == Index.of(world)


def test_pods_that_are_the_same_ones_are_the_same_tuple() -> None:
    def pod(name: str, app: str) -> Pod:
        return Pod(metadata=ObjectMeta(name=name, namespace="default", labels={"app": app}))

    world = world_of(_POOLS).apply([Upsert(pod("one", "a")), Upsert(pod("two", "b"))])
    index = Index.of(world)
    later = index.with_pods_of(world.apply([Upsert(pod("three", "b"))]))
    assert later.labelled["default", "app", "a"] is index.labelled["default", "app", "a"]
    assert [each.metadata.name for each in later.labelled["default", "app", "b"]] == ["three", "two"]
