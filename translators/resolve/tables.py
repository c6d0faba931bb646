"""What the listeners of a port serve for each hostname.

A request belongs to the listener with the most specific hostname, whether or not that listener has a route for it
(Gateway API, listener isolation). Within it the routes that name the host most specifically come first, whatever
their paths are (HTTPRouteSpec.hostnames), then all others that cover the hostname.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from operator import itemgetter

from resources import Listener
from translators import ir
from translators.resolve import hostnames
from translators.resolve.parents import Name
from translators.resolve.resolved import Entry
from translators.resolve.route_book import Difference, RouteBook

_BY_ORDER = itemgetter(0)


@dataclass(frozen=True, slots=True, eq=False)
class Host:
    """What is served for a hostname, with the entries in order, and the backends that they lead to, by cluster."""

    meaning: ir.VirtualHost
    entries: Sequence[Entry]
    backends: Mapping[str, ir.Backend]
    mirrored: Mapping[str, ir.Backend]


@dataclass(frozen=True, slots=True, eq=False)
class Hosts:
    """What a chain serves, by its hostnames in order, and the backends that it leads to, by cluster."""

    meanings: tuple[ir.VirtualHost, ...] = ()
    backends: Mapping[str, ir.Backend] = field(default_factory=dict)
    mirrored: Mapping[str, ir.Backend] = field(default_factory=dict)

    @classmethod
    def of(cls, hosts: Collection[Host]) -> Hosts:
        """Put hostnames together."""
        backends: dict[str, ir.Backend] = {}
        mirrored: dict[str, ir.Backend] = {}
        for each in hosts:
            backends.update(each.backends)
            if each.mirrored:
                mirrored.update(each.mirrored)
        return cls(tuple([each.meaning for each in hosts]), backends, mirrored)


class HostTable:
    """The hostnames of a chain in order, kept from one World to the next: only what is different is made again."""

    def __init__(self) -> None:
        self._hosts: dict[str, Host] = {}
        self._all = Hosts()
        self._ranks: dict[str, tuple[tuple[bool, int], str]] = {}
        self._listeners: Sequence[tuple[str, str]] = ()

    def of(self, book: RouteBook, gateway: Name, listeners: Sequence[Listener], only: Listener | None) -> Hosts:
        """Return what is served to a client that names no listener beforehand, or just the one `only`.

        listeners: all of the port. To a client that has named a listener by SNI, what belongs to another one is
        misdirected on this connection (Listener.hostname).
        """
        told = [(each.name, each.hostname or hostnames.ANY) for each in listeners]
        owners = {hostname: name for name, hostname in told}
        names = [only.name] if only is not None else [name for name, _ in told]
        tables = {name: book.tables_of((gateway, name)) for name in names}
        differences = {name: found for name in names if (found := book.differences.get((gateway, name)))}
        if told != self._listeners:
            self._listeners = told
            different = None
        else:
            if not differences:
                return self._all
            different = _affected(self._hosts, differences)
        hosts: dict[str, Host] = {}
        for hostname in self._order({*owners, *chain.from_iterable(tables.values())}):
            known = self._hosts.get(hostname)
            if known is None or different is None or hostname in different:
                owner = _owner(owners, hostname)
                if owner not in tables:
                    known = _host(ir.VirtualHost(hostname, (), misdirected=True), (), known)
                elif known is None or different is None:
                    entries = sorted(_entries(tables[owner], hostname), key=_BY_ORDER)
                    known = _host(ir.VirtualHost(hostname, _routes(entries)), entries, known)
                elif owner in differences:
                    entries = _renewed(known.entries, tables[owner], hostname, differences[owner].sources)
                    known = _host(ir.VirtualHost(hostname, _routes(entries)), entries, known)
            hosts[hostname] = known
        self._hosts, self._all = hosts, Hosts.of(hosts.values())
        return self._all

    def _order(self, names: set[str]) -> list[str]:
        """Return hostnames from the most specific one."""
        if names == self._hosts.keys():
            return list(self._hosts)
        self._ranks = {name: self._ranks.get(name) or (hostnames.specificity(name), name) for name in names}
        return sorted(names, key=self._ranks.__getitem__, reverse=True)


def _affected(hosts: Mapping[str, Host], differences: Mapping[str, Difference]) -> set[str]:
    """Return the hostnames for which something different is served."""
    different = set().union(*(each.hostnames for each in differences.values()))
    wildcards = [each for each in different if each.startswith(hostnames.ANY)]
    if wildcards:
        different |= {name for name in hosts if any(hostnames.covers(each, name) for each in wildcards)}
    return different


def _owner(owners: Mapping[str, str], hostname: str) -> str:
    return next(owners[pattern] for pattern in hostnames.patterns(hostname) if pattern in owners)


def _entries(tables: Mapping[str, Mapping[Name, tuple[Entry, ...]]], hostname: str) -> Iterator[Entry]:
    for pattern in hostnames.patterns(hostname):
        yield from chain.from_iterable(tables.get(pattern, {}).values())


def _renewed(
    entries: Sequence[Entry],
    tables: Mapping[str, Mapping[Name, tuple[Entry, ...]]],
    hostname: str,
    sources: set[Name],
) -> list[Entry]:
    """Return entries with those of some routes as they are now."""
    renewed = [each for each in entries if each.source not in sources]
    for pattern in hostnames.patterns(hostname):
        if table := tables.get(pattern):
            for source in table.keys() & sources if len(sources) > len(table) else sources:
                renewed += table.get(source, ())
    renewed.sort(key=_BY_ORDER)
    return renewed


def _routes(entries: Sequence[Entry]) -> tuple[ir.Route, ...]:
    # A route that has two hostnames which cover this one is here twice.
    found: dict[str, ir.Route] = {}
    for each in entries:
        found.setdefault(each.route.name, each.route)
    return tuple(found.values())


def _host(meaning: ir.VirtualHost, entries: Sequence[Entry], before: Host | None) -> Host:
    backends: dict[str, ir.Backend] = {}
    mirrored: dict[str, ir.Backend] = {}
    for each in entries:
        backends.update(each.backends)
        mirrored.update(each.mirrored)
    if before is not None and before.meaning == meaning:
        meaning = before.meaning
    return Host(meaning, entries, backends, mirrored)
