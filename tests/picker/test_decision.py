from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from picker.decision import NO_READY_ENDPOINT, Decision, Drained, Profile, Request
from picker.strategies import DEFAULT
from picker.strategies.filters import SATURATED
from picker.strategies.load import queue
from picker.strategies.lora import lora
from picker.strategies.picks import cheapest
from picker.table import Endpoint, Table

ANY = Request("m")


def endpoint(name: str, **figures: float) -> Endpoint:
    made = Endpoint(name, f"pod-{name}", reported=True)
    for figure, value in figures.items():
        setattr(made, figure, value)
    return made


def table(*endpoints: Endpoint) -> Table:
    made = Table()
    made.replace(endpoints)
    return made


def decide(made: Table, request: Request = ANY, throw: float = 0.0) -> Decision:
    decision = DEFAULT.decide(request, made, lambda: throw)
    assert isinstance(decision, Decision)
    return decision


def order(made: Table, request: Request = ANY) -> list[str]:
    return [endpoint.address for endpoint in decide(made, request).endpoints]


def spread(made: Table, requests: int) -> Counter[str]:
    dice = random.Random(7).random  # noqa: S311  (dice)
    drawn: Counter[str] = Counter()
    for _ in range(requests):
        decision = DEFAULT.decide(ANY, made, dice)
        assert isinstance(decision, Decision)
        decision.picked.begin()
        drawn[decision.picked.address] += 1
    return drawn


def test_the_shortest_queue_comes_first() -> None:
    made = table(endpoint("a", waiting=4), endpoint("b", waiting=1), endpoint("c", waiting=9), endpoint("d", waiting=2))
    assert order(made) == ["b", "d", "a", "c"]


def test_alternatives_are_the_next_cheapest_and_then_any_others() -> None:
    dice = random.Random(7).random  # noqa: S311  (dice)
    lists = [cheapest([float(cost) for cost in range(100)], dice) for _ in range(200)]
    assert all(found[:3] == [0, 1, 2] and len(set(found)) == 6 for found in lists)
    assert len({place for found in lists for place in found[3:]}) > 80


def test_of_equal_queues_the_emptier_cache_comes_first() -> None:
    assert order(table(endpoint("a", kv_usage=0.6), endpoint("b", kv_usage=0.2))) == ["b", "a"]


def test_nobody_waiting_beats_an_empty_cache() -> None:
    assert order(table(endpoint("a", waiting=1), endpoint("b", kv_usage=0.9))) == ["b", "a"]


def test_of_equal_caches_the_pod_that_runs_less_comes_first() -> None:
    assert order(table(endpoint("a", running=8), endpoint("b", running=2))) == ["b", "a"]


def test_a_burst_between_two_reports_fills_the_pods_up_to_what_they_can_run() -> None:
    made = table(endpoint("full", running=8, kv_usage=0.1), endpoint("idle"))
    assert spread(made, 8) == {"idle": 8}
    assert spread(made, 8) == {"idle": 4, "full": 4}


def test_requests_to_a_pod_with_a_queue_join_the_queue() -> None:
    made = table(endpoint("a", waiting=3, running=8), endpoint("b", waiting=5, running=8))
    assert spread(made, 12) == {"a": 7, "b": 5}


def test_a_report_replaces_our_own_count() -> None:
    made = endpoint("a")
    tickets = [made.begin() for _ in range(5)]
    assert made.unreported == 5
    made.report(waiting=0, running=5, kv_usage=0.1, in_flight=5, now=1.0)
    assert made.unreported == 0
    made.begin()
    assert made.unreported == 1
    for ticket in tickets[:4]:
        made.end(ticket)
    assert made.unreported == 0


def test_equals_are_drawn_at_random() -> None:
    made = table(*(endpoint(name) for name in "abcd"))
    dice = random.Random(3).random  # noqa: S311  (dice)
    drawn = Counter(
        decision.picked.address
        for _ in range(4000)
        if isinstance(decision := DEFAULT.decide(ANY, made, dice), Decision)
    )
    assert all(850 < drawn[name] < 1150 for name in "abcd")


