"""The control plane's one loop: a reading changes the World, the World is translated, sealed and published.

What goes wrong in between is our own bug: the last good snapshot stays, and /status says so (`State.trouble`).
Nothing here opens a socket; `serving` does.
"""

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

import structlog

from pointsman.blame import origin_of
from pointsman.placement import Places
from pointsman.sites import Site
from pointsman.translation_settings import refused, told
from resources import Delete, Pod, Upsert, World
from sources import Reading
from translators import Memo, Resource, Settings, Translation, needs_of_gateways, translate
from translators.infrastructure import GatewayNeeds
from xds import Nack, Sealed, seal

LISTENER = "type.googleapis.com/envoy.config.listener.v3.Listener"

_log = structlog.get_logger("control-plane")


@dataclass(frozen=True, slots=True)
class State:
    """What the control plane knows at one moment; `generation` grows with everything that a reader may have missed.

    trouble: our own bug, while the last good translation serves on.  world: what the translation is one of.
    """

    generation: int = 0
    translation: Translation | None = None
    sealed: tuple[tuple[Resource, Sealed], ...] = ()
    file_problems: tuple[str, ...] = ()
    file_notices: tuple[str, ...] = ()
    trouble: str | None = None
    world: World = field(default_factory=World, repr=False)

    @property
    def pods(self) -> int:
        """How many Pods are ready."""
        return sum(pod.ready for pod in self.world.all(Pod).values())

    @property
    def problems(self) -> tuple[str, ...]:
        """Everything that keeps a part of the folder from being served, one line each."""
        translated = self.translation.problems if self.translation else ()
        return (*self.file_problems, *translated)

    @property
    def notices(self) -> tuple[str, ...]:
        """What is ignored or assumed, one line each."""
        return (*self.file_notices, *(self.translation.notices if self.translation else ()))


@dataclass(slots=True)
class Counts:
    """What has happened since the start: translations, failed ones, seconds spent, and refusals by type URL."""

    translations: int = 0
    failures: int = 0
    seconds: float = 0.0
    nacks: dict[str, int] = field(default_factory=dict)


class ControlPlane:
    """Turns readings into snapshots, for the place that it serves."""

    def __init__(self, site: Site, settings: Settings, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.state = State()
        self.counts = Counts()
        self._site = site
        self._clock = clock
        self._changed = asyncio.Event()
        self._world = World()
        self._memo = Memo()
        self._settings = settings

    @property
    def world(self) -> World:
        """Everything that is known."""
        return self._world

    def take(self, reading: Reading) -> None:
        """Take in a reading and publish what it means."""
        started = self._clock()
        last = self.state
        self.state = replace(
            last,
            generation=last.generation + 1,
            file_problems=tuple(map(str, reading.problems)),
            file_notices=tuple(map(str, reading.notices)),
        )
        try:
            self._translate(reading)
        except Exception as error:  # noqa: BLE001 - any bug in the pure part is contained here
            # Contained: users' mistakes are values in the translation, so this is a bug of ours.
            _log.exception("translation failed, the last good configuration stays")
            self.counts.failures += 1
            self.state = replace(self.state, trouble=f"{type(error).__name__}: {error}")
        self.counts.translations += 1
        self.counts.seconds += self._clock() - started
        _log_changes(last, self.state)
        self._wake()

    def foresee(self, changes: Iterable[Upsert | Delete]) -> tuple[World, tuple[GatewayNeeds, ...]] | None:
        """Return a part of the World, before all of it is known, and what Gateways need. None for a bug of ours."""
        world = self._site.arrange(World().apply(changes))
        places = self._site.place(world)
        settings = replace(self._settings, placements=told(places), unplaced=refused(places))
        try:
            return world, needs_of_gateways(world, settings)
        except Exception:  # noqa: BLE001 - contained, as in `take`, which comes to it again and says so
            _log.exception("what has been read so far cannot be understood")
            return None

    def refuse(self, nack: Nack) -> None:
        """Note that a client refused a resource."""
        _log.error(
            "configuration refused",
            object=origin_of(nack),
            resource=nack.name,
            type=nack.type_url.rpartition(".")[2],
            node=nack.peer.node,
            reason=nack.message,
        )
        self.counts.nacks[nack.type_url] = self.counts.nacks.get(nack.type_url, 0) + 1
        self.state = replace(self.state, generation=self.state.generation + 1)
        self._wake()

    async def after(self, generation: int) -> State:
        """Wait for a state newer than `generation`."""
        while self.state.generation <= generation:
            await self._changed.wait()
        return self.state

    def _translate(self, reading: Reading) -> None:
        # Kept even when what follows fails: a reading holds only what is different.
        self._world = self._world.apply(reading.changes)
        self._world = self._site.arrange(self._world)
        places = self._site.place(self._world)
        self._place(places)
        translation = translate(self._world, self._settings, self._memo)
        sealed = dict(self.state.sealed)
        used: dict[Resource, Sealed] = {}

        def seal_once(each: Resource) -> Sealed:
            # One that is the same object as last time is sealed already.
            if each not in sealed:
                sealed[each] = seal(each.type_url, each.name, each.message, each.origin, each.pulls)
            return used.setdefault(each, sealed[each])

        gateways = {name: [seal_once(each) for each in resources] for name, resources in translation.gateways.items()}
        pickers = {seat: [seal_once(each) for each in found] for seat, found in translation.pickers.items()}
        self._site.publish(gateways, pickers)
        self.state = replace(
            self.state,
            translation=translation,
            sealed=tuple(used.items()),
            trouble=None,
            world=self._world,
        )

    def _place(self, places: Places) -> None:
        """Tell the translation of the places; equal settings stay one object, by which listeners are remembered."""
        placements, unplaced = told(places), refused(places)
        if (placements, unplaced) != (self._settings.placements, self._settings.unplaced):
            self._settings = replace(self._settings, placements=placements, unplaced=unplaced)

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


def _log_changes(last: State, state: State) -> None:
    before = {(each.type_url, each.name): each.version for _, each in last.sealed}
    after = {(each.type_url, each.name): each.version for _, each in state.sealed}
    changed = sorted({name for (_, name), _ in before.items() ^ after.items()})
    if changed:
        _log.info("published", generation=state.generation, resources=len(after), changed=changed)
    known = set(last.problems)
    for line in state.problems:
        if line not in known:
            _log.info("problem", problem=line)
