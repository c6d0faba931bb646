"""Listeners: what is wrong with them, and which routes they take."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping

from resources import GATEWAY_GROUP, Gateway, HTTPRoute, Listener, Namespace
from translators import ir
from translators.resolve.certificates import RESOLVED, Certificates, certificates_of, has_certificates
from translators.resolve.index import Index
from translators.resolve.meaning import ListenerState
from translators.resolve.policies import NOT_BUILT
from translators.settings import Settings

ACCEPTED = "Accepted"
PROTOCOLS = ("HTTP", "HTTPS")
ROUTE_KINDS = frozenset({(GATEWAY_GROUP, "HTTPRoute")})
"""The routes that listeners of these protocols take, by group and kind."""


def states_of(
    index: Index, gateway: Gateway, refusal: ir.Problem | None, settings: Settings
) -> dict[str, ListenerState]:
    """Return how each listener of a Gateway stands, by name; `refusal` is the problem of the Gateway as a whole."""
    name = f"{gateway.key.namespace}/{gateway.key.name}"
    on_port: dict[int, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for listener in gateway.spec.listeners:
        if listener.protocol in PROTOCOLS:
            on_port[listener.port][listener.protocol].append(listener.name)
    result: dict[str, ListenerState] = {}
    for number, listener in enumerate(gateway.spec.listeners):
        where = f"spec.listeners[{number}]"
        problems = [refusal] if refusal else []
        problems += _refusals(gateway, listener, where, on_port[listener.port])
        if holder := settings.unplaced.get((name, listener.port)):
            text = f"port {listener.port} on this address belongs to Gateway {holder}"
            problems.append(ir.Problem(ACCEPTED, "PortUnavailable", text, f"{where}.port"))
        certificates = Certificates()
        if has_certificates(listener):
            certificates = certificates_of(index, gateway, listener, where)
            problems += certificates.problems
        problems += _kind_problems(listener, where)
        result[listener.name] = ListenerState(listener, tuple(problems), certificates)
    return result


def _refusals(
    gateway: Gateway, listener: Listener, where: str, on_port: Mapping[str, list[str]]
) -> Iterator[ir.Problem]:
    if listener.protocol not in PROTOCOLS:
        text = f"protocol {listener.protocol} is not supported, only {' and '.join(PROTOCOLS)} are"
        yield ir.Problem(ACCEPTED, "UnsupportedProtocol", text, f"{where}.protocol")
    elif len(on_port) > 1:
        others = [name for protocol, names in on_port.items() if protocol != listener.protocol for name in names]
        text = f"port {listener.port} has another protocol with listener {', '.join(others)}"
        # None of them wins (GatewaySpec.listeners, indistinct listeners).
        yield ir.Problem(ACCEPTED, "ProtocolConflict", text, where)
    for path in gateway.unbuilt:
        if path.startswith(f"{where}.") or not path.startswith("spec.listeners["):
            yield ir.Problem(ACCEPTED, "UnsupportedValue", NOT_BUILT, path)


def _kind_problems(listener: Listener, where: str) -> Iterator[ir.Problem]:
    for number, kind in enumerate(listener.allowed_routes.kinds):
        if (kind.group, kind.kind) not in ROUTE_KINDS:
            field = f"{where}.allowedRoutes.kinds[{number}]"
            yield ir.Problem(RESOLVED, "InvalidRouteKinds", f"routes of kind {kind.kind} are not supported", field)


def route_kinds(listener: Listener) -> tuple[tuple[str, str], ...]:
    """Return the kinds of routes that a listener takes, by group and kind."""
    if listener.protocol not in PROTOCOLS:
        return ()
    wanted = [(kind.group, kind.kind) for kind in listener.allowed_routes.kinds]
    return tuple(kind for kind in sorted(ROUTE_KINDS) if not wanted or kind in wanted)


def allows(index: Index, gateway: Gateway, listener: Listener, route: HTTPRoute) -> bool:
    """Whether a listener takes a route of this kind and namespace (Gateway API, AllowedRoutes)."""
    if (route.key.group, route.key.kind) not in route_kinds(listener):
        return False
    rule = listener.allowed_routes.namespaces
    namespace = route.key.namespace
    if rule.from_ == "Same":
        return namespace == gateway.key.namespace
    if rule.from_ == "All":
        return True
    known = index.world.get(Namespace, "", namespace)
    # Every namespace bears its name as a label, whether or not a folder says so (core/v1, Namespace).
    labels = {"kubernetes.io/metadata.name": namespace, **(known.metadata.labels if known else {})}
    return rule.selector is not None and rule.selector.matches(labels)
