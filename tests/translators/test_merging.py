"""Gateways of a class that share Envoys."""

from pathlib import Path
from typing import Any

import yaml
from certificates import pair
from envoy_check import Batch
from manifests import world_of

from pointsman.provisioning import bootstrap_template
from resources import decode
from translators import Memo, Settings, Translation, translate
from translators.infrastructure import Infrastructure, Made, accounts, provision
from translators.settings import Placement

PART = "gatewayclass:ours"
CLASS = """
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: ours}
spec:
  controllerName: example.com/ours
  parametersRef: {group: gateway.envoyproxy.io, kind: EnvoyProxy, name: proxy, namespace: system}
---
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: EnvoyProxy
metadata: {name: proxy, namespace: system}
spec: {mergeGateways: true, %s}
"""
INFRASTRUCTURE = Infrastructure(
    xds="control.system:18000", bootstrap=bootstrap_template(), envoy_image="envoy:v1", pointsman_image="pointsman:v1"
)
SERVICE = """
---
apiVersion: v1
kind: Service
metadata: {name: server, namespace: shop}
spec: {ports: [{port: 80}]}
"""


def gateway(name: str, year: int, *listeners: str, more: str = "") -> str:
    return f"""
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: {name}, namespace: shop, creationTimestamp: "{year}-01-01T00:00:00Z"}}
spec:
  gatewayClassName: ours
  listeners: [{", ".join(listeners)}]
{more}
"""


def http(name: str, port: int = 80, hostname: str = "") -> str:
    host = f", hostname: '{hostname}'" if hostname else ""
    return f"{{name: {name}, port: {port}, protocol: HTTP{host}}}"


def https(name: str, hostname: str) -> str:
    tls = "tls: {certificateRefs: [{name: certificate}]}"
    return f"{{name: {name}, port: 443, protocol: HTTPS, hostname: '{hostname}', {tls}}}"


def route(parent: str, *hostnames: str) -> str:
    return f"""
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: of-{parent}, namespace: shop}}
spec:
  parentRefs: [{{name: {parent}}}]
  hostnames: [{", ".join(hostnames)}]
  rules: [{{backendRefs: [{{name: server, port: 80}}]}}]
"""


def translated(*texts: str, proxy: str = "") -> Translation:
    places = {(f"shop/{name}", port): Placement("0.0.0.0", port + 10000) for name in "abc" for port in (80, 443)}  # noqa: S104 - nothing is bound
    settings = Settings(
        controllers=frozenset({"example.com/ours"}),
        picker_services=True,
        bootstrap=bootstrap_template(),
        placements=places,
    )
    return translate(world_of(CLASS % proxy, *texts), settings, Memo())


def made(found: Translation) -> dict[str, Made]:
    objects = provision(*found.needs, INFRASTRUCTURE, {each.owner.key: "uid" for each in found.needs[0]}).objects
    return {each.key.kind: each for each in objects}


def hosts(found: Translation) -> dict[str, dict[str, list[str]]]:
    """The names of the routes by table and hostname."""
    resources = found.gateways[PART]
    tables: list[Any] = [each.message for each in resources if each.type_url.endswith("RouteConfiguration")]
    return {
        table.name: {host.domains[0]: [each.name for each in host.routes] for host in table.virtual_hosts}
        for table in tables
    }


def conditions(found: Translation, name: str, listener: str) -> dict[str, tuple[str, str]]:
    bodies: list[Any] = [each.body for each in found.statuses if (each.key.kind, each.key.name) == ("Gateway", name)]
    (state,) = [each for each in bodies[0]["listeners"] if each["name"] == listener]
    return {each["type"]: (each["status"], each["reason"]) for each in state["conditions"]}


def test_they_have_one_set_of_envoys_which_is_their_classs() -> None:
    found = translated(gateway("a", 2025, http("x")), gateway("b", 2026, http("y", 8080), http("z", 80, "b.test")))
    objects = made(found)
    assert set(objects) == {"ServiceAccount", "ConfigMap", "Deployment", "Service"}
    for each in objects.values():
        assert (each.key.namespace, each.key.name) == ("system", "ours-gateways")
        metadata = each.body["metadata"]
        assert metadata["labels"]["pointsman.dev/gateway-class"] == "ours"
        assert [owner["kind"] for owner in metadata["ownerReferences"]] == ["GatewayClass"]
    ports = [(each["port"], each["targetPort"]) for each in objects["Service"].body["spec"]["ports"]]
    assert ports == [(80, 10080), (8080, 8080)]
    assert f"cluster: {PART}" in objects["ConfigMap"].body["data"]["envoy.yaml"]
    assert set(found.gateways) == {PART}
    assert found.parts == {"shop/a": PART, "shop/b": PART}
    (account,) = accounts(*found.needs, "").values()
    assert (account.namespace, account.name) == ("system", "ours-gateways")


