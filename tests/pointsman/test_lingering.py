import dataclasses

from pointsman.lingering import Lingering
from xds import Sealed

PREFIX = "type.googleapis.com/envoy.config."


def sealed(kind: str, name: str, version: str = "1") -> Sealed:
    return Sealed(f"{PREFIX}{kind}", name, b"", version, "Service default/a")


CLUSTER = sealed("cluster.v3.Cluster", "a")
ROUTES = sealed("route.v3.RouteConfiguration", "r")


def test_a_cluster_that_nothing_refers_to_stays_a_while() -> None:
    lingering = Lingering(seconds=30)
    assert lingering.add([CLUSTER, ROUTES], 0) == (CLUSTER, ROUTES)
    assert lingering.due(0) is None
    assert lingering.add([ROUTES], 10) == (ROUTES, CLUSTER)
    assert lingering.due(15) == 25
    assert lingering.add([ROUTES], 39) == (ROUTES, CLUSTER)
    assert lingering.add([ROUTES], 40) == (ROUTES,)
    assert lingering.due(40) is None


def test_routes_go_at_once() -> None:
    lingering = Lingering()
    lingering.add([ROUTES], 0)
    assert lingering.add([], 1) == ()


def test_a_cluster_that_is_back_does_not_linger() -> None:
    lingering = Lingering(seconds=30)
    lingering.add([CLUSTER], 0)
    lingering.add([], 1)
    changed = dataclasses.replace(CLUSTER, version="2")
    assert lingering.add([changed], 2) == (changed,)
    assert lingering.due(2) is None
