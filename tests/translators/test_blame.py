"""Which HTTPRoutes changed a table of routes."""

from manifests import world_of

from resources import World
from translators import Memo, Settings, changed_routes, translate

ROUTES = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"
CLUSTER = "type.googleapis.com/envoy.config.cluster.v3.Cluster"

GATEWAY = """
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: front}
spec: {gatewayClassName: any, listeners: [{name: http, protocol: HTTP, port: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: server}
spec: {ports: [{port: 80}]}
---
"""


def routes(**paths: str) -> World:
    template = """
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: %s}
spec:
  parentRefs: [{name: front}]
  rules: [{matches: [{path: {value: %s}}], backendRefs: [{name: server, port: 80}]}]
"""
    return world_of(GATEWAY + "---".join(template % each for each in paths.items()))


def test_the_routes_that_changed_a_table_are_told() -> None:
    memo = Memo()

    def table(world: World, kind: str = ROUTES) -> object:
        resources = translate(world, Settings(), memo).gateways["default/front"]
        return next(each.message for each in resources if each.type_url == kind)

    first = table(routes(a="/a", b="/b", c="/c"))
    assert changed_routes(None, first) == tuple(f"HTTPRoute default/{name}" for name in "abc")
    same = table(routes(a="/a", b="/b", c="/c"))
    assert changed_routes(first, same) == ()
    assert changed_routes(first, table(routes(a="/a", b="/other", c="/c"))) == ("HTTPRoute default/b",)
    assert changed_routes(first, table(routes(a="/a", c="/c", d="/d"))) == ("HTTPRoute default/d",)
    # One that is gone has no part in what is refused, nor has a cluster any that would be told.
    assert changed_routes(first, table(routes(a="/a"))) == ()
    assert changed_routes(None, table(routes(a="/a"), CLUSTER)) == ()