def test_a_request_belongs_to_the_most_specific_listener_whichever_gateway_has_it(tmp_path: Path) -> None:
    found = translated(
        SERVICE,
        gateway("a", 2025, http("x", 80, "*.test")),
        gateway("b", 2026, http("y", 80, "b.test"), http("z")),
        route("a", "a.test", "b.test"),
        route("b", "b.test", "other.example"),
    )
    tables = hosts(found)
    assert set(tables) == {f"{PART}/80"}
    table = tables[f"{PART}/80"]
    assert {name: len(routes) for name, routes in table.items() if routes} == {
        "a.test": 1,
        "b.test": 1,
        "other.example": 1,
    }
    assert "of-a" in table["a.test"][0]
    assert "of-b" in table["b.test"][0]
    assert {"*.test", "*"} <= set(table)
    assert Batch(((PART, found.gateways[PART]),)).complaint(tmp_path) == ""


def test_connections_are_told_apart_by_the_hostnames_of_all(tmp_path: Path) -> None:
    found = translated(
        SERVICE,
        "---\n" + yaml.safe_dump(pair("*.test").secret("certificate", "shop")),
        gateway("a", 2025, https("x", "*.test")),
        gateway("b", 2026, https("y", "b.test")),
        route("a", "a.test", "b.test"),
        route("b", "b.test"),
    )
    tables = hosts(found)
    assert set(tables) == {"shop/a/443/x", "shop/b/443/y"}
    assert "of-a" in tables["shop/a/443/x"]["a.test"][0]
    # On the connection of the other Gateway's listener they are misdirected.
    assert all("of-" not in name for name in tables["shop/a/443/x"]["b.test"])
    assert "of-b" in tables["shop/b/443/y"]["b.test"][0]
    assert Batch(((PART, found.gateways[PART]),)).complaint(tmp_path) == ""


def test_of_two_that_want_the_same_the_older_one_has_it() -> None:
    found = translated(
        gateway("b", 2025, http("x", 80, "a.test"), http("y", 81)),
        gateway(
            "a",
            2026,
            http("x", 80, "a.test"),
            "{name: y, port: 81, protocol: HTTPS, tls: {certificateRefs: [{name: c}]}}",
        ),
    )
    good = {"Accepted": ("True", "Accepted"), "Conflicted": ("False", "NoConflicts")}
    for name in ("x", "y"):
        assert good.items() <= conditions(found, "b", name).items()
    hostname, protocol = (conditions(found, "a", name) for name in ("x", "y"))
    assert (hostname["Accepted"], hostname["Conflicted"]) == (
        ("False", "HostnameConflict"),
        ("True", "HostnameConflict"),
    )
    assert (protocol["Accepted"], protocol["Conflicted"]) == (
        ("False", "ProtocolConflict"),
        ("True", "ProtocolConflict"),
    )


def test_what_is_wrong_with_their_parameters_takes_nothing_from_them() -> None:
    gateways = (gateway("a", 2025, http("x")), gateway("b", 2026, http("y", 8080)))
    right, wrong = translated(*gateways), translated(*gateways, proxy="bootstrap: {value: 'admin: {}'}")
    names = [[(each.type_url, each.name) for each in found.gateways[PART]] for found in (right, wrong)]
    assert names[0] == names[1]
    assert conditions(wrong, "a", "x")["Accepted"] == ("False", "InvalidParameters")
    found = provision(*wrong.needs, INFRASTRUCTURE, {})
    assert found.objects == ()
    before = [decode(each.body).object for each in provision(*right.needs, INFRASTRUCTURE, {}).objects]
    assert before
    assert all(each is not None and found.keeps(each) for each in before)


def test_a_gateway_that_shares_envoys_has_no_parameters_of_its_own() -> None:
    reference = "  infrastructure: {parametersRef: {group: gateway.envoyproxy.io, kind: EnvoyProxy, name: own}}"
    own = "---\napiVersion: gateway.envoyproxy.io/v1alpha1\nkind: EnvoyProxy\nmetadata: {name: own, namespace: shop}\n"
    found = translated(own, gateway("a", 2025, http("x"), more=reference))
    assert conditions(found, "a", "x")["Accepted"] == ("False", "InvalidParameters")
