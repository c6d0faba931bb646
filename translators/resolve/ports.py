"""What each port of a Gateway serves, and for which hostnames."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from resources import Gateway, Key, Listener
from translators import ir
from translators.resolve import hostnames
from translators.resolve.attachment import Attachment
from translators.resolve.backends import Backends
from translators.resolve.index import Index
from translators.resolve.policies import ClientSettings, backend_settings, client_settings
from translators.resolve.routes import Rule, precedence, routes_of
from translators.settings import Settings

Rules = Mapping[Key, Sequence[Rule]]
"""The meaning of the rules of each route."""


def gateway_of(
    index: Index,
    gateway: Gateway,
    served: Sequence[Listener],
    attachments: Sequence[Attachment],
    rules: Rules,
    backends: Backends,
    settings: Settings,
) -> ir.Gateway:
    """Return what a Gateway serves on those of its listeners that are served."""
    name = f"{gateway.key.namespace}/{gateway.key.name}"
    by_port: dict[int, list[Listener]] = defaultdict(list)
    for listener in served:
        by_port[listener.port].append(listener)
    on: dict[str, list[Attachment]] = defaultdict(list)
    for each in attachments:
        on[each.listener.name].append(each)
    ports = []
    used: dict[str, ir.Backend] = {}
    mirrored: dict[str, ir.Backend] = {}
    for number, listeners in by_port.items():
        clients = {each.name: client_settings(index, gateway, each) for each in listeners}
        hosts = _hosts(index, gateway, listeners, clients, on, rules)
        for host in hosts:
            for route in host.routes:
                used |= {share.backend.cluster: share.backend for share in route.backends if share.backend}
                mirrored |= {mirror.backend.cluster: mirror.backend for mirror in route.mirrors}
        limits = [client.buffer_limit for client in clients.values() if client.buffer_limit is not None]
        ports.append(
            ir.Port(
                number=number,
                placement=settings.place(name, number),
                origin=str(gateway.key),
                buffer_limit=limits[0] if limits else None,
                hosts=hosts,
            )
        )
    used |= mirrored
    pools = [backend for backend in used.values() if isinstance(backend, ir.Pool)]
    pickers = {asked.cluster: asked for pool in pools if (asked := pool.picker or pool.seat)}
    seats = {pool.seat.cluster: pool.seat for pool in pools if pool.seat}
    prefill = {pool.prefill_cluster for pool in pools if pool.split}
    return ir.Gateway(
        name=name,
        origin=str(gateway.key),
        ports=tuple(replace(port, seats=tuple(seats[cluster] for cluster in sorted(seats))) for port in ports),
        backends=tuple(used[cluster] for cluster in sorted(used)),
        mirrored=tuple(mirrored[cluster] for cluster in sorted(mirrored)),
        pickers=tuple(pickers[cluster] for cluster in sorted(pickers)),
        assignments=tuple(backends.assignments[cluster] for cluster in sorted({*used, *pickers, *prefill})),
    )


def _hosts(
    index: Index,
    gateway: Gateway,
    listeners: Sequence[Listener],
    clients: Mapping[str, ClientSettings],
    on: Mapping[str, Sequence[Attachment]],
    rules: Rules,
) -> tuple[ir.VirtualHost, ...]:
    """Return what a port serves for each hostname.

    A request belongs to the listener with the most specific hostname, whether or not that listener has a route for it
    (Gateway API, listener isolation). Within it the routes that name the host most specifically come first, whatever
    their paths are (HTTPRouteSpec.hostnames), then all others that cover the hostname.
    """
    owners = {listener.hostname or hostnames.ANY: listener for listener in listeners}
    own = {listener.name: _by_hostname(on[listener.name]) for listener in listeners if listener.name in on}
    names = sorted(
        {*owners, *(hostname for each in own.values() for hostname in each)},
        key=lambda name: (hostnames.specificity(name), name),
        reverse=True,
    )
    result = []
    for hostname in names:
        patterns = hostnames.patterns(hostname)
        owner = next(owners[pattern] for pattern in patterns if pattern in owners)
        mine = own.get(owner.name, {})
        # In the routes' order of age, whichever of their hostnames it is.
        found = sorted((entry for pattern in patterns for entry in mine.get(pattern, ())), key=lambda entry: entry[0])
        routes: list[tuple[tuple[bool, int], ir.Route]] = []
        for _, each in found:
            policies = [
                backend_settings(index, gateway, owner, each.route, rule.name) for rule in rules[each.route.key]
            ]
            rank = hostnames.specificity(each.own)
            refusal = clients[owner.name].refusal
            routes += [
                (rank, _refuse(route, refusal))
                for route in routes_of(each.route, rules[each.route.key], policies, owner)
            ]
        routes.sort(key=lambda entry: ((not entry[0][0], -entry[0][1]), precedence(entry[1])))
        unique = dict.fromkeys(route for _, route in routes)
        result.append(ir.VirtualHost(hostname, tuple(unique)))
    return tuple(result)


def _by_hostname(attachments: Sequence[Attachment]) -> Mapping[str, Sequence[tuple[int, Attachment]]]:
    """Return the attachments of each hostname, with their places among all."""
    found: dict[str, list[tuple[int, Attachment]]] = defaultdict(list)
    for place, each in enumerate(attachments):
        found[each.hostname].append((place, each))
    return found


def _refuse(route: ir.Route, refusal: str) -> ir.Route:
    if not refusal or route.refusal:
        return route
    return replace(route, refusal=refusal)
