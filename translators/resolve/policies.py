"""Which policy governs what.

Policies do not merge: the most specific one wins as a whole (a route's own, then that of the Gateway's listener, then
that of the Gateway), and of two on one target the oldest (Envoy Gateway, policy attachment).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from resources import BackendTrafficPolicy, ClientTrafficPolicy, Gateway, HTTPRoute, Listener
from translators import ir
from translators.resolve.index import Index
from translators.resolve.parents import parent_of

NOT_BUILT = "is known but not built yet"
_UINT32_MAX = (1 << 32) - 1


@dataclass(frozen=True, slots=True)
class BackendSettings:
    """What a BackendTrafficPolicy means. request_timeout: milliseconds. refusal: why its routes answer 500, or ""."""

    request_timeout: int | None = None
    refusal: str = ""


@dataclass(frozen=True, slots=True)
class ClientSettings:
    """What a ClientTrafficPolicy means. buffer_limit: bytes. refusal: why its listeners' routes answer 500, or ""."""

    buffer_limit: int | None = None
    refusal: str = ""


def refusal_of(policy: BackendTrafficPolicy | ClientTrafficPolicy) -> str:
    """Say which fields of a policy are known but not built, for which its routes answer 500; "" when there are none."""
    if not policy.unbuilt:
        return ""
    verb = "is" if len(policy.unbuilt) == 1 else "are"
    return f"{policy.key}: {', '.join(policy.unbuilt)} {verb} known but not built yet"


def backend_settings(
    index: Index, gateway: Gateway, listener: Listener, route: HTTPRoute, rule: str | None
) -> BackendSettings:
    """Return what governs the requests of a route's rule on a listener."""
    table = index.backend_policies
    own, parent = route.key, gateway.key
    for target in (
        ("HTTPRoute", own.namespace, own.name, rule) if rule else None,
        ("HTTPRoute", own.namespace, own.name, None),
        ("Gateway", parent.namespace, parent.name, listener.name),
        ("Gateway", parent.namespace, parent.name, None),
    ):
        if target and (policies := table.get(target)):
            policy = policies[0]
            return BackendSettings(policy.spec.timeout.http.request_timeout, refusal_of(policy))
    return BackendSettings()


def client_settings(index: Index, gateway: Gateway, listener: Listener) -> ClientSettings:
    """Return what governs a listener's connections."""
    parent = gateway.key
    for section in (listener.name, None):
        if policies := index.client_policies.get(("Gateway", parent.namespace, parent.name, section)):
            policy = policies[0]
            limit = policy.spec.connection.buffer_limit
            # Envoy counts in 32 bits, as in Listener.per_connection_buffer_limit_bytes.
            return ClientSettings(None if limit is None else int(min(limit, _UINT32_MAX)), refusal_of(policy))
    return ClientSettings()


@dataclass(frozen=True, slots=True)
class PolicyState:
    """How a policy stands to each of its targets: the problem, or None where it governs.

    of_others: the numbers of the targets that belong to other controllers, who say how the policy stands to them.
    """

    policy: BackendTrafficPolicy | ClientTrafficPolicy
    targets: tuple[tuple[str, ir.Problem | None], ...] = field(default=())
    of_others: frozenset[int] = frozenset()

    @property
    def problems(self) -> tuple[ir.Problem, ...]:
        """The problems with the targets that are ours."""
        return tuple(
            problem for number, (_, problem) in enumerate(self.targets) if problem and number not in self.of_others
        )


def states(index: Index) -> tuple[PolicyState, ...]:
    """Return the state of every policy."""
    world = index.world
    result = []
    everything: list[tuple[BackendTrafficPolicy | ClientTrafficPolicy, bool]] = [
        *((policy, False) for policy in world.all(ClientTrafficPolicy).values()),
        *((policy, True) for policy in world.all(BackendTrafficPolicy).values()),
    ]
    for policy, takes_routes in everything:
        targets = []
        for number, target in enumerate(policy.spec.targets):
            single = policy.spec.target_ref is not None
            where = "spec.targetRef" if single else f"spec.targetRefs[{number}]"
            namespace = policy.key.namespace
            table = index.backend_policies if takes_routes else index.client_policies
            holders = table.get((target.kind, namespace, target.name, target.section_name), ())
            problem: ir.Problem | None = None
            if target.kind not in ({"Gateway", "HTTPRoute"} if takes_routes else {"Gateway"}):
                problem = ir.Problem("Accepted", "Invalid", f"kind {target.kind} cannot be a target", where)
            elif not _exists(index, target.kind, namespace, target.name, target.section_name):
                section = f" section {target.section_name}" if target.section_name else ""
                text = f"{target.kind} {namespace}/{target.name}{section} does not exist"
                problem = ir.Problem("Accepted", "TargetNotFound", text, where)
            elif holders and holders[0] is not policy:
                problem = ir.Problem(
                    "Accepted", "Conflicted", f"{holders[0].key} has the same target and is older", where
                )
            elif policy.unbuilt:
                problem = ir.Problem("Accepted", "Invalid", NOT_BUILT, ", ".join(policy.unbuilt))
            targets.append((f"{target.kind}/{target.name}", problem))
        others = frozenset(
            number
            for number, target in enumerate(policy.spec.targets)
            if _belongs_to_others(index, target.kind, (policy.key.namespace, target.name))
        )
        result.append(PolicyState(policy, tuple(targets), others))
    return tuple(result)


def _belongs_to_others(index: Index, kind: str, name: tuple[str, str]) -> bool:
    """Whether a target is a Gateway of another controller, or a route on such Gateways alone."""
    if not index.others or kind == "Gateway":
        return name in index.others
    route = index.world.get(HTTPRoute, *name) if kind == "HTTPRoute" else None
    parents = [] if route is None else [parent for ref in route.spec.parent_refs if (parent := parent_of(route, ref))]
    there = [each for each in parents if index.world.get(Gateway, *each) is not None]
    return bool(there) and all(each in index.others for each in there)


def _exists(index: Index, kind: str, namespace: str, name: str, section: str | None) -> bool:
    if kind == "Gateway":
        gateway = index.world.get(Gateway, namespace, name)
        return gateway is not None and (section is None or any(each.name == section for each in gateway.spec.listeners))
    route = index.world.get(HTTPRoute, namespace, name)
    return route is not None and (section is None or any(rule.name == section for rule in route.spec.rules))
