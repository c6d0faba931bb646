"""Objects of which each is followed by itself, because others refer to it: nothing is asked about the rest of the kind.

Rules, and everything that affects which are followed lives in this file:

1. Which they are is a function of other objects, whose kinds are followed whole: `ByName.wanted`.
2. What begins to be referred to is read before the reference is told, as long as that takes no longer than a moment.
3. What is no longer referred to is forgotten, and that is told together with what changed the references.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from resources import Object, Upsert, World
from sources.kubernetes.follower import Change, Follower

Name = tuple[str, str]
"""An object's namespace and name."""

# Seconds for which a reference waits for what it refers to.
_PATIENCE = 2.0
# Seconds between two attempts at an object that cannot be read, for each such object: ten a second, however many.
_SPACING = 0.1


@dataclass(frozen=True, slots=True)
class ByName:
    """Which objects of a kind to follow, each by itself.

    deciders: the kinds that decide it. wanted: given a World of these, the objects' namespaces and names. stand_in:
    given a namespace, a name and a reason, what is told in the place of an object that cannot be read.
    """

    deciders: tuple[type[Object], ...]
    wanted: Callable[[World], frozenset[Name]]
    stand_in: Callable[[str, str, str], Object]


class Watcher(Protocol):
    """What follows one of them."""

    follower: Follower
    trouble: str

    @property
    def settled(self) -> bool:
        """Whether nothing has to be waited for."""

    async def run(self) -> None:
        """List and watch, for ever."""


W = TypeVar("W", bound=Watcher)


class NamedWatchers(Generic[W]):
    """The watchers of one kind. `make` makes one, of a namespace and a name; `ring` is called when one is late."""

    def __init__(
        self, kind: type[Object], by_name: ByName, make: Callable[[str, str], W], ring: Callable[[], None]
    ) -> None:
        self._by_name = by_name
        self._make = make
        self._ring = ring
        self._deciders = frozenset((each.GROUP, each.KIND) for each in by_name.deciders)
        self._kinds = self._deciders | {(kind.GROUP, kind.KIND)}
        self._world = World()
        self._decided = World()
        self._watchers: dict[Name, W] = {}
        self._tasks: dict[Name, asyncio.Task[None]] = {}
        # Those that references wait for.
        self._awaited: set[Name] = set()
        self._group: asyncio.TaskGroup | None = None

    @property
    def watchers(self) -> Iterable[W]:
        """All of them."""
        return self._watchers.values()

    @property
    def settled(self) -> bool:
        """Whether each of them has been read, or cannot be."""
        return all(each.settled for each in self._watchers.values())

    @property
    def held(self) -> frozenset[tuple[str, str]]:
        """The kinds, by group and name, of which nothing is to be told at the moment."""
        self._awaited -= {name for name in self._awaited if name not in self._tasks or self._watchers[name].settled}
        return self._kinds if self._awaited else frozenset()

    @property
    def spacing(self) -> float:
        """Seconds between two attempts at one that cannot be read."""
        return _SPACING * sum(bool(each.trouble) for each in self._watchers.values())

    async def run(self) -> None:
        """Keep them running, for ever; one that fails by a bug of ours ends this."""
        async with asyncio.TaskGroup() as self._group:
            self._ring()
            await asyncio.Event().wait()

    def note(self, changes: Sequence[Change]) -> None:
        """Take note of changes, all of one kind."""
        if not changes:
            return
        first = changes[0]
        key = first.object.key if isinstance(first, Upsert) else first.key
        if (key.group, key.kind) in self._deciders:
            self._world = self._world.apply(changes)

    def adapt(self) -> list[Change]:
        """Begin to follow what is referred to now, and end with what is not; return what is gone by that."""
        if self._world is self._decided or self._group is None:
            return []
        self._decided = self._world
        wanted = self._by_name.wanted(self._world)
        gone: list[Change] = []
        for name in sorted(self._watchers.keys() - wanted):
            self._tasks.pop(name).cancel()
            gone += self._watchers.pop(name).follower.forget()
        for name in sorted(wanted - self._watchers.keys()):
            self._watchers[name] = watcher = self._make(*name)
            self._tasks[name] = self._group.create_task(watcher.run())
            self._awaited.add(name)
            asyncio.get_running_loop().call_later(_PATIENCE, self._wait_no_longer, name)
        return gone

    def _wait_no_longer(self, name: Name) -> None:
        if name in self._awaited:
            # Not for those that have come since, either: there could always be another one.
            self._awaited.clear()
            self._ring()
