"""Which listeners a route attaches to, and why it does not attach to others (Gateway API, route attachment)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from resources import Gateway, HTTPRoute, Listener, ParentReference
from translators import ir
from translators.resolve import hostnames
from translators.resolve.index import Index
from translators.resolve.listeners import ACCEPTED, allows
from translators.resolve.parents import Name, parent_of


@dataclass(frozen=True, slots=True)
class Attachment:
    """A route on a listener. own: the hostname of the route, of which `hostname` is what the listener serves."""

    listener: Listener
    hostname: str
    own: str
    route: HTTPRoute


@dataclass(frozen=True, slots=True)
class Attached:
    """What became of one of a route's references to its parents: the attachments, or what stands in their way."""

    gateway: Name
    ref: ParentReference
    attachments: tuple[Attachment, ...]
    problem: ir.Problem | None


def attach(index: Index, route: HTTPRoute, ours: Mapping[Name, Gateway]) -> Iterator[Attached]:
    """Follow a route's references to Gateways of ours. What two of them attach twice is told once."""
    known: set[tuple[Name, str, str]] = set()
    for number, ref in enumerate(route.spec.parent_refs):
        name = parent_of(route, ref)
        if name is None or name not in ours:
            continue
        found, problem = _listeners_for(index, ours[name], route, ref, f"spec.parentRefs[{number}]")
        fresh = tuple(each for each in found if (name, each.listener.name, each.own) not in known)
        known |= {(name, each.listener.name, each.own) for each in fresh}
        yield Attached(name, ref, fresh, problem)


def _listeners_for(
    index: Index, gateway: Gateway, route: HTTPRoute, ref: ParentReference, where: str
) -> tuple[list[Attachment], ir.Problem | None]:
    named = [
        each
        for each in gateway.spec.listeners
        if ref.section_name in {None, each.name} and ref.port in {None, each.port}
    ]
    if not named:
        text = f"{gateway.key} has no listener {ref.section_name or ''}{f' on port {ref.port}' if ref.port else ''}"
        return [], ir.Problem(ACCEPTED, "NoMatchingParent", text.replace("  ", " "), where)
    allowed = [each for each in named if allows(index, gateway, each, route)]
    if not allowed:
        text = f"{gateway.key} allows no route of namespace {route.key.namespace} on {_names(named)}"
        return [], ir.Problem(ACCEPTED, "NotAllowedByListeners", text, where)
    found: list[Attachment] = []
    for listener in allowed:
        found += [
            Attachment(listener, both, hostname, route)
            for hostname in route.spec.hostnames or (hostnames.ANY,)
            if (both := hostnames.meet(listener.hostname or hostnames.ANY, hostname))
        ]
    if not found:
        text = f"none of the route's hostnames is served by {gateway.key}, {_names(allowed)}"
        return [], ir.Problem(ACCEPTED, "NoMatchingListenerHostname", text, "spec.hostnames")
    return found, None


def _names(listeners: Iterable[Listener]) -> str:
    return "listener " + ", ".join(each.name for each in listeners)
