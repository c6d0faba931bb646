"""Listeners: what is wrong with them, and which routes they take."""

from __future__ import annotations

from resources import GATEWAY_GROUP, Gateway, HTTPRoute, Listener, Namespace
from translators import ir
from translators.resolve.index import Index
from translators.resolve.policies import NOT_BUILT

ACCEPTED, RESOLVED = "Accepted", "ResolvedRefs"


def problems_of(gateway: Gateway, parameters: ir.Problem | None) -> dict[str, tuple[ir.Problem, ...]]:
    """Return the problems of each listener of a Gateway; `parameters` is that of the Gateway's own."""
    result: dict[str, tuple[ir.Problem, ...]] = {}
    protocols: dict[int, str] = {}
    unbuilt = [*gateway.unbuilt]
    for number, listener in enumerate(gateway.spec.listeners):
        where = f"spec.listeners[{number}]"
        problems = [parameters] if parameters else []
        if listener.protocol != "HTTP":
            text = f"protocol {listener.protocol} {NOT_BUILT}; only HTTP is"
            problems.append(ir.Problem(ACCEPTED, "UnsupportedProtocol", text, f"{where}.protocol"))
        elif protocols.setdefault(listener.port, listener.protocol) != listener.protocol:
            problems.append(ir.Problem(ACCEPTED, "ProtocolConflict", "another listener of the port", where))
        problems += [
            ir.Problem(ACCEPTED, "UnsupportedValue", NOT_BUILT, path)
            for path in unbuilt
            if path.startswith(f"{where}.") or not path.startswith("spec.listeners[")
        ]
        kinds = listener.allowed_routes.kinds
        for each, kind in enumerate(kinds):
            if (kind.group, kind.kind) != (GATEWAY_GROUP, "HTTPRoute"):
                field = f"{where}.allowedRoutes.kinds[{each}]"
                text = f"routes of kind {kind.kind} are not supported"
                problems.append(ir.Problem(RESOLVED, "InvalidRouteKinds", text, field))
        result[listener.name] = tuple(problems)
    return result


def allows(index: Index, gateway: Gateway, listener: Listener, route: HTTPRoute) -> bool:
    """Whether a listener takes a route of this kind and namespace (Gateway API, AllowedRoutes)."""
    kinds = listener.allowed_routes.kinds
    if kinds and not any((kind.group, kind.kind) == (GATEWAY_GROUP, "HTTPRoute") for kind in kinds):
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