def test_equals_that_are_not_neighbours_are_drawn_evenly() -> None:
    made = table(endpoint("a"), endpoint("b"), *(endpoint(str(number), waiting=1) for number in range(8)))
    dice = random.Random(3).random  # noqa: S311  (dice)
    drawn = Counter(
        decision.picked.address
        for _ in range(2000)
        if isinstance(decision := DEFAULT.decide(ANY, made, dice), Decision)
    )
    assert 900 < drawn["a"] < 1100


def test_an_avoided_pod_is_neither_picked_nor_an_alternative() -> None:
    down = endpoint("a")
    down.mark_reachable(reachable=False)
    assert order(table(down, endpoint("b", waiting=50), endpoint("c", waiting=60))) == ["b", "c"]


def test_when_all_are_avoided_all_are_offered() -> None:
    pods = [endpoint("a", waiting=2), endpoint("b")]
    for pod in pods:
        pod.mark_failing(failing=True)
    decision = decide(table(*pods))
    assert [pod.address for pod in decision.endpoints] == ["b", "a"]
    assert decision.basis.endswith("all avoided")


def test_a_pod_that_was_never_asked_waits_until_it_was() -> None:
    known, new, bad = endpoint("a", waiting=9), endpoint("b"), endpoint("c")
    known.mark_reachable(reachable=True)
    bad.mark_reachable(reachable=False)
    assert order(table(known, new, bad)) == ["a"]
    assert order(table(new, bad)) == ["b"]
    assert not new.avoided
    new.mark_reachable(reachable=True)
    assert order(table(known, new, bad)) == ["b", "a"]


def test_a_pod_is_avoided_until_every_reason_is_gone() -> None:
    pod = endpoint("a")
    assert pod.mark_reachable(reachable=False)
    assert not pod.mark_failing(failing=True)
    assert not pod.mark_reachable(reachable=True)
    assert pod.avoided
    assert pod.mark_failing(failing=False)
    assert not pod.avoided


def test_a_pod_without_metrics_counts_as_average() -> None:
    unknown = Endpoint("u", "pod-u")
    assert order(table(endpoint("a", waiting=4), unknown, endpoint("b"))) == ["b", "u", "a"]


def test_pods_without_metrics_share_by_our_own_count() -> None:
    assert spread(table(*(Endpoint(name, name) for name in "abc")), 30) == {"a": 10, "b": 10, "c": 10}


def test_adapters_go_where_they_are_loaded_or_can_be() -> None:
    loaded, room, waiting, full, silent = (endpoint(name) for name in "abcde")
    loaded.report_adapters(frozenset("xy"), frozenset(), 2)
    room.report_adapters(frozenset("y"), frozenset(), 2)
    waiting.report_adapters(frozenset("yz"), frozenset("x"), 2)
    full.report_adapters(frozenset("yz"), frozenset(), 2)
    made = table(loaded, room, waiting, full, silent)
    assert lora(Request("x"), made, made.endpoints) == [0, 1, 10, 20, 1]
    assert lora(Request("base"), made, made.endpoints) is None
    decision = decide(made, Request("x"))
    assert (decision.picked.address, decision.reason) == ("a", "lora")


def test_an_adapter_does_not_pile_up_on_one_pod() -> None:
    loaded, room = endpoint("a", waiting=3), endpoint("b")
    loaded.report_adapters(frozenset("x"), frozenset(), 2)
    room.report_adapters(frozenset(), frozenset(), 2)
    assert order(table(loaded, room), Request("x")) == ["b", "a"]


def test_long_prompts_weigh_until_they_are_computed() -> None:
    one, other = endpoint("a"), endpoint("b")
    made = table(one, other)
    one.report(0, 0, 0.0, 0, 0.0, firsts=0)
    one.begin(40_000, 0.0)
    other.begin(100, 0.0)
    for now, firsts, first in ((0.1, 0, "b"), (0.2, 0, "b"), (0.3, 1, "a")):
        one.report(0, 1, 0.1, 1, now, firsts=firsts)
        other.report(0, 1, 0.2, 1, now, firsts=0)
        made.used_at = now
        assert order(made)[0] == first


