"""Where a control plane serves: what a World lacks there, where listeners are bound, who is sent what.

`OneMachine` is that of `up`: all Gateways share one Envoy and one picker, on this machine. `Cluster` is that of
Kubernetes, where each Gateway has its own Envoys and each picker its own pools.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import Protocol

from pointsman.lingering import Lingering
from pointsman.placement import MOVED_UP, Host, Placement, Places, place
from pointsman.world_view import wanted, with_slices
from resources import HTTPRoute, World
from xds import Sealed, Snapshot

Later = Callable[[float, Callable[[], None]], object]
"""`later(seconds, call)` is to make that call."""


_CLUSTER = "type.googleapis.com/envoy.config.cluster.v3.Cluster"

UNPRIVILEGED = 1024
"""The first port that a program without privileges may bind."""


class Site(Protocol):
    """What a control plane is told of the place that it serves."""

    @property
    def bind(self) -> str:
        """The address of listeners that have no place of their own."""

    def arrange(self, world: World) -> World:
        """Return the World with what this place makes of it."""

    def place(self, world: World) -> Places:
        """Say where every listener is bound."""

    def publish(self, gateways: Mapping[str, Sequence[Sealed]], pickers: Mapping[str, Sequence[Sealed]]) -> None:
        """Have Envoys hold what each Gateway ("namespace/name") means, and pickers what each of them has to know."""


class OneMachine:
    """All Gateways in one Envoy: listeners share the machine's ports, and backends are those of all.

    `places` are where listeners are already, and `remember` is told when that changes.
    """

    def __init__(
        self,
        *,
        host: Host,
        publish: Callable[[Snapshot], None],
        places: Mapping[tuple[str, int], Placement] | None = None,
        remember: Callable[[Mapping[tuple[str, int], Placement]], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
        later: Later = lambda _seconds, _call: None,
    ) -> None:
        self.bind = host.bind
        self._host = host
        self._publish = publish
        self._places = dict(places or {})
        self._remember = remember
        self._clock = clock
        self._later = later
        self._lingering = Lingering()
        self._sealed: tuple[Sealed, ...] = ()
        self._arranged = World()

    def arrange(self, world: World) -> World:
        """Add the EndpointSlices that a cluster would make."""
        # They are made of other kinds than HTTPRoutes, and are there already where nothing else is different.
        if not world.differs_only_in([HTTPRoute], self._arranged):
            world = with_slices(world)
        self._arranged = world
        return world

    def place(self, world: World) -> Places:
        """Give every listener a port of this machine, the one that it had where it can be."""
        places = place(wanted(world), self._host, self._places)
        if places.placements != self._places:
            self._places = dict(places.placements)
            self._remember(self._places)
        return places

    def publish(self, gateways: Mapping[str, Sequence[Sealed]], pickers: Mapping[str, Sequence[Sealed]]) -> None:  # noqa: ARG002 - the one picker knows all
        """Publish all as one, and again when what lingers is due to go."""
        self._sealed = tuple(_union(each for sealed in gateways.values() for each in sealed))
        self._send()

    def _send(self) -> None:
        self._publish(Snapshot.of(self._lingering.add(self._sealed, self._clock())))
        due = self._lingering.due(self._clock())
        if due is not None:
            self._later(due, self._send)


class Certifier(Protocol):
    """Gives Envoys and pickers what they meet each other with (`Identities`)."""

    def of_envoy(self, gateway: str) -> tuple[Sealed, ...]:
        """Return that of a Gateway's Envoys."""

    def of_picker(self, cluster: str) -> tuple[Sealed, ...]:
        """Return that of the pickers in this cluster of Envoys."""


