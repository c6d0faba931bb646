"""What each port of a Gateway serves, and for which hostnames."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace

from resources import Gateway
from translators import ir
from translators.memo import Memo
from translators.resolve import hostnames
from translators.resolve.backends import Backends
from translators.resolve.index import Index
from translators.resolve.meaning import ListenerState
from translators.resolve.policies import client_settings
from translators.resolve.route_book import RouteBook
from translators.resolve.tables import Hosts, HostTable
from translators.settings import Settings


def gateway_of(
    index: Index,
    gateway: Gateway,
    configured: Sequence[ListenerState],
    book: RouteBook,
    backends: Backends,
    settings: Settings,
    memo: Memo,
) -> ir.Gateway:
    """Return what a Gateway serves on those of its listeners that Envoy is told of."""
    name = f"{gateway.key.namespace}/{gateway.key.name}"
    by_port: dict[int, list[ListenerState]] = defaultdict(list)
    for state in configured:
        by_port[state.listener.port].append(state)
    ports = []
    used: dict[str, ir.Backend] = {}
    mirrored: dict[str, ir.Backend] = {}
    for number, states in by_port.items():
        clients = [client_settings(index, gateway, each.listener) for each in states]
        limits = [client.buffer_limit for client in clients if client.buffer_limit is not None]
        chains = []
        for chain, hosts in _chains(f"{name}/{number}", gateway, states, book, memo):
            chains.append(replace(chain, hosts=hosts.meanings))
            used |= hosts.backends
            mirrored |= hosts.mirrored
        port = ir.Port(
            number=number,
            placement=settings.place(name, number),
            origin=str(gateway.key),
            buffer_limit=limits[0] if limits else None,
            chains=tuple(chains),
        )
        ports.append(port)
    used |= mirrored
    pools = [backend for backend in used.values() if isinstance(backend, ir.Pool)]
    pickers = {asked.cluster: asked for pool in pools for asked in (pool.picker, pool.seat) if asked}
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
        assignments=tuple(
            backends.endpoints_of(used[cluster]) if cluster in used else backends.assignments[cluster]
            for cluster in sorted({*used, *pickers, *prefill})
        ),
        certificates=tuple(certificates[each] for each in sorted(certificates)),
    )


def _chains(
    name: str, gateway: Gateway, states: Sequence[ListenerState], book: RouteBook, memo: Memo
) -> Iterator[tuple[ir.Chain, Hosts]]:
    """Yield the chains of a port, all of whose listeners have one protocol, and apart from them what they serve."""
    on, listeners = (gateway.key.namespace, gateway.key.name), [each.listener for each in states]
    if states[0].listener.protocol != "HTTPS":
        table = memo.place(HostTable, name)
        yield ir.Chain(name, ()), table.of(book, on, listeners, None)
        return
    for state in states:
        chain = ir.Chain(
            name=f"{name}/{state.listener.name}",
            hosts=(),
            server_name=state.listener.hostname or hostnames.ANY,
            certificates=state.certificates.names,
        )
        table = memo.place(HostTable, chain.name)
        yield chain, table.of(book, on, listeners, state.listener)
