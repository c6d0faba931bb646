"""What each port of a Gateway serves, and for which hostnames."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from resources import Gateway, Key, Listener
from translators import ir
from translators.resolve import hostnames
from translators.resolve.attachment import Attachment
from translators.resolve.backends import Backends
from translators.resolve.index import Index
from translators.resolve.meaning import ListenerState
from translators.resolve.policies import ClientSettings, backend_settings, client_settings
from translators.resolve.routes import Rule, precedence, routes_of
from translators.settings import Settings

Rules = Mapping[Key, Sequence[Rule]]
"""The meaning of the rules of each route."""


def gateway_of(
    index: Index,
    gateway: Gateway,
    configured: Sequence[ListenerState],
    attachments: Sequence[Attachment],
    rules: Rules,
    backends: Backends,
    settings: Settings,
) -> ir.Gateway:
    """Return what a Gateway serves on those of its listeners that Envoy is told of."""
    name = f"{gateway.key.namespace}/{gateway.key.name}"
    by_port: dict[int, list[ListenerState]] = defaultdict(list)
    for state in configured:
        by_port[state.listener.port].append(state)
    on: dict[str, list[Attachment]] = defaultdict(list)
    for each in attachments:
        on[each.listener.name].append(each)
    ports = []
    used: dict[str, ir.Backend] = {}
    mirrored: dict[str, ir.Backend] = {}
    for number, states in by_port.items():
        listeners = [each.listener for each in states]
        clients = {each.name: client_settings(index, gateway, each) for each in listeners}
        limits = [client.buffer_limit for client in clients.values() if client.buffer_limit is not None]
        tables = _Tables(index, gateway, listeners, clients, on, rules)
        port = ir.Port(
            number=number,
            placement=settings.place(name, number),
            origin=str(gateway.key),
            buffer_limit=limits[0] if limits else None,
            chains=tuple(_chains(f"{name}/{number}", states, tables)),
        )
        for route in (route for host in port.hosts for route in host.routes):
            used |= {share.backend.cluster: share.backend for share in route.backends if share.backend}
            mirrored |= {mirror.backend.cluster: mirror.backend for mirror in route.mirrors}
        ports.append(port)
    used |= mirrored
    pools = [backend for backend in used.values() if isinstance(backend, ir.Pool)]
    pickers = {asked.cluster: asked for pool in pools if (asked := pool.picker or pool.seat)}
    seats = {pool.seat.cluster: pool.seat for pool in pools if pool.seat}
    prefill = {pool.prefill_cluster for pool in pools if pool.split}
    certificates = {found.name: found for state in configured for found in state.certificates.found}
    return ir.Gateway(
        name=name,
        origin=str(gateway.key),
        ports=tuple(replace(port, seats=tuple(seats[cluster] for cluster in sorted(seats))) for port in ports),
        backends=tuple(used[cluster] for cluster in sorted(used)),
        mirrored=tuple(mirrored[cluster] for cluster in sorted(mirrored)),
        pickers=tuple(pickers[cluster] for cluster in sorted(pickers)),
        assignments=tuple(backends.assignments[cluster] for cluster in sorted({*used, *pickers, *prefill})),
        certificates=tuple(certificates[each] for each in sorted(certificates)),
    )


def _chains(name: str, states: Sequence[ListenerState], tables: _Tables) -> Iterator[ir.Chain]:
    """Yield the chains of a port, all of whose listeners have one protocol."""
    if states[0].listener.protocol != "HTTPS":
        yield ir.Chain(name, tuple(tables.of_all()))
        return
    for state in states:
        listener = state.listener
        yield ir.Chain(
            name=f"{name}/{listener.name}",
            hosts=tuple(tables.of(listener)),
            server_name=listener.hostname or hostnames.ANY,
            certificates=state.certificates.names,
        )


@dataclass(frozen=True, slots=True)
class _Tables:
    """What the listeners of a port serve for each hostname.

    A request belongs to the listener with the most specific hostname, whether or not that listener has a route for it
    (Gateway API, listener isolation). Within it the routes that name the host most specifically come first, whatever
    their paths are (HTTPRouteSpec.hostnames), then all others that cover the hostname.
    """

    index: Index
    gateway: Gateway
    listeners: Sequence[Listener]
    clients: Mapping[str, ClientSettings]
    on: Mapping[str, Sequence[Attachment]]
    rules: Rules

    def of_all(self) -> Iterator[ir.VirtualHost]:
        """Yield what is served to a client that names no listener beforehand."""
        owners = self._owners()
        own = {name: _by_hostname(self.on.get(name, ())) for name in (each.name for each in self.listeners)}
        for hostname in _ordered({*owners, *(hostname for each in own.values() for hostname in each)}):
            owner = _owner(owners, hostname)
            yield ir.VirtualHost(hostname, self._routes(owner, own[owner.name], hostname))

    def of(self, listener: Listener) -> Iterator[ir.VirtualHost]:
        """Yield what is served to a client that has named a listener by SNI.

        What belongs to another listener is misdirected on this connection (Listener.hostname).
        """
        owners = self._owners()
        own = _by_hostname(self.on.get(listener.name, ()))
        for hostname in _ordered({*owners, *own}):
            mine = _owner(owners, hostname) is listener
            routes = self._routes(listener, own, hostname) if mine else ()
            yield ir.VirtualHost(hostname, routes, misdirected=not mine)

    def _owners(self) -> Mapping[str, Listener]:
        return {listener.hostname or hostnames.ANY: listener for listener in self.listeners}

    def _routes(
        self, listener: Listener, own: Mapping[str, Sequence[tuple[int, Attachment]]], hostname: str
    ) -> tuple[ir.Route, ...]:
        # In the routes' order of age, whichever of their hostnames it is.
        found = sorted(
            (entry for pattern in hostnames.patterns(hostname) for entry in own.get(pattern, ())),
            key=lambda entry: entry[0],
        )
        routes: list[tuple[tuple[bool, int], ir.Route]] = []
        for _, each in found:
            rules = self.rules[each.route.key]
            policies = [backend_settings(self.index, self.gateway, listener, each.route, rule.name) for rule in rules]
            rank = hostnames.specificity(each.own)
            refusal = self.clients[listener.name].refusal
            routes += [(rank, _refuse(route, refusal)) for route in routes_of(each.route, rules, policies, listener)]
        routes.sort(key=lambda entry: ((not entry[0][0], -entry[0][1]), precedence(entry[1])))
        return tuple(dict.fromkeys(route for _, route in routes))


def _ordered(names: Iterable[str]) -> list[str]:
    return sorted(names, key=lambda name: (hostnames.specificity(name), name), reverse=True)


def _owner(owners: Mapping[str, Listener], hostname: str) -> Listener:
    return next(owners[pattern] for pattern in hostnames.patterns(hostname) if pattern in owners)


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
