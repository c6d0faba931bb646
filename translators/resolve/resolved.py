"""One HTTPRoute by itself: what it means, where that has its place, and on which objects it depends."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from resources import GATEWAY_GROUP, Gateway, HTTPRoute, Key, Listener, Namespace, ReferenceGrant
from translators import ir
from translators.resolve import hostnames
from translators.resolve.attachment import Attachment, attach
from translators.resolve.backends import Backends, references_of
from translators.resolve.index import Age, Index, age
from translators.resolve.meaning import ParentState, RouteState
from translators.resolve.parents import Name, parent_of
from translators.resolve.policies import backend_settings, client_settings
from translators.resolve.routes import Rule, is_refused, precedence, problems_of, routes_of, rules_of

On = tuple[Name, str]
"""A listener: its Gateway and its own name."""


class Entry(NamedTuple):
    """A match of a rule in the table of a hostname.

    order: its place there; no two entries of a table have the same. source: its HTTPRoute. backends, mirrored: those
    that its rule leads to, by cluster.
    """

    order: tuple[object, ...]
    source: Name
    route: ir.Route
    backends: Mapping[str, ir.Backend]
    mirrored: Mapping[str, ir.Backend]


class Place(NamedTuple):
    """Where entries belong: a listener, and one of the hostnames that it serves."""

    on: On
    hostname: str


@dataclass(frozen=True, slots=True, eq=False)
class ResolvedRoute:
    """What an HTTPRoute means.

    needs: the objects on which that depends, whether or not they are there. state: None where none of its parents is
    ours. parents: the Gateways that it names, whosever and whether or not they are there. gateways: those of ours that
    it is attached to. counted: the listeners that count it as attached. pools: those that it may refer to, whether or
    not they can be served. orphan: its problems with parents that are nowhere.
    """

    route: HTTPRoute
    name: Name
    age: Age
    needs: frozenset[Key]
    parents: tuple[Name, ...] = ()
    state: RouteState | None = None
    places: Mapping[Place, tuple[Entry, ...]] = field(default_factory=dict)
    gateways: tuple[Name, ...] = ()
    counted: tuple[On, ...] = ()
    pools: tuple[Key, ...] = ()
    orphan: tuple[ir.Problem, ...] = ()


def grants_in(namespace: str) -> Key:
    """Return what stands for all ReferenceGrants of a namespace among the needs of a route."""
    return Key(GATEWAY_GROUP, ReferenceGrant.KIND, namespace, "")


def resolved(
    route: HTTPRoute,
    index: Index,
    backends: Backends,
    ours: Mapping[Name, Gateway],
    before: ResolvedRoute | None,
) -> ResolvedRoute:
    """Return what a route means. What is as it was `before` is the same object."""
    name = (route.key.namespace, route.key.name)
    needs, orphan = frozenset(_needs(route)), tuple(_orphan(route, index))
    named = tuple(dict.fromkeys(parent for ref in route.spec.parent_refs if (parent := parent_of(route, ref))))
    pools = tuple(dict.fromkeys(backends.pools_meant(route)))
    if not any(parent in ours for parent in named):
        return ResolvedRoute(route, name, age(route), needs, named, pools=pools, orphan=orphan)
    rules = rules_of(route, backends)
    own = problems_of(rules)
    parents: list[ParentState] = []
    attachments: list[tuple[Name, Attachment]] = []
    for each in attach(index, route, ours):
        parents.append(ParentState(each.ref, (*((each.problem,) if each.problem else ()), *own)))
        attachments += [(each.gateway, attachment) for attachment in each.attachments]
    state = RouteState(route, tuple(parents))
    listeners = {(gateway, each.listener.name): each.listener for gateway, each in attachments}
    served = {on: _served(route, rules, index, ours[on[0]], listener) for on, listener in listeners.items()}
    return ResolvedRoute(
        route=route,
        name=name,
        age=age(route),
        needs=needs,
        parents=named,
        state=before.state if before is not None and before.state == state else state,
        places=_places(route, rules, attachments, served, {} if before is None else before.places),
        gateways=tuple(dict.fromkeys(gateway for gateway, _ in attachments)),
        counted=() if is_refused(rules) else tuple(listeners),
        pools=pools,
        orphan=orphan,
    )


def _needs(route: HTTPRoute) -> Iterator[Key]:
    # Policies count as a part of what they are attached to.
    yield route.key
    yield Key(Namespace.GROUP, Namespace.KIND, "", route.key.namespace)
    for ref in route.spec.parent_refs:
        if parent := parent_of(route, ref):
            yield Key(GATEWAY_GROUP, Gateway.KIND, *parent)
    for reference in references_of(route):
        yield reference.target
        if reference.target_namespace != reference.namespace:
            yield grants_in(reference.target_namespace)


def _orphan(route: HTTPRoute, index: Index) -> Iterator[ir.Problem]:
    for number, ref in enumerate(route.spec.parent_refs):
        parent = parent_of(route, ref)
        if parent and index.world.get(Gateway, *parent) is None:
            text = f"Gateway {'/'.join(parent)} does not exist"
            yield ir.Problem("Accepted", "NoMatchingParent", text, f"spec.parentRefs[{number}]")


def _served(
    route: HTTPRoute, rules: Sequence[Rule], index: Index, gateway: Gateway, listener: Listener
) -> tuple[tuple[ir.Route, Rule], ...]:
    """Return what a listener serves of a route, in the order of its rules and matches."""
    client = client_settings(index, gateway, listener)
    policies = [backend_settings(index, gateway, listener, route, rule.name) for rule in rules]
    return tuple(routes_of(route, rules, policies, listener, client.refusal))


def _places(
    route: HTTPRoute,
    rules: Sequence[Rule],
    attachments: Sequence[tuple[Name, Attachment]],
    served: Mapping[On, tuple[tuple[ir.Route, Rule], ...]],
    before: Mapping[Place, tuple[Entry, ...]],
) -> Mapping[Place, tuple[Entry, ...]]:
    known = {(place.on, each.route.name): each.route for place, entries in before.items() for each in entries}
    backends = {rule.index: _by_cluster(share.backend for share in rule.backends) for rule in rules}
    mirrored = {rule.index: _by_cluster(mirror.backend for mirror in rule.mirrors) for rule in rules}
    source, created = (route.key.namespace, route.key.name), age(route)
    found: dict[Place, list[Entry]] = {}
    for gateway, attachment in attachments:
        on = (gateway, attachment.listener.name)
        entries = found.setdefault(Place(on, attachment.hostname), [])
        whole, length = hostnames.specificity(attachment.own)
        for number, (each, rule) in enumerate(served[on]):
            old = known.get((on, each.name))
            # Of the same route the one with the most specific hostname of its own comes first, then precedence, then
            # age (HTTPRouteSpec.hostnames, HTTPRouteRule.matches).
            order = (not whole, -length, *precedence(each), *created, number)
            same = old if old == each and old is not None else each
            entries.append(Entry(order, source, same, backends[rule.index], mirrored[rule.index]))
    return {place: _same_or_new(before.get(place), tuple(entries)) for place, entries in found.items()}


def _by_cluster(backends: Iterator[ir.Backend | None]) -> Mapping[str, ir.Backend]:
    return {backend.cluster: backend for backend in backends if backend is not None}


def _same_or_new(before: tuple[Entry, ...] | None, entries: tuple[Entry, ...]) -> tuple[Entry, ...]:
    return before if before is not None and before == entries else entries
