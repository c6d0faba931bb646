import pytest
from envoy_data_plane.envoy.config.route.v3 import RouteConfiguration, VirtualHost

from xds.snapshot import Sealed, Snapshot, seal
from xds.type_urls import CLUSTER, ENDPOINTS, ROUTES


def sealed(type_url: str, name: str, pulls: tuple[str, str] | None = None, origin: str = "Service default/a") -> Sealed:
    return Sealed(type_url, name, b"", "1", origin, pulls)


def test_the_version_is_the_content() -> None:
    one, same, other = (
        seal(ROUTES, "routes", RouteConfiguration(virtual_hosts=[VirtualHost(name=name)]), "HTTPRoute default/a")
        for name in ("a", "a", "b")
    )
    assert one == same
    assert one.version != other.version
    assert RouteConfiguration.parse(other.body).virtual_hosts[0].name == "b"


def test_a_snapshot_is_by_type_and_name() -> None:
    cluster, endpoints = sealed(CLUSTER, "a"), sealed(ENDPOINTS, "a")
    snapshot = Snapshot.of([cluster, endpoints])
    assert snapshot.get(CLUSTER, "a") is cluster
    assert snapshot.get(ENDPOINTS, "a") is endpoints
    assert snapshot.get(ROUTES, "a") is None
    assert snapshot.with_table(ENDPOINTS, {}).get(ENDPOINTS, "a") is None
    assert snapshot.with_table(ENDPOINTS, {}).get(CLUSTER, "a") is cluster


def test_two_resources_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match=r"Cluster a comes from Service default/a and from Service default/b"):
        Snapshot.of([sealed(CLUSTER, "a"), sealed(CLUSTER, "a", origin="Service default/b")])


def test_a_missing_reference_is_named() -> None:
    cluster = sealed(CLUSTER, "a", pulls=(ENDPOINTS, "a"))
    assert Snapshot.of([cluster]).dangling() == ("a of Service default/a pulls a, which is missing",)
    assert Snapshot.of([cluster, sealed(ENDPOINTS, "a")]).dangling() == ()
