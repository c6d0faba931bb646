"""Endpoint slices for Services in a folder."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from resources import (
    Endpoint,
    EndpointPort,
    EndpointSlice,
    ObjectMeta,
    Pod,
    Service,
    Upsert,
    World,
    decode,
)
from sources.endpoint_slices import changes, derive

LABELS = {"app": "x"}


def pod(name: str, address: str = "", *, ready: bool = True, labels: Any = None, **more: Any) -> Pod:
    addresses = [{"ip": each} for each in address.split()]
    source = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": LABELS if labels is None else labels, **more.get("metadata", {})},
        "spec": {"containers": [{"name": "c", "ports": more.get("ports", [])}]},
        "status": {
            "podIPs": addresses,
            "podIP": addresses[0]["ip"] if addresses else None,
            "phase": more.get("phase", "Running"),
            "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
        },
    }
    found = decode(source).object
    assert isinstance(found, Pod)
    return found


def service(*ports: Any, selector: Any = None, **spec: Any) -> Service:
    spec |= {"selector": LABELS if selector is None else selector, "ports": list(ports)}
    found = decode({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "svc"}, "spec": spec}).object
    assert isinstance(found, Service)
    return found


def world(*objects: Service | Pod | EndpointSlice) -> World:
    return World().apply([Upsert(each) for each in objects])


def addresses(slices: tuple[EndpointSlice, ...]) -> list[str]:
    return [endpoint.addresses[0] for each in slices for endpoint in each.endpoints]


PORT = {"name": "http", "port": 80, "targetPort": 8000}


def test_a_slice_for_a_service() -> None:
    (found,) = derive(world(service(PORT), pod("a", "10.0.0.1"), pod("b", "10.0.0.2")))
    assert found.metadata.labels["kubernetes.io/service-name"] == "svc"
    assert found.metadata.namespace == "default"
    assert found.address_type == "IPv4"
    assert found.ports == (EndpointPort(name="http", port=8000),)
    assert addresses((found,)) == ["10.0.0.1", "10.0.0.2"]
    assert found.endpoints[0].target_ref is not None
    assert found.endpoints[0].target_ref.name == "a"


def test_only_pods_that_are_chosen_and_have_an_address() -> None:
    others = [pod("b", "10.0.0.2", labels={"app": "y"}), pod("c"), pod("d", "10.0.0.4", phase="Succeeded")]
    assert addresses(derive(world(service(PORT), pod("a", "10.0.0.1"), *others))) == ["10.0.0.1"]


def test_conditions() -> None:
    leaving = {"deletionTimestamp": "2025-01-01T00:00:00Z"}
    pods = [pod("a", "10.0.0.1"), pod("b", "10.0.0.2", ready=False), pod("c", "10.0.0.3", metadata=leaving)]
    (found,) = derive(world(service(PORT), *pods))
    states = [(e.conditions.ready, e.conditions.serving, e.conditions.terminating) for e in found.endpoints]
    assert states == [(True, True, False), (False, False, False), (False, True, True)]
    (found,) = derive(world(service(PORT, publishNotReadyAddresses=True), *pods))
    assert all(endpoint.conditions.ready for endpoint in found.endpoints)


def test_named_ports_are_resolved_pod_by_pod() -> None:
    named = {"port": 80, "targetPort": "web"}
    pods = [
        pod("a", "10.0.0.1", ports=[{"name": "web", "containerPort": 8000}]),
        pod("b", "10.0.0.2", ports=[{"name": "web", "containerPort": 9000}]),
        pod("c", "10.0.0.3", ports=[{"name": "other", "containerPort": 7000}]),
    ]
    found = derive(world(service(named), *pods))
    assert [(each.ports[0].port, addresses((each,))) for each in found] == [(8000, ["10.0.0.1"]), (9000, ["10.0.0.2"])]
    assert len({each.key for each in found}) == 2


def test_each_address_family_has_its_own_slice() -> None:
    found = derive(world(service(PORT), pod("a", "10.0.0.1 fd00::1")))
    assert [(each.address_type, addresses((each,))) for each in found] == [
        ("IPv4", ["10.0.0.1"]),
        ("IPv6", ["fd00::1"]),
    ]


def test_services_that_get_none() -> None:
    there = pod("a", "10.0.0.1")
    assert derive(world(service(PORT, selector={}), there)) == ()
    assert derive(world(service(PORT, type="ExternalName", externalName="a.b"), there)) == ()
    own = EndpointSlice(
        metadata=ObjectMeta(name="own", namespace="default", labels={"kubernetes.io/service-name": "svc"}),
        address_type="IPv4",
        endpoints=(Endpoint(addresses=("10.9.9.9",)),),
    )
    assert derive(world(service(PORT), there, own)) == ()


_pods = st.lists(
    st.builds(
        pod,
        st.sampled_from("abcd"),
        st.sampled_from(["10.0.0.1", "10.0.0.2", ""]),
        ready=st.booleans(),
        labels=st.sampled_from([LABELS, {}, {"app": "x", "b": "c"}]),
    ),
    max_size=5,
)


@settings(max_examples=30)
@given(_pods, _pods)
def test_a_world_with_the_changes_applied_has_just_the_slices(first: list[Pod], second: list[Pod]) -> None:
    before = world(service(PORT), *first)
    before = before.apply(changes(before))
    after = world(service(PORT), *second, *before.all(EndpointSlice).values())
    after = after.apply(changes(after))
    assert set(after.all(EndpointSlice).values()) == set(derive(after))
    assert after.apply(changes(after)) is after
    assert derive(after) == derive(world(service(PORT), *second))