def test_a_pod_that_counts_no_first_tokens_has_computed_what_it_reports() -> None:
    one, other = endpoint("a"), endpoint("b", running=1)
    made = table(one, other)
    one.begin(40_000)
    other.begin()
    assert order(made) == ["b", "a"]
    one.report(0, 1, 0.0, 1, 1.0)
    other.report(0, 2, 0.0, 1, 1.0)
    assert order(made) == ["a", "b"]


def test_who_waits_while_there_is_room_waits_for_prompts_alone() -> None:
    room, full, unknown = endpoint("a"), endpoint("b"), endpoint("c")
    room.report(3, 4, 0.5, 7, 1.0, firsts=10)
    full.report(3, 8, 0.5, 11, 1.0, firsts=10)
    unknown.report(3, 4, 0.5, 7, 1.0)
    made = table(room, full, unknown)
    assert queue(ANY, made, made.endpoints) == [0, 3, 3]
    room.report(3, 4, 0.9, 7, 2.0, firsts=10)
    assert queue(ANY, made, made.endpoints) == [3, 3, 3]


def test_the_gateway_may_confine_the_choice() -> None:
    made = table(endpoint("a"), endpoint("b", waiting=9))
    assert order(made, Request("m", frozenset({"b"}))) == ["b"]
    assert DEFAULT.decide(Request("m", frozenset({"z"})), made, random.random) == Drained(NO_READY_ENDPOINT)


def test_an_empty_pool_has_no_choice() -> None:
    assert DEFAULT.decide(ANY, table(), random.random) == Drained(NO_READY_ENDPOINT)


def test_the_basis_says_what_the_choice_rested_on() -> None:
    made = endpoint("a", waiting=3, kv_usage=0.41, running=8)
    made.begin()
    basis = decide(table(made, endpoint("b", waiting=9))).basis
    assert basis == "waiting=3 kv=0.41 running=8 in_flight=1 of=2 by=queue"


def test_what_ended_since_the_report_runs_no_longer() -> None:
    ended = endpoint("a", running=2, in_flight_at_scrape=2)
    assert decide(table(ended, endpoint("b", running=1))).picked is ended
    others = endpoint("a", running=1, in_flight_at_scrape=5)
    assert decide(table(others, endpoint("b", kv_usage=0.01))).picked is others


def test_the_reason_names_what_told_the_pick_from_the_next() -> None:
    assert decide(table(endpoint("a", waiting=3), endpoint("b", kv_usage=0.5))).reason == "queue"
    assert decide(table(endpoint("a", kv_usage=0.3), endpoint("b", kv_usage=0.2, running=1))).reason == "occupancy"
    assert decide(table(endpoint("a", kv_usage=0.3), endpoint("b"))).reason == "kv_cache"
    assert decide(table(endpoint("a"), endpoint("b"))).reason == "draw"
    assert decide(table(endpoint("a"))).reason == "only"


def test_a_trace_has_every_candidates_costs() -> None:
    made = table(endpoint("a", waiting=3), endpoint("b", kv_usage=0.5), endpoint("c", waiting=1, running=2))
    assert decide(made).trace is None
    decision = DEFAULT.decide(ANY, made, lambda: 0.0, explain=True)
    assert isinstance(decision, Decision)
    assert decision.trace is not None
    rows = [(row["pod"], row["cost"], row["queue"], row["kv_cache"], row["occupancy"]) for row in decision.trace.rows()]
    assert rows == [("pod-b", 0.5, 0.0, 0.5, 0.0), ("pod-c", 2.0, 1.0, 0.0, 1.0), ("pod-a", 3.0, 3.0, 0.0, 0.0)]


