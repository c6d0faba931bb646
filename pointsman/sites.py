"""Where a control plane serves: what a World lacks there, where listeners are bound, who is sent what.

`OneMachine` is that of `up`: all Gateways share one Envoy and one picker, on this machine.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Protocol

from pointsman.lingering import Lingering
from pointsman.placement import Host, Placement, Places, place
from pointsman.world_view import wanted, with_slices
from resources import World
from xds import Sealed, Snapshot

Later = Callable[[float, Callable[[], None]], object]
"""`later(seconds, call)` is to make that call."""


class Site(Protocol):
    """What a control plane is told of the place that it serves."""

    @property
    def bind(self) -> str:
        """The address of listeners that have no place of their own."""

    def arrange(self, world: World) -> World:
        """Return the World with what this place makes of it."""

    def place(self, world: World) -> Places:
        """Say where every listener is bound."""

    def publish(self, gateways: Mapping[str, Iterable[Sealed]]) -> None:
        """Have Envoys and pickers hold what each Gateway ("namespace/name") means."""


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

    def arrange(self, world: World) -> World:
        """Add the EndpointSlices that a cluster would make."""
        return with_slices(world)

    def place(self, world: World) -> Places:
        """Give every listener a port of this machine, the one that it had where it can be."""
        places = place(wanted(world), self._host, self._places)
        if places.placements != self._places:
            self._places = dict(places.placements)
            self._remember(self._places)
        return places

    def publish(self, gateways: Mapping[str, Iterable[Sealed]]) -> None:
        """Publish all as one, and again when what lingers is due to go."""
        self._sealed = tuple(_union(each for sealed in gateways.values() for each in sealed))
        self._send()

    def _send(self) -> None:
        self._publish(Snapshot.of(self._lingering.add(self._sealed, self._clock())))
        due = self._lingering.due(self._clock())
        if due is not None:
            self._later(due, self._send)


def _union(sealed: Iterable[Sealed]) -> Iterator[Sealed]:
    """Yield each resource once: Gateways that share a backend bring the same cluster."""
    seen: dict[tuple[str, str], Sealed] = {}
    for each in sealed:
        if seen.setdefault((each.type_url, each.name), each) is each:
            yield each
        elif seen[each.type_url, each.name].version != each.version:
            raise ValueError(f"{each.type_url} {each.name} has two forms, of {each.origin} and of another Gateway")
