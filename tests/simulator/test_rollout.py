"""Controllers against a cluster in which pods get ready and are gone whenever they like."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.rollout import Controller, Numbered, Recreate, Rolling, Scaled, Step, Unit

OLD, NEW = "old", "new"


def units(count: int, revision: str = OLD, start: int = 0) -> list[Unit]:
    return [Unit(place, revision, ready=True) for place in range(start, start + count)]


@dataclass
class Cluster:
    """What there is, and the fewest that were ready and the most that there were besides those that leave."""

    units: list[Unit]
    fewest: int = 10**9
    most: int = 0
    created: list[int] = field(default_factory=list)

    def take(self, step: Step, revision: str) -> None:
        assert {unit.place for unit in step.remove if unit.leaving} == set()
        self.units = [replace(unit, leaving=unit.leaving or unit in step.remove) for unit in self.units]
        for place in step.create:
            assert (place, revision) not in {(unit.place, unit.revision) for unit in self.units}
            self.units.append(Unit(place, revision, ready=False))
        self.created += step.create
        self.most = max(self.most, len(self.active))
        self.fewest = min(self.fewest, sum(unit.ready for unit in self.active))

    @property
    def active(self) -> list[Unit]:
        return [unit for unit in self.units if not unit.leaving]

    def happen(self, number: int) -> None:
        """Have one unit that starts get ready, or one that leaves be gone."""
        pending = [unit for unit in self.units if unit.leaving or not unit.ready]
        if pending:
            unit = pending[number % len(pending)]
            self.units.remove(unit)
            if not unit.leaving:
                self.units.append(replace(unit, ready=True))


def settle(controller: Controller, replicas: int, cluster: Cluster, order: Iterable[int]) -> None:
    """Step and have things happen until all is as it shall be."""
    happenings = iter(order)
    for _ in range(1000):
        step = controller.step(replicas, NEW, cluster.units)
        cluster.take(step, NEW)
        waiting = any(unit.leaving or not unit.ready for unit in cluster.units)
        if step == Step() and not waiting:
            return
        cluster.happen(next(happenings, 0))
    pytest.fail("it does not come to an end")


ORDER = st.lists(st.integers(0, 1000), max_size=60)
AMOUNT = st.one_of(st.integers(0, 5), st.integers(0, 100).map("{}%".format))


@given(st.integers(0, 12), st.integers(0, 12), AMOUNT, AMOUNT, ORDER)
def test_a_rolling_update_keeps_to_its_bounds(
    before: int, replicas: int, surge: int | str, unavailable: int | str, order: list[int]
) -> None:
    cluster = Cluster(units(before))
    settle(Rolling(surge, unavailable), replicas, cluster, order)
    assert [(unit.revision, unit.ready) for unit in cluster.units] == [(NEW, True)] * replicas
    over = surge if isinstance(surge, int) else -(-int(surge[:-1]) * replicas // 100)
    under = unavailable if isinstance(unavailable, int) else int(unavailable[:-1]) * replicas // 100
    if not over and not under:
        under = 1
    assert cluster.most <= max(before, replicas + over)
    assert cluster.fewest >= min(before, replicas - under)


def test_a_rolling_updates_first_steps_with_kubernetes_defaults() -> None:
    assert Rolling().step(4, NEW, units(4)) == Step((0,), (Unit(3, OLD, ready=True),))
    assert Rolling().step(1, NEW, units(1)) == Step((0,))
    # 25% of 10, up and down.
    step = Rolling().step(10, NEW, units(10))
    assert (len(step.create), [unit.place for unit in step.remove]) == (3, [9, 8])


def test_old_units_that_serve_nobody_go_first() -> None:
    broken = [replace(unit, ready=unit.place != 0) for unit in units(4)]
    assert Rolling(1, 1).step(4, NEW, broken).remove == (broken[0],)


def test_a_stuck_update_leaves_enough_old_ones() -> None:
    cluster = Cluster(units(4))
    for _ in range(10):
        # The new ones never get ready.
        cluster.take(Rolling().step(4, NEW, cluster.units), NEW)
    assert (cluster.fewest, len(cluster.active)) == (3, 5)


@given(st.integers(0, 8), st.integers(0, 8), ORDER)
def test_recreation_has_no_two_revisions_at_a_time(before: int, replicas: int, order: list[int]) -> None:
    class Watched(Recreate):
        def step(self, replicas: int, revision: str, units: list[Unit]) -> Step:  # type: ignore[override]
            step = super().step(replicas, revision, units)
            assert not (step.create and any(unit.revision == OLD for unit in units))
            return step

    cluster = Cluster(units(before))
    settle(Watched(), replicas, cluster, order)
    assert [(unit.revision, unit.ready) for unit in cluster.units] == [(NEW, True)] * replicas


@given(st.integers(0, 8), st.integers(0, 8), ORDER)
def test_a_replica_set_keeps_what_it_has(before: int, replicas: int, order: list[int]) -> None:
    cluster = Cluster(units(before))
    settle(Scaled(), replicas, cluster, order)
    kept = min(before, replicas)
    assert [unit.revision for unit in cluster.units] == [OLD] * kept + [NEW] * (replicas - kept)


@given(
    before=st.integers(0, 6),
    replicas=st.integers(0, 6),
    ordered=st.booleans(),
    unavailable=st.integers(1, 3),
    order=ORDER,
)
def test_numbered_units_have_their_places(
    *, before: int, replicas: int, ordered: bool, unavailable: int, order: list[int]
) -> None:
    cluster = Cluster(units(before, start=2))
    settle(Numbered(2, ordered, unavailable=unavailable), replicas, cluster, order)
    assert sorted((unit.place, unit.revision) for unit in cluster.units) == [
        (place, NEW) for place in range(2, 2 + replicas)
    ]
    assert cluster.most <= max(before, replicas)
    assert cluster.fewest >= min(before, replicas - unavailable)


def test_ordered_units_come_one_by_one_and_are_replaced_from_the_last() -> None:
    cluster = Cluster([])
    settle(Numbered(ordered=True), 3, cluster, ())
    assert cluster.created == [0, 1, 2]
    assert Numbered(ordered=True).step(3, "third", cluster.units).remove == (Unit(2, NEW, ready=True),)
    assert Numbered(ordered=True).step(1, NEW, cluster.units).remove == (Unit(2, NEW, ready=True),)
    assert len(Numbered().step(1, NEW, cluster.units).remove) == 2


@pytest.mark.parametrize("controller", [Numbered(partition=2), Numbered(replaces=False)])
def test_numbered_units_that_are_not_to_be_replaced(controller: Numbered) -> None:
    cluster = Cluster(units(3))
    settle(controller, 3, cluster, ())
    assert [unit.revision for unit in cluster.units] == [OLD, OLD, NEW if controller.replaces else OLD]
