"""Gateways that share Envoys: those of a GatewayClass whose EnvoyProxy says `mergeGateways`.

What their listeners ask for is settled as within one Gateway, but that the oldest Gateway has it: a port has the
protocol of the listener that was there first, and a hostname on a port belongs to one listener. A request belongs to
the listener with the most specific hostname, whichever Gateway has it (Gateway API, listener isolation).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from resources import Gateway, Key
from translators import ir
from translators.parts import part_of_class
from translators.resolve import hostnames
from translators.resolve.listeners import ACCEPTED
from translators.resolve.meaning import ListenerState
from translators.settings import Placement, Settings

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Member:
    """One of the Gateways that share Envoys, with those of its listeners that Envoy is told of."""

    gateway: Gateway
    meaning: ir.Gateway
    listeners: tuple[ListenerState, ...]


class Claims:
    """What the listeners of Gateways that share Envoys have taken, the oldest Gateway first."""

    def __init__(self) -> None:
        self._protocols: dict[int, tuple[str, Key]] = {}
        self._hostnames: dict[tuple[int, str], Key] = {}

    def conflicts_of(self, gateway: Gateway, listeners: Iterable[ListenerState]) -> Mapping[str, ir.Problem]:
        """Have a Gateway's listeners take what they ask for; return by name what stands in the way of the others."""
        conflicts: dict[str, ir.Problem] = {}
        for number, state in enumerate(listeners):
            if not state.accepted:
                continue
            listener, where = state.listener, f"spec.listeners[{number}]"
            hostname = listener.hostname or hostnames.ANY
            protocol, first = self._protocols.get(listener.port, (listener.protocol, gateway.key))
            holder = self._hostnames.get((listener.port, hostname), gateway.key)
            if protocol != listener.protocol:
                text = f"port {listener.port} has protocol {protocol} in {first}, which shares its Envoys"
                conflicts[listener.name] = ir.Problem(ACCEPTED, "ProtocolConflict", text, f"{where}.protocol")
            elif holder != gateway.key:
                text = f"{hostname} on port {listener.port} belongs to {holder}, which shares its Envoys"
                conflicts[listener.name] = ir.Problem(ACCEPTED, "HostnameConflict", text, f"{where}.hostname")
            else:
                self._protocols[listener.port] = protocol, first
                self._hostnames[listener.port, hostname] = holder
        return conflicts


def with_conflicts(
    listeners: Mapping[str, ListenerState], conflicts: Mapping[str, ir.Problem]
) -> dict[str, ListenerState]:
    """Return listeners with what stands in their way."""
    return {
        name: replace(state, problems=(*state.problems, conflicts[name])) if name in conflicts else state
        for name, state in listeners.items()
    }


def bound_ports(gateways: Iterable[Gateway], settings: Settings) -> Mapping[int, Placement]:
    """Return where Envoys bind the ports of the Gateways that share them; no two at the same."""
    places: dict[int, Placement] = {}
    for gateway in gateways:
        for listener in gateway.spec.listeners:
            name = f"{gateway.key.namespace}/{gateway.key.name}"
            places.setdefault(listener.port, settings.place(name, listener.port))
    taken: set[int] = set()
    for number in sorted(places, reverse=True):
        bound = places[number].port
        while bound in taken:
            bound += 1
        taken.add(bound)
        places[number] = replace(places[number], port=bound)
    return places


def merged(of: Key, members: Sequence[Member], settings: Settings) -> ir.Gateway:
    """Return what Envoys serve that the Gateways of a class share, the oldest of which comes first."""
    part = part_of_class(of.name)
    places = bound_ports((each.gateway for each in members), settings)
    by_port: dict[int, list[tuple[Member, ir.Port]]] = defaultdict(list)
    for member in members:
        for port in member.meaning.ports:
            by_port[port.number].append((member, port))
    meanings = [each.meaning for each in members]
    return ir.Gateway(
        name=part,
        origin=str(of),
        ports=tuple(_port(part, number, found, places[number]) for number, found in by_port.items()),
        backends=_union((each.cluster, each) for meaning in meanings for each in meaning.backends),
        mirrored=_union((each.cluster, each) for meaning in meanings for each in meaning.mirrored),
        pickers=_union((each.cluster, each) for meaning in meanings for each in meaning.pickers),
        assignments=_union((each.cluster, each) for meaning in meanings for each in meaning.assignments),
        certificates=_union((each.name, each) for meaning in meanings for each in meaning.certificates),
    )


def _union(named: Iterable[tuple[str, T]]) -> tuple[T, ...]:
    found = dict(named)
    return tuple(found[name] for name in sorted(found))


def _port(part: str, number: int, found: Sequence[tuple[Member, ir.Port]], placement: Placement) -> ir.Port:
    limits = [port.buffer_limit for _, port in found if port.buffer_limit is not None]
    owners = {
        state.listener.hostname or hostnames.ANY: index
        for index, (member, _) in enumerate(found)
        for state in member.listeners
        if state.listener.port == number
    }
    ports = [port for _, port in found]
    return ir.Port(
        number=number,
        placement=placement,
        origin=ports[0].origin,
        buffer_limit=limits[0] if limits else None,
        chains=_chains(f"{part}/{number}", ports, owners),
        seats=_union((seat.cluster, seat) for port in ports for seat in port.seats),
    )


def _chains(name: str, ports: Sequence[ir.Port], owners: Mapping[str, int]) -> tuple[ir.Chain, ...]:
    """Return the chains of a port, of which some listeners of each Gateway are; all of them have one protocol."""
    if any(port.tls for port in ports):
        return tuple(
            replace(chain, hosts=_told_apart(chain, index, owners))
            for index, port in enumerate(ports)
            for chain in port.chains
        )
    hosts: dict[str, ir.VirtualHost] = {}
    for index, port in enumerate(ports):
        for host in port.hosts:
            if _owner(owners, host.hostname) == index:
                hosts[host.hostname] = host
    return (ir.Chain(name, _ordered(hosts)),)


def _told_apart(chain: ir.Chain, index: int, owners: Mapping[str, int]) -> tuple[ir.VirtualHost, ...]:
    """Return what a chain serves; what belongs to another Gateway's listener is misdirected on this connection."""
    hosts = {each.hostname: each for each in chain.hosts}
    for hostname in {*hosts, *owners}:
        if _owner(owners, hostname) != index:
            hosts[hostname] = ir.VirtualHost(hostname, (), misdirected=True)
    return _ordered(hosts)


def _ordered(hosts: Mapping[str, ir.VirtualHost]) -> tuple[ir.VirtualHost, ...]:
    names = sorted(hosts, key=lambda name: (hostnames.specificity(name), name), reverse=True)
    return tuple(hosts[name] for name in names)


def _owner(owners: Mapping[str, int], hostname: str) -> int | None:
    return next((owners[pattern] for pattern in hostnames.patterns(hostname) if pattern in owners), None)