class Cluster:
    """Each Gateway has Envoys of its own, at addresses of their own, and each picker is a part of its own.

    `publish(part, snapshot)` and `withdraw(part)` are those of the ADS server. `certifier` may be given later, before
    anything is published.
    """

    bind = "0.0.0.0"  # noqa: S104 - of a pod, which shares it with nobody

    def __init__(
        self,
        publish: Callable[[str, Snapshot], None],
        withdraw: Callable[[str], None],
        *,
        clock: Callable[[], float] = time.monotonic,
        later: Later = lambda _seconds, _call: None,
    ) -> None:
        self._publish = publish
        self._withdraw = withdraw
        self._clock = clock
        self._later = later
        self._parts: dict[str, tuple[Sequence[Sealed], Lingering]] = {}
        self._versions: dict[str, str] = {}
        self._pickers: frozenset[str] = frozenset()
        self.certifier: Certifier | None = None

    def arrange(self, world: World) -> World:
        """Return the World: a cluster makes its own EndpointSlices."""
        return world

    def place(self, world: World) -> Places:
        """Bind every port above those that need privileges."""
        placements: dict[tuple[str, int], Placement] = {}
        for each in wanted(world):
            taken: set[int] = set()
            for port in sorted(each.ports, reverse=True):
                bound = port if port >= UNPRIVILEGED else port + MOVED_UP
                while bound in taken:
                    bound += 1
                taken.add(bound)
                placements[each.gateway, port] = Placement(self.bind, bound, None if bound == port else port)
        return Places(placements)

    def publish(self, gateways: Mapping[str, Sequence[Sealed]], pickers: Mapping[str, Sequence[Sealed]]) -> None:
        """Publish each part that is different, Envoys' first, and withdraw those that are no more."""
        self._pickers = frozenset(pickers)
        for part in [part for part in self._parts if part not in gateways and part not in pickers]:
            del self._parts[part]
            self._versions.pop(part, None)
            self._withdraw(part)
        for part, sealed in (*gateways.items(), *pickers.items()):
            last, lingering = self._parts.get(part, ((), Lingering()))
            if part not in self._parts or list(last) != list(sealed):
                self._parts[part] = (sealed, lingering)
                self._versions.pop(part, None)
                self._send(part)

    @property
    def versions(self) -> Mapping[str, str]:
        """The version of what is published for each part: it is the same wherever the same World is translated.

        What lingers does not count, since that depends on what was published before.
        """
        for part, (sealed, _) in self._parts.items():
            if part not in self._versions:
                self._versions[part] = _version(sealed)
        return self._versions

    def _send(self, part: str) -> None:
        if part not in self._parts:
            return
        sealed, lingering = self._parts[part]
        found = lingering.add(sealed, self._clock())
        self._publish(part, Snapshot.of([*found, *self._certificates(part, found)]))
        due = lingering.due(self._clock())
        if due is not None:
            self._later(due, lambda: self._send(part))

    def certify(self) -> None:
        """Publish everything again, with the certificates of this time."""
        for part in self._parts:
            self._send(part)

    def _certificates(self, part: str, found: Iterable[Sealed]) -> tuple[Sealed, ...]:
        if self.certifier is None:
            return ()
        if part in self._pickers:
            return self.certifier.of_picker(part)
        # An Envoy asks for what its clusters refer to, and would never be in sync with more.
        meets = any(each.type_url == _CLUSTER and each.name in self._pickers for each in found)
        return self.certifier.of_envoy(part) if meets else ()


def _version(sealed: Iterable[Sealed]) -> str:
    digest = blake2b(digest_size=8)
    for each in sorted((each.type_url, each.name, each.version) for each in sealed):
        digest.update("\n".join(each).encode() + b"\n\n")
    return digest.hexdigest()


def _union(sealed: Iterable[Sealed]) -> Iterator[Sealed]:
    """Yield each resource once: Gateways that share a backend bring the same cluster."""
    seen: dict[tuple[str, str], Sealed] = {}
    for each in sealed:
        if seen.setdefault((each.type_url, each.name), each) is each:
            yield each
        elif seen[each.type_url, each.name].version != each.version:
            raise ValueError(f"{each.type_url} {each.name} has two forms, of {each.origin} and of another Gateway")
