"""One kind as an API server tells of it, without an API server."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resources import Delete, HTTPRoute, Key, Pod, Secret, Service, Upsert, World
from sources.kubernetes.errors import GONE, ApiError
from sources.kubernetes.follower import Change, Follower, Page

NAMES = ("a", "b", "c", "d")


def route(name: str, *, version: int = 1, generation: int = 1, **spec: object) -> dict[str, Any]:
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": name, "namespace": "shop", "resourceVersion": str(version), "generation": generation},
        "spec": {"parentRefs": [{"name": "gateway"}], **spec},
    }


def page(*items: dict[str, Any], version: int = 10, more: str = "") -> Page:
    # The items of a list do not say what they are.
    bare = [{name: value for name, value in each.items() if name not in {"apiVersion", "kind"}} for each in items]
    api_version = items[0]["apiVersion"] if items else "gateway.networking.k8s.io/v1"
    metadata = {"resourceVersion": str(version), "continue": more}
    said = {"apiVersion": api_version, "kind": "HTTPRouteList", "metadata": metadata, "items": bare}
    return Page.read(orjson.dumps(said))


def event(kind: str, item: dict[str, Any]) -> bytes:
    return orjson.dumps({"type": kind, "object": item})


def told(changes: list[Change]) -> list[str]:
    return [f"+{change.object.key.name}" if isinstance(change, Upsert) else f"-{change.key.name}" for change in changes]


def key(name: str) -> Key:
    return Key("gateway.networking.k8s.io", "HTTPRoute", "shop", name)


def test_a_list_names_what_is_there_and_a_later_one_what_is_gone() -> None:
    follower = Follower(HTTPRoute)
    assert told(follower.page(page(route("a"), more="next"))) == ["+a"]
    assert not follower.listed
    assert told(follower.page(page(route("b"), version=12))) == ["+b"]
    assert (follower.listed, follower.version) == (True, "12")
    follower.restart()
    # Nothing is given up before the list is at its end.
    assert told(follower.page(page(route("b"), more="next"))) == []
    assert told(follower.page(page(route("c"), version=20))) == ["+c", "-a"]
    assert follower.version == "20"


@pytest.mark.parametrize("count", [0, 1, 50, 51, 100, 120])
@pytest.mark.parametrize("more", ["", "next"])
def test_a_page_in_parts_is_the_page(count: int, more: str) -> None:
    whole = page(*(route(f"r{number}") for number in range(count)), more=more)
    parts = list(whole.parts())
    assert [item for part in parts for item in part.items] == list(whole.items)
    assert max(len(part.items) for part in parts) <= 50
    # Only the last one can be the end of the list.
    assert [bool(part.next) for part in parts] == [*([True] * (len(parts) - 1)), bool(more)]


def test_events_are_the_difference_and_move_the_version() -> None:
    follower = Follower(HTTPRoute)
    follower.page(page(route("a"), version=10))
    assert told(follower.event(event("ADDED", route("b", version=11)))) == ["+b"]
    assert told(follower.event(event("MODIFIED", route("b", version=12, hostnames=["example.com"])))) == ["+b"]
    assert told(follower.event(event("DELETED", route("a", version=13)))) == ["-a"]
    assert told(follower.event(event("DELETED", route("a", version=14)))) == []
    assert follower.version == "14"
    bookmark = {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"resourceVersion": "99"},
    }
    assert follower.event(event("BOOKMARK", bookmark)) == []
    assert follower.version == "99"


def test_what_nobody_reads_changes_nothing() -> None:
    follower = Follower(HTTPRoute, keeps_status=True)
    follower.page(page(route("a")))
    written = {**route("a", version=11), "status": {"parents": []}}
    assert follower.event(event("MODIFIED", written)) == []
    assert follower.told[key("a")].status == b'{"parents":[]}'
    assert follower.told[key("a")].resource_version == "11"


def test_a_version_that_is_forgotten_calls_for_a_list_and_gives_up_nothing() -> None:
    follower = Follower(HTTPRoute)
    follower.page(page(route("a"), version=10))
    gone = {"kind": "Status", "code": GONE, "reason": "Expired", "message": "too old resource version"}
    with pytest.raises(ApiError, match="410 Expired: too old resource version"):
        follower.event(event("ERROR", gone))
    assert follower.version == ""
    changes = follower.page(page(route("a"), route("b"), version=30))
    assert told(changes) == ["+b"]


def test_what_cannot_be_decoded_keeps_its_last_good_version() -> None:
    follower = Follower(HTTPRoute)
    follower.page(page(route("a"), version=10))
    wrong = route("a", version=11, rules=[{"backendRefs": [{"name": "x", "port": "many"}]}])
    assert follower.event(event("MODIFIED", wrong)) == []
    (problem,) = follower.problems.values()
    assert problem == (
        "HTTPRoute shop/a: spec.rules[0].backendRefs[0].port: expected int, got str; the last good version serves on"
    )
    assert told(follower.event(event("MODIFIED", route("a", version=12, hostnames=["example.com"])))) == ["+a"]
    assert follower.problems == {}
    follower.event(event("MODIFIED", wrong))
    assert told(follower.event(event("DELETED", wrong))) == ["-a"]
    assert follower.problems == {}


def test_a_field_that_is_not_read_is_named_once_for_its_kind() -> None:
    follower = Follower(HTTPRoute)
    follower.page(page(route("a", rules=[{"novel": 1}, {"novel": 2}]), route("b", rules=[{"novel": 3}])))
    assert list(follower.notices()) == [
        "HTTPRoute shop/a: spec.rules[].novel: unknown field, ignored here and in others of its kind"
    ]


def test_the_end_of_a_kind_is_the_end_of_its_objects() -> None:
    follower = Follower(HTTPRoute, keeps_status=True)
    follower.page(page(route("a"), route("b")))
    assert sorted(told(follower.forget())) == ["-a", "-b"]
    assert (follower.version, follower.told) == ("", {})


def test_only_objects_of_interest_are_kept() -> None:
    follower = Follower(Service, keep=lambda item: item["metadata"].get("labels", {}).get("keep") == "yes")
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a", "labels": {"keep": "yes"}}}
    assert told(follower.event(event("ADDED", service))) == ["+a"]
    assert told(follower.event(event("MODIFIED", {**service, "metadata": {"name": "a"}}))) == ["-a"]


def test_of_a_bare_kind_metadata_is_told_and_kept() -> None:
    follower = Follower(Secret, bare=True, keeps_status=True)
    metadata = {"name": "a", "namespace": "shop", "uid": "1", "resourceVersion": "7", "labels": {"app": "x"}}
    # As an API server gives metadata in place of the object (meta/v1, PartialObjectMetadata).
    partial = {"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": metadata}
    listed = {"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadataList", "metadata": {"resourceVersion": "7"}}
    (change,) = follower.page(Page.read(orjson.dumps({**listed, "items": [{"metadata": metadata}]})))
    assert follower.event(event("MODIFIED", partial)) == []
    assert isinstance(change, Upsert)
    assert (change.object.key, change.object.metadata.labels) == (Key("", "Secret", "shop", "a"), {"app": "x"})
    assert follower.told[change.object.key].resource_version == "7"
    assert told(follower.event(event("DELETED", partial))) == ["-a"]
    assert (follower.problems, list(follower.notices())) == ({}, [])


def test_of_a_pod_only_what_a_gateway_uses_is_kept() -> None:
    def pod(reason: str, **annotations: str) -> dict[str, Any]:
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "a", "namespace": "shop", "labels": {"app": "x"}, "annotations": annotations},
            "spec": {
                "containers": [
                    {
                        "name": "server",
                        "image": "vllm",
                        "env": [{"name": "SECRET", "value": "hush"}],
                        "ports": [{"containerPort": 8000, "name": "http"}],
                    },
                    {"name": "sidecar", "image": "syncer"},
                ],
            },
            "status": {
                "podIP": "10.0.0.1",
                "podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}],
                "conditions": [
                    {"type": "Ready", "status": "True"},
                    {"type": "ContainersReady", "status": "True", "reason": reason},
                ],
            },
        }

    follower = Follower(Pod)
    (change,) = follower.event(event("ADDED", pod("x", checksum="1")))
    assert isinstance(change, Upsert)
    kept = change.object
    assert isinstance(kept, Pod)
    assert (kept.ready, kept.addresses, kept.metadata.labels) == (True, ("10.0.0.1", "fd00::1"), {"app": "x"})
    assert [(each.name, each.image, each.ports[0].name) for each in kept.spec.containers] == [("server", "", "http")]
    assert "hush" not in repr(kept)
    assert follower.event(event("MODIFIED", pod("y", checksum="2"))) == []


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[str, str, str]]:
    step = st.tuples(
        st.sampled_from(("put", "delete", "list", "break")), st.sampled_from(NAMES), st.sampled_from(("x", "y"))
    )
    return draw(st.lists(step, max_size=30))


@given(histories())
def test_after_any_history_the_world_is_what_the_server_has(history: list[tuple[str, str, str]]) -> None:
    server: dict[str, dict[str, Any]] = {}
    follower, world, missed = Follower(HTTPRoute), World(), False
    world = world.apply(follower.page(page()))
    for number, (step, name, host) in enumerate(history, start=11):
        item = route(name, version=number, hostnames=[f"{host}.example.com"])
        line = b""
        if step == "put":
            line = event("MODIFIED" if name in server else "ADDED", item)
            server[name] = item
        elif step == "delete" and name in server:
            del server[name]
            line = event("DELETED", item)
        elif step == "break":
            # What happens from here on is not heard until the next list.
            missed = True
        elif step == "list":
            follower.restart()
            cut = len(server) // 2
            items = list(server.values())
            if cut:
                world = world.apply(follower.page(page(*items[:cut], more="next")))
            world = world.apply(follower.page(page(*items[cut:], version=number)))
            missed = False
        if line and not missed:
            world = world.apply(follower.event(line))
    if not missed:
        have = {found.key.name: found.spec.hostnames for found in world.all(HTTPRoute).values()}
        assert have == {name: tuple(each["spec"]["hostnames"]) for name, each in server.items()}


def test_a_deletion_says_of_what() -> None:
    follower = Follower(HTTPRoute)
    follower.page(page(route("a")))
    assert follower.event(event("DELETED", route("a", version=11))) == [Delete(key("a"))]
