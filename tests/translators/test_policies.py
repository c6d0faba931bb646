import pytest
from manifests import world_of

from resources import BackendTrafficPolicy, Gateway, HTTPRoute
from translators.resolve.index import Index
from translators.resolve.policies import backend_settings, client_settings, states

OBJECTS = """
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: gw}
spec:
  gatewayClassName: any
  listeners: [{name: one, port: 1, protocol: HTTP}, {name: two, port: 2, protocol: HTTP}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: r}
spec: {parentRefs: [{name: gw}], rules: [{name: quick}, {name: slow}]}
"""


def policy(name: str, target: str, rest: str = "", kind: str = "BackendTrafficPolicy", created: str = "") -> str:
    stamp = f", creationTimestamp: '{created}'" if created else ""
    return (
        f"{{apiVersion: gateway.envoyproxy.io/v1alpha1, kind: {kind}, metadata: {{name: {name}{stamp}}}, "
        f"spec: {{targetRefs: [{{{target}}}]{', ' if rest else ''}{rest}}}}}"
    )


def timed(name: str, target: str, timeout: str, created: str = "") -> str:
    return policy(name, target, f"timeout: {{http: {{requestTimeout: {timeout}}}}}", created=created)


def index_of(*policies: str) -> tuple[Index, Gateway, HTTPRoute]:
    world = world_of(OBJECTS, *policies)
    return Index.of(world), world.all(Gateway)["default", "gw"], world.all(HTTPRoute)["default", "r"]


GATEWAY = timed("a", "kind: Gateway, name: gw", "1ms")
LISTENER = timed("b", "kind: Gateway, name: gw, sectionName: two", "2ms")
ROUTE = timed("c", "kind: HTTPRoute, name: r", "3ms")
RULE = timed("d", "kind: HTTPRoute, name: r, sectionName: quick", "4ms")


@pytest.mark.parametrize(
    ("policies", "listener", "rule", "timeout"),
    [
        ((), 0, None, None),
        ((GATEWAY,), 0, None, 1),
        ((GATEWAY, LISTENER), 0, None, 1),
        ((GATEWAY, LISTENER), 1, None, 2),
        ((GATEWAY, LISTENER, ROUTE), 1, "slow", 3),
        ((GATEWAY, LISTENER, ROUTE, RULE), 1, "slow", 3),
        ((GATEWAY, LISTENER, ROUTE, RULE), 1, "quick", 4),
        ((RULE,), 1, None, None),
    ],
)
def test_the_most_specific_policy_governs(
    policies: tuple[str, ...], listener: int, rule: str | None, timeout: int | None
) -> None:
    index, gateway, route = index_of(*policies)
    found = backend_settings(index, gateway, gateway.spec.listeners[listener], route, rule)
    assert found.request_timeout == timeout


def test_policies_do_not_merge() -> None:
    index, gateway, route = index_of(GATEWAY, policy("empty", "kind: HTTPRoute, name: r"))
    assert backend_settings(index, gateway, gateway.spec.listeners[0], route, None).request_timeout is None


def test_the_oldest_of_two_policies_governs_and_the_other_says_so() -> None:
    young = timed("a", "kind: Gateway, name: gw", "1ms", created="2025-02-01T00:00:00Z")
    old = timed("z", "kind: Gateway, name: gw", "2ms", created="2025-01-01T00:00:00Z")
    index, gateway, route = index_of(young, old)
    assert backend_settings(index, gateway, gateway.spec.listeners[0], route, None).request_timeout == 2
    reasons = {each.policy.key.name: [p and p.reason for _, p in each.targets] for each in states(index)}
    assert reasons == {"a": ["Conflicted"], "z": [None]}


def test_a_field_that_is_not_built_refuses_what_the_policy_governs() -> None:
    index, gateway, route = index_of(policy("a", "kind: HTTPRoute, name: r", "circuitBreaker: {}, retry: {}"))
    refusal = backend_settings(index, gateway, gateway.spec.listeners[0], route, None).refusal
    assert "spec.circuitBreaker" in refusal
    assert "spec.retry" in refusal
    assert "BackendTrafficPolicy default/a" in refusal


@pytest.mark.parametrize(("limit", "expected"), [("20Mi", 20 << 20), ("32k", 32_000), ("0", 0), ("5Gi", (1 << 32) - 1)])
def test_a_buffer_limit_is_in_bytes_and_fits_envoys_32_bits(limit: str, expected: int) -> None:
    text = policy("a", "kind: Gateway, name: gw", f"connection: {{bufferLimit: {limit}}}", "ClientTrafficPolicy")
    index, gateway, _ = index_of(text)
    assert client_settings(index, gateway, gateway.spec.listeners[0]).buffer_limit == expected


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("kind: Gateway, name: gw", None),
        ("kind: Gateway, name: gw, sectionName: three", "TargetNotFound"),
        ("kind: HTTPRoute, name: r, sectionName: quick", None),
        ("kind: HTTPRoute, name: missing", "TargetNotFound"),
        ("kind: Service, name: gw", "Invalid"),
    ],
)
def test_a_policy_says_what_is_wrong_with_its_target(target: str, reason: str | None) -> None:
    index, _, _ = index_of(policy("a", target))
    (state,) = [each for each in states(index) if isinstance(each.policy, BackendTrafficPolicy)]
    assert [problem and problem.reason for _, problem in state.targets] == [reason]
