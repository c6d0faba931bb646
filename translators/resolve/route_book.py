"""All HTTPRoutes, each resolved once for as long as nothing that it depends on changes.

Rules, and everything that affects this memory lives in this file:

1. From one World to the next, `_touched` has every object whose change could change what a route means. A route is
   resolved anew when it needs one that is touched; it needs itself.
2. A route's entries are in the table of each place that it has, and in no other.
3. Entries that are equal to those before are the very same, and make no difference. What makes one is told once: which
   hostnames of a listener, by which routes.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from operator import attrgetter

from resources import GATEWAY_GROUP, EndpointSlice, Gateway, HTTPRoute, Key, Namespace, Pod, Service, World
from translators import ir
from translators.resolve.backends import Backends
from translators.resolve.index import Index, TargetKey
from translators.resolve.meaning import RouteState
from translators.resolve.parents import Name
from translators.resolve.pool_kinds import all_pools
from translators.resolve.resolved import Entry, On, Place, ResolvedRoute, grants_in, resolved

Table = Mapping[Name, tuple[Entry, ...]]
"""What a listener serves for a hostname of its routes, by HTTPRoute."""

_AGE = attrgetter("age")
_NOTHING: Mapping[str, Table] = {}


@dataclass(slots=True)
class Difference:
    """What is different on a listener since the World before: the tables of these hostnames, by these routes."""

    hostnames: set[str] = field(default_factory=set)
    sources: set[Name] = field(default_factory=set)


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """What routes were resolved by: a World with its index, backends and Gateways, and the meaning of its pools."""

    index: Index
    backends: Backends
    ours: Mapping[Name, Gateway]
    pools: Mapping[Key, ir.Pool | ir.Problem]


class RouteBook:
    """What the routes of the last World mean, from the oldest to the youngest, and what in that is different.

    states: of those with a parent that is ours. counted: how many routes each listener counts as attached.
    """

    def __init__(self) -> None:
        self.routes: list[ResolvedRoute] = []
        self.states: tuple[RouteState, ...] = ()
        self.counted: Counter[On] = Counter()
        self.differences: dict[On, Difference] = {}
        self._by_name: dict[Name, ResolvedRoute] = {}
        self._orphans: dict[Name, ResolvedRoute] = {}
        self._tables: dict[On, dict[str, dict[Name, tuple[Entry, ...]]]] = {}
        self._seen: Seen | None = None

    def tables_of(self, on: On) -> Mapping[str, Table]:
        """Return what a listener serves, by hostname."""
        return self._tables.get(on, _NOTHING)

    @property
    def orphans(self) -> list[ResolvedRoute]:
        """The routes that have a parent that is nowhere."""
        return sorted(self._orphans.values(), key=_AGE)

    def index_of(
        self, world: World, *, picker_services: bool, controllers: frozenset[str] | None
    ) -> tuple[Index, Backends]:
        """Return a World's index and its backends: those of the last World, as far as nothing in them differs."""
        seen = self._seen
        if seen is not None and (seen.index.picker_services, seen.index.controllers) == (picker_services, controllers):
            if world.differs_only_in([HTTPRoute], seen.index.world):
                return seen.index.with_routes_of(world), seen.backends
            if world.differs_only_in([HTTPRoute, Pod, EndpointSlice], seen.index.world):
                index = seen.index.with_pods_of(world)
                return index, Backends(index, seen.backends)
        index = Index.of(world, picker_services=picker_services, controllers=controllers)
        return index, Backends(index)

    def turn(self, index: Index, backends: Backends, ours: Mapping[Name, Gateway]) -> None:
        """Go on to another World."""
        last = self._seen
        pools = last.pools if last is not None and last.backends is backends else _pools(index.world, backends)
        self._seen = seen = Seen(index, backends, ours, pools)
        self.differences = {}
        if last is None:
            stale = set(index.world.all(HTTPRoute))
        else:
            touched = set(_touched(last, seen))
            stale = index.world.changed(HTTPRoute, last.index.world)
            if touched:
                stale |= {name for name, each in self._by_name.items() if not touched.isdisjoint(each.needs)}
        for name in stale:
            self._resolve(name, seen)
        if stale:
            self.states = tuple([each.state for each in self.routes if each.state is not None])

    def _resolve(self, name: Name, seen: Seen) -> None:
        before, route = self._by_name.pop(name, None), seen.index.world.get(HTTPRoute, *name)
        self._orphans.pop(name, None)
        places: Mapping[Place, tuple[Entry, ...]] = {}
        if before is not None:
            del self.routes[bisect_left(self.routes, before.age, key=_AGE)]
            self.counted.subtract(before.counted)
        if route is not None:
            found = resolved(route, seen.index, seen.backends, seen.ours, before)
            self._by_name[name] = found
            insort(self.routes, found, key=_AGE)
            self.counted.update(found.counted)
            places = found.places
            if found.orphan:
                self._orphans[name] = found
        for place, entries in before.places.items() if before is not None else ():
            if places.get(place) is not entries:
                self._take_out(place, name)
        for place, entries in places.items():
            if before is None or before.places.get(place) is not entries:
                self._put_in(place, name, entries)

    def _take_out(self, place: Place, name: Name) -> None:
        tables = self._tables[place.on]
        table = tables[place.hostname]
        del table[name]
        if not table:
            del tables[place.hostname]
            if not tables:
                del self._tables[place.on]
        self._differ(place, name)

    def _put_in(self, place: Place, name: Name, entries: tuple[Entry, ...]) -> None:
        self._tables.setdefault(place.on, {}).setdefault(place.hostname, {})[name] = entries
        self._differ(place, name)

    def _differ(self, place: Place, name: Name) -> None:
        difference = self.differences.setdefault(place.on, Difference())
        difference.hostnames.add(place.hostname)
        difference.sources.add(name)


def _pools(world: World, backends: Backends) -> Mapping[Key, ir.Pool | ir.Problem]:
    return {pool.key: backends.pool(pool) for pool in all_pools(world)}


def _touched(last: Seen, seen: Seen) -> Iterator[Key]:
    """Yield every object beside HTTPRoutes whose change could change what a route means, or that of its policies."""
    world, old = seen.index.world, last.index.world
    for kind in (Gateway, Namespace, Service):
        yield from (Key(kind.GROUP, kind.KIND, *name) for name in world.changed(kind, old))
    # A Gateway can become ours, or cease to be, by its class.
    ours, were = seen.ours, last.ours
    changed = (name for name in {**ours, **were} if ours.get(name) is not were.get(name))
    yield from (Key(GATEWAY_GROUP, Gateway.KIND, *name) for name in changed)
    if seen.backends is last.backends:
        return
    yield from (key for key in {**seen.pools, **last.pools} if seen.pools.get(key) != last.pools.get(key))
    grants, earlier = seen.index.grants, last.index.grants
    yield from (grants_in(each) for each in {**grants, **earlier} if grants.get(each) != earlier.get(each))
    yield from _attached_to(seen.index.backend_policies, last.index.backend_policies)
    yield from _attached_to(seen.index.client_policies, last.index.client_policies)


def _attached_to(policies: Mapping[TargetKey, object], earlier: Mapping[TargetKey, object]) -> Iterator[Key]:
    """Yield what policies are attached to that are others than before."""
    for target in {**policies, **earlier}:
        if policies.get(target) != earlier.get(target):
            kind, namespace, name, _ = target
            yield Key(GATEWAY_GROUP, kind, namespace, name)
