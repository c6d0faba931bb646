"""Where listeners are in a cluster, and who is sent what."""

from typing import cast

import yaml

from pointsman.sites import Cluster
from resources import Gateway, Upsert, World, decode
from xds import Sealed, Snapshot

CLUSTER = "type.googleapis.com/envoy.config.cluster.v3.Cluster"


def gateway(name: str, *ports: int) -> Upsert:
    listeners = [{"name": f"l{port}", "port": port, "protocol": "HTTP"} for port in ports]
    text = yaml.safe_dump(
        {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "Gateway",
            "metadata": {"name": name},
            "spec": {"gatewayClassName": "c", "listeners": listeners},
        }
    )
    return Upsert(cast("Gateway", decode(yaml.safe_load(text)).object))


def sealed(name: str, version: str = "1") -> Sealed:
    return Sealed(CLUSTER, name, b"", version, "Service default/a")


class Stage:
    def __init__(self) -> None:
        self.said: list[tuple[str, list[str]]] = []
        self.time = 0.0
        self.later: list[tuple[float, object]] = []
        self.site = Cluster(
            self._publish,
            lambda part: self.said.append((part, ["withdrawn"])),
            clock=lambda: self.time,
            later=lambda seconds, call: self.later.append((seconds, call)),
        )

    def _publish(self, part: str, snapshot: Snapshot) -> None:
        self.said.append((part, sorted(snapshot.table(CLUSTER))))


def test_ports_that_need_privileges_are_moved_up_and_gateways_do_not_meet() -> None:
    world = World().apply([gateway("a", 80, 443, 8080, 10080), gateway("b", 80)])
    places = Cluster(lambda *_: None, lambda _: None).place(world)
    found = {key: place.port for key, place in places.placements.items()}
    assert found == {
        ("default/a", 80): 10081,
        ("default/a", 443): 10443,
        ("default/a", 8080): 8080,
        ("default/a", 10080): 10080,
        ("default/b", 80): 10080,
    }
    assert places.placements["default/a", 443].moved_from == 443
    assert places.clashes == ()


def test_each_part_is_sent_what_is_its_own_envoys_first() -> None:
    stage = Stage()
    stage.site.publish({"one": [sealed("a")], "two": [sealed("b")]}, {"picker": [sealed("p")]})
    assert stage.said == [("one", ["a"]), ("two", ["b"]), ("picker", ["p"])]


def test_only_parts_that_are_different_are_published() -> None:
    stage = Stage()
    kept = sealed("a")
    stage.site.publish({"one": [kept], "two": [sealed("b")]}, {})
    stage.said.clear()
    stage.site.publish({"one": [kept], "two": [sealed("b", "2")]}, {})
    assert stage.said == [("two", ["b"])]


def test_a_gateway_that_is_gone_is_withdrawn() -> None:
    stage = Stage()
    stage.site.publish({"one": [sealed("a")]}, {})
    stage.said.clear()
    stage.site.publish({}, {})
    assert stage.said == [("one", ["withdrawn"])]


def test_a_backend_that_is_no_longer_referred_to_lingers() -> None:
    stage = Stage()
    kept = sealed("a")
    stage.site.publish({"one": [kept, sealed("b")]}, {})
    stage.site.publish({"one": [kept]}, {})
    assert stage.said[-1] == ("one", ["a", "b"])
    ((seconds, again),) = stage.later
    stage.time += seconds
    assert callable(again)
    again()
    assert stage.said[-1] == ("one", ["a"])


def test_the_version_of_a_part_is_that_of_its_meaning_alone() -> None:
    one, other = Stage().site, Stage().site
    one.publish({"default/a": [sealed("gone"), sealed("x")]}, {})
    first = one.versions["default/a"]
    # What lingers here was never there.
    one.publish({"default/a": [sealed("x"), sealed("y")]}, {})
    other.publish({"default/a": [sealed("y"), sealed("x")], "default/b": [sealed("x")]}, {})
    assert one.versions["default/a"] == other.versions["default/a"] != first
    assert other.versions["default/a"] != other.versions["default/b"]
    one.publish({"default/a": [sealed("x"), sealed("y", "2")]}, {})
    assert one.versions["default/a"] != other.versions["default/a"]
    one.publish({}, {})
    assert dict(one.versions) == {}


class Certifier:
    """Says for whom it was asked, and when."""

    def __init__(self) -> None:
        self.version = "1"

    def of_envoy(self, gateway: str) -> tuple[Sealed, ...]:
        return (Sealed(CLUSTER, f"certificate of {gateway}", b"", self.version, "Secret a/b"),)

    of_picker = of_envoy


def test_certificates_go_to_pickers_and_to_the_envoys_that_meet_them() -> None:
    stage = Stage()
    stage.site.certifier = certifier = Certifier()
    gateways = {"one": [sealed("picker/a"), sealed("a")], "two": [sealed("b")]}
    stage.site.publish(gateways, {"picker/a": [sealed("p")]})
    expected = [
        ("one", ["a", "certificate of one", "picker/a"]),
        ("two", ["b"]),
        ("picker/a", ["certificate of picker/a", "p"]),
    ]
    assert stage.said == expected
    # They are renewed without anything else being different.
    certifier.version = "2"
    stage.site.certify()
    assert stage.said[3:] == expected
