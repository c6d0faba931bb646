"""Which pods come and go next: the controllers of workloads, each of which looks at the pods that there are. Pure.

A controller takes one step at a time; what becomes of it, pods that get ready or are gone, leads to the next one. The
rules are those of Kubernetes' controllers: deployment (rolling.go, recreate.go), replicaset, statefulset
(stateful_set_control.go), and LeaderWorkerSet's, which replaces groups as a StatefulSet replaces pods.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, islice
from math import inf
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Unit:
    """What comes and goes together, at its place in the workload: a pod, or a group of pods.

    `leaving`: it was told to go and is still there.
    """

    place: int
    revision: str
    ready: bool
    leaving: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """The places at which to make units of the wanted revision, and the units to let go."""

    create: tuple[int, ...] = ()
    remove: tuple[Unit, ...] = ()


class Controller(Protocol):
    """Keeps `replicas` units of the wanted `revision`."""

    def step(self, replicas: int, revision: str, units: Sequence[Unit]) -> Step:
        """Say what to do next; an empty step when there is nothing to do, or something to wait for."""


@dataclass(frozen=True, slots=True)
class Rolling:
    """A Deployment's: at most `surge` units too many, and at most `unavailable` ready ones too few."""

    surge: int | str = "25%"
    unavailable: int | str = "25%"

    def step(self, replicas: int, revision: str, units: Sequence[Unit]) -> Step:
        """Make new units as far as the surge allows, and let go old ones as far as enough are ready."""
        surge = _of(self.surge, replicas, up=True)
        # Both zero would leave no way to go (ResolveFenceposts).
        unavailable = _of(self.unavailable, replicas, up=False) or (0 if surge else 1)
        active = _active(units)
        new = [unit for unit in active if unit.revision == revision]
        old = [unit for unit in active if unit.revision != revision]
        create = max(0, min(replicas + surge - len(active), replicas - len(new)))
        surplus = _first_to_go(new)[: max(0, len(new) - replicas)]
        least = replicas - unavailable
        waiting = sum(not unit.ready for unit in new)
        # Old ones that serve nobody go first.
        idle = [unit for unit in old if not unit.ready][: max(0, len(active) - least - waiting)]
        spare = max(0, sum(unit.ready for unit in active) - least)
        serving = _first_to_go(unit for unit in old if unit.ready)[:spare]
        return Step(tuple(_free(units, revision, create)), (*surplus, *idle, *serving))


@dataclass(frozen=True, slots=True)
class Recreate:
    """A Deployment's whose old pods are gone before there are new ones."""

    def step(self, replicas: int, revision: str, units: Sequence[Unit]) -> Step:
        """Let go all old units; when none is left, make new ones."""
        old = [unit for unit in units if unit.revision != revision]
        if old:
            return Step(remove=tuple(_active(old)))
        return _scaled(replicas, revision, units)


@dataclass(frozen=True, slots=True)
class Scaled:
    """A ReplicaSet's: another template is for units yet to come."""

    def step(self, replicas: int, revision: str, units: Sequence[Unit]) -> Step:
        """Make units that are missing or let go those that are too many."""
        return _scaled(replicas, revision, units)


@dataclass(frozen=True, slots=True)
class Numbered:
    """A StatefulSet's: units have their places for good, and one is gone before another takes its place.

    With `ordered` they come and go one by one, and each waits until those before it are ready. If it `replaces` old
    units at all, it does so at places from `partition` on, the last first, while at most `unavailable` are missing.
    """

    start: int = 0
    ordered: bool = False
    partition: int = 0
    unavailable: int | str = 1
    replaces: bool = True

    def step(self, replicas: int, revision: str, units: Sequence[Unit]) -> Step:
        """Let go units beyond the last place, fill the places, then replace what is old."""
        places = range(self.start, self.start + replicas)
        here = {unit.place: unit for unit in units if unit.place in places}
        missing = [place for place in places if place not in here]
        beyond = sorted((unit for unit in units if unit.place not in places), key=_place, reverse=True)
        if self.ordered:
            return self._one_by_one(here, missing, beyond) or self._replace(places, revision, here)
        if missing or _active(beyond):
            return Step(tuple(missing), tuple(_active(beyond)))
        return self._replace(places, revision, here)

    def _one_by_one(self, here: Mapping[int, Unit], missing: Sequence[int], beyond: Sequence[Unit]) -> Step | None:
        """Make the first that is missing, else let the last go that is too many; None when all are there and ready."""
        first = missing[0] if missing else inf
        if not all(unit.ready and not unit.leaving for place, unit in here.items() if place < first):
            return Step()
        if missing:
            return Step((missing[0],))
        if beyond:
            return Step() if any(unit.leaving for unit in beyond) else Step(remove=(beyond[0],))
        return None

    def _replace(self, places: range, revision: str, here: Mapping[int, Unit]) -> Step:
        """Let old units go, the last first, as far as enough others are ready."""
        if not self.replaces:
            return Step()
        away = sum(not unit.ready or unit.leaving for unit in here.values())
        allowed = max(1, _of(self.unavailable, len(places), up=True)) - away
        old = [
            here[place] for place in reversed(places) if place >= self.partition and here[place].revision != revision
        ]
        return Step(remove=tuple(_active(old)[: max(0, allowed)]))


def _scaled(replicas: int, revision: str, units: Sequence[Unit]) -> Step:
    active = _active(units)
    create = max(0, replicas - len(active))
    return Step(tuple(_free(units, revision, create)), tuple(_first_to_go(active)[: max(0, len(active) - replicas)]))


def _active(units: Iterable[Unit]) -> list[Unit]:
    return [unit for unit in units if not unit.leaving]


def _first_to_go(units: Iterable[Unit]) -> list[Unit]:
    """Order units as a ReplicaSet lets them go: those that are not ready, then the latest."""
    return sorted(units, key=lambda unit: (unit.ready, -unit.place))


def _place(unit: Unit) -> int:
    return unit.place


def _free(units: Iterable[Unit], revision: str, number: int) -> Iterator[int]:
    """Give places at which there is no unit of the revision, not even a leaving one: names are not used twice."""
    taken = {unit.place for unit in units if unit.revision == revision}
    return islice((place for place in count() if place not in taken), number)


def _of(amount: int | str, replicas: int, *, up: bool) -> int:
    """Resolve a percentage of the replicas."""
    if isinstance(amount, int):
        return amount
    percent = int(amount.removesuffix("%"))
    return -(-percent * replicas // 100) if up else percent * replicas // 100
