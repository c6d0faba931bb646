"""Who gets copies of requests, of how many, and what a mirror that leads nowhere does to its rule: nothing."""

from envoy_data_plane.envoy.config.route import v3 as route
from manifests import translation_of

from translators import Translation

BASE = """
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: gw}
spec: {gatewayClassName: any, listeners: [{name: http, port: 8080, protocol: HTTP}]}
---
apiVersion: v1
kind: Service
metadata: {name: shadow}
spec: {ports: [{port: 80}]}
---
apiVersion: inference.networking.x-k8s.io/v1alpha2
kind: InferencePool
metadata: {name: main}
spec: {selector: {app: a}, targetPortNumber: 8000}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: route}
spec:
  parentRefs: [{name: gw}]
  rules:
    - backendRefs: [{group: inference.networking.x-k8s.io, kind: InferencePool, name: main}]
      filters: [MIRRORS]
"""
TO_SHADOW = "backendRef: {name: shadow, port: 80}"
TO_MAIN = "backendRef: {group: inference.networking.x-k8s.io, kind: InferencePool, name: main}"


def mirrored(*mirrors: str) -> Translation:
    filters = ", ".join(f"{{type: RequestMirror, requestMirror: {{{mirror}}}}}" for mirror in mirrors)
    return translation_of(BASE.replace("MIRRORS", filters))


def action(translation: Translation) -> route.RouteAction:
    tables = [each.message for each in translation.gateways["default/gw"]]
    table = next(each for each in tables if isinstance(each, route.RouteConfiguration))
    return next(each.route for each in table.virtual_hosts[0].routes if each.route is not None)


def shares(translation: Translation) -> dict[str, int]:
    """Return how many of a million requests each cluster gets a copy of."""
    return {
        policy.cluster: policy.runtime_fraction.default_value.numerator
        if policy.runtime_fraction and policy.runtime_fraction.default_value
        else 1_000_000
        for policy in action(translation).request_mirror_policies
    }


def test_every_request_is_copied_unless_the_mirror_says_otherwise() -> None:
    assert shares(mirrored(TO_SHADOW)) == {"mirror/service/default/shadow/80": 1_000_000}
    assert shares(mirrored(f"{TO_SHADOW}, percent: 100")) == {"mirror/service/default/shadow/80": 1_000_000}
    assert shares(mirrored(f"{TO_SHADOW}, percent: 7")) == {"mirror/service/default/shadow/80": 70_000}


def test_a_fraction_may_be_small_but_is_not_lost() -> None:
    tiny = "fraction: {numerator: 1, denominator: 2000000000}"
    assert shares(mirrored(f"{TO_SHADOW}, {tiny}")) == {"mirror/service/default/shadow/80": 1}


def test_a_mirror_of_nothing_is_none() -> None:
    for nothing in ("percent: 0", "fraction: {numerator: 0}"):
        assert shares(mirrored(f"{TO_SHADOW}, {nothing}")) == {}


def test_there_may_be_several_and_one_may_be_the_pool_itself() -> None:
    both = shares(mirrored(TO_SHADOW, TO_MAIN))
    assert list(both) == ["mirror/service/default/shadow/80", "mirror/xinferencepool/default/main"]


def test_a_mirror_that_leads_nowhere_is_left_out_and_said() -> None:
    translation = mirrored("backendRef: {name: missing, port: 80}", TO_SHADOW)
    assert list(shares(translation)) == ["mirror/service/default/shadow/80"]
    assert action(translation).cluster == "xinferencepool/default/main"
    assert [line for line in translation.problems if "requestMirror.backendRef: Service default/missing" in line]
