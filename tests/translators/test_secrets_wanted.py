"""Which Secrets a controller has to read: those that listeners of ours name, and may."""

import pytest
from envoy_data_plane.envoy.extensions.transport_sockets.tls.v3 import Secret as EnvoySecret
from manifests import world_of, world_with

from resources import ObjectMeta, UnreadableSecret, Upsert
from translators import SECRETS_WANTED_BY, Memo, Settings, secrets_wanted, translate

OURS = frozenset({"example.com/gateway"})

CLASSES = """
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: ours}
spec: {controllerName: example.com/gateway}
---
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: theirs}
spec: {controllerName: example.com/other}
"""
GATEWAY = """
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: gw, namespace: shop}
spec:
  gatewayClassName: CLASS
  listeners:
    - {name: own, port: 443, protocol: HTTPS, hostname: a.example.com, tls: {certificateRefs: [{name: a}, {name: b}]}}
    - name: abroad
      port: 443
      protocol: HTTPS
      tls:
        certificateRefs:
          - {name: c, namespace: vault}
          - {name: d, namespace: vault}
          - {name: a, namespace: shop}
    - name: strange
      port: 8443
      protocol: HTTPS
      tls: {certificateRefs: [{name: e, kind: ConfigMap}, {name: f, group: example.com}, {name: "x,type=Opaque"}]}
    - {name: through, port: 9443, protocol: TLS, tls: {mode: Passthrough, certificateRefs: [{name: g}]}}
    - {name: plain, port: 80, protocol: HTTP}
"""
GRANT = """
apiVersion: gateway.networking.k8s.io/v1
kind: ReferenceGrant
metadata: {name: grant, namespace: NAMESPACE}
spec:
  from: [{group: gateway.networking.k8s.io, kind: KIND, namespace: shop}]
  to: [{group: "", kind: SecretNAME}]
"""
OWN = {("shop", "a"), ("shop", "b")}


def grant(namespace: str = "vault", kind: str = "Gateway", name: str = ", name: c") -> str:
    return GRANT.replace("NAMESPACE", namespace).replace("KIND", kind).replace("NAME", name)


@pytest.mark.parametrize(
    ("of", "grants", "expected"),
    [
        ("ours", [], OWN),
        ("ours", [grant()], {*OWN, ("vault", "c")}),
        ("ours", [grant(name="")], {*OWN, ("vault", "c"), ("vault", "d")}),
        ("ours", [grant(kind="HTTPRoute")], OWN),
        ("ours", [grant(namespace="elsewhere")], OWN),
        ("theirs", [grant()], set()),
        ("nobodys", [grant()], set()),
    ],
)
def test_they_are_those_that_are_named_and_permitted(
    of: str, grants: list[str], expected: set[tuple[str, str]]
) -> None:
    world = world_of(CLASSES, GATEWAY.replace("CLASS", of), *grants)
    assert secrets_wanted(world, OURS) == expected
    # Nothing else decides it.
    few = world_with(item for kind in SECRETS_WANTED_BY for item in world.all(kind).values())
    assert secrets_wanted(few, OURS) == expected


def test_one_that_cannot_be_read_is_a_problem_of_its_listener_alone() -> None:
    stand_in = UnreadableSecret(metadata=ObjectMeta(name="a", namespace="shop"), reason="it is forbidden")
    world = world_of(CLASSES, GATEWAY.replace("CLASS", "ours")).apply([Upsert(stand_in)])
    found = translate(world, Settings(controllers=OURS), Memo())
    expected = "spec.listeners[0].tls.certificateRefs[0]: Secret shop/a cannot be read: it is forbidden"
    assert f"Gateway shop/gw: {expected}" in found.problems
    (status,) = [each.body for each in found.statuses if each.key.kind == "Gateway"]
    (own, *others) = status["listeners"]  # type: ignore[misc, has-type]
    (resolved,) = [each for each in own["conditions"] if each["type"] == "ResolvedRefs"]  # type: ignore[has-type]
    assert (resolved["status"], resolved["reason"]) == ("False", "InvalidCertificateRef")
    assert expected in resolved["message"]
    assert all("shop/a cannot" not in str(each) for each in others[2:])  # type: ignore[has-type]
    assert not [each for each in found.gateways["shop/gw"] if isinstance(each.message, EnvoySecret)]
