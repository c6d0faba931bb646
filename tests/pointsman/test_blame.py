"""Which object people are told of when Envoy refuses something."""

from collections.abc import Mapping

from manifests import world_of

from pointsman.blame import origin_of
from translators import Memo, Settings, translate
from xds import ENVOY, Nack, Peer, Sealed, seal
from xds.subscription import Rejection

ROUTES = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"
LISTENER = "type.googleapis.com/envoy.config.listener.v3.Listener"
PEER = Peer("node", "default/front", ENVOY, "envoy")

GATEWAY = """
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: front}
spec: {gatewayClassName: any, listeners: [{name: http, protocol: HTTP, port: 8080}]}
"""
ROUTE = """
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: %s}
spec:
  parentRefs: [{name: front}]
  rules: [{matches: [{path: {value: %s}}]}]
"""


def served(memo: Memo, routes: Mapping[str, str], kind: str = ROUTES) -> Sealed:
    world = world_of(GATEWAY + "".join(ROUTE % each for each in routes.items()))
    found = translate(world, Settings(), memo).gateways["default/front"]
    return next(seal(kind, each.name, each.message, each.origin) for each in found if each.type_url == kind)


def blamed(refused: Sealed, held: Sealed | None) -> str:
    return origin_of(Nack.of(PEER, Rejection(refused, "no", held)))


def test_the_routes_that_are_new_are_named_before_the_gateway() -> None:
    memo = Memo()
    five = {name: f"/{name}" for name in "abcde"}
    held = served(memo, five)
    assert blamed(served(memo, {**five, "b": "/other"}), held) == "HTTPRoute default/b on Gateway default/front"
    two = served(memo, {**five, "f": "/f", "g": "/g"})
    assert blamed(two, held) == "one of HTTPRoute default/f, HTTPRoute default/g on Gateway default/front"


def test_nobody_is_named_where_it_may_be_anybody() -> None:
    memo = Memo()
    many = served(memo, {name: f"/{name}" for name in "abcde"})
    assert blamed(many, None) == "Gateway default/front"
    assert blamed(many, many) == "Gateway default/front"
    assert blamed(served(memo, {"a": "/a"}, LISTENER), None) == "Gateway default/front"
    assert origin_of(Nack(PEER, ROUTES, "name", "1", "Gateway a/b", "no")) == "Gateway a/b"