def test_a_profile_weighs_its_scorers_and_passes_over_those_with_nothing_to_say() -> None:
    def last(_request: Request, _table: Table, endpoints: Sequence[Endpoint]) -> list[float]:
        return [float(len(endpoints) - place) for place in range(len(endpoints))]

    def silent(_request: Request, _table: Table, _endpoints: Sequence[Endpoint]) -> None:
        return None

    made = table(endpoint("a"), endpoint("b"), endpoint("c", waiting=5))
    for weight, picked in ((1.0, "b"), (10.0, "c")):
        profile = Profile((), ((silent, 1.0), (queue, 1.0), (last, weight)), cheapest)
        decision = profile.decide(ANY, made, lambda: 0.0)
        assert isinstance(decision, Decision)
        assert (decision.picked.address, decision.reason) == (picked, "last")


def test_a_filter_that_leaves_nobody_gives_its_reason() -> None:
    def nobody(_request: Request, _table: Table, _endpoints: Sequence[Endpoint]) -> Sequence[Endpoint]:
        return ()

    profile = Profile(((nobody, "saturated"),), (), cheapest)
    assert profile.decide(ANY, table(endpoint("a")), lambda: 0.0) == Drained("saturated")
    assert profile.decide(ANY, table(), lambda: 0.0) == Drained(NO_READY_ENDPOINT)


ROWS = st.builds(
    lambda number, waiting, running, kv, in_flight, at_scrape, reported, avoided: _row(
        Endpoint(str(number), "p", waiting, running, kv, reported, in_flight, at_scrape), avoided=avoided
    ),
    st.integers(0, 10**6),
    st.integers(0, 1000),
    st.integers(0, 300),
    st.floats(0, 1),
    st.integers(0, 500),
    st.integers(0, 500),
    st.booleans(),
    st.booleans(),
)


def _row(row: Endpoint, *, avoided: bool) -> Endpoint:
    row.mark_failing(failing=avoided)
    return row


@given(st.lists(ROWS, min_size=1, max_size=12, unique_by=lambda row: row.address), st.floats(0, 1, exclude_max=True))
def test_any_table_gives_distinct_endpoints_and_avoids_whom_it_can(rows: list[Endpoint], throw: float) -> None:
    made = table(*rows)
    decision = decide(made, throw=throw)
    usable = [row for row in rows if not row.avoided] or rows
    assert len({id(row) for row in decision.endpoints}) == len(decision.endpoints) == min(6, len(usable))
    assert all(row in usable for row in decision.endpoints)


@given(st.lists(ROWS, min_size=2, max_size=8, unique_by=lambda row: row.address))
def test_a_pod_that_is_better_in_everything_is_never_passed_over(rows: list[Endpoint]) -> None:
    for row in rows:
        row.reported = True
        row.in_flight_at_scrape = row.in_flight
    picked = decide(table(*rows)).picked
    for row in rows:
        better = row.waiting < picked.waiting and row.running < picked.running and row.kv_usage < picked.kv_usage
        assert row.avoided or not better


def test_a_request_on_its_way_into_the_batch_sheds_nobody() -> None:
    made = table(endpoint("a", waiting=1, running=3, in_flight=9, in_flight_at_scrape=1))
    assert isinstance(DEFAULT.decide(Request("m", sheddable=True), made, lambda: 0.0), Decision)


@given(st.lists(ROWS, min_size=1, max_size=12, unique_by=lambda row: row.address), st.floats(0, 1, exclude_max=True))
def test_shedding_hits_only_what_may_be_shed_and_only_when_all_are_busy(rows: list[Endpoint], throw: float) -> None:
    made = table(*rows)
    assert isinstance(DEFAULT.decide(Request("m"), made, lambda: throw), Decision)
    usable = [row for row in rows if not row.avoided] or rows
    idle = [row for row in usable if not row.reported or (row.kv_usage <= 0.8 and not row.waiting)]
    busy = [row for row in usable if row.reported and (row.kv_usage > 0.8 or row.waiting > 5)]
    decision = DEFAULT.decide(Request("m", sheddable=True), made, lambda: throw)
    if isinstance(decision, Drained):
        assert decision.reason == SATURATED
        assert not idle
    else:
        assert len(busy) < len(usable)
