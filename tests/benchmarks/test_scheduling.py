"""The traces are what they say, and in virtual time the picker's strategies beat what knows nothing of the servers."""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from statistics import mean

import pytest

from benchmarks.scheduling import traces, virtual
from benchmarks.scheduling.fleet import Fleet
from benchmarks.scheduling.outcome import Figures, Outcome, figures, percentile
from benchmarks.scheduling.traces import Slo

SECONDS = 20.0


@cache
def play(router: str, trace: str) -> Figures:
    return figures(virtual.run(router, traces.build(trace, seed=1, seconds=SECONDS), Fleet()), Slo())


@pytest.mark.parametrize("name", traces.names())
def test_a_trace_is_made_from_its_seed_alone(name: str) -> None:
    made = traces.build(name, seed=1, seconds=SECONDS)
    assert made == traces.build(name, seed=1, seconds=SECONDS)
    assert made != traces.build(name, seed=2, seconds=SECONDS)
    times = [arrival.at for arrival in made.arrivals]
    assert times == sorted(times)
    assert 0 <= times[0] < times[-1] < SECONDS
    assert 0.8 < len(times) / (made.rate * SECONDS) < 1.2
    # Poisson: the gaps' mean is their standard deviation.
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert 0.8 < mean(gap * gap for gap in gaps) / (2 * mean(gaps) ** 2) < 1.25


def test_a_slower_trace_is_the_same_one() -> None:
    usual = traces.build("mixed", seed=1, seconds=SECONDS)
    slow = traces.build("mixed", seed=1, seconds=SECONDS, slow=2.0)
    assert [each.at * 2 for each in usual.arrivals] == [each.at for each in slow.arrivals]
    assert [each.body for each in usual.arrivals] == [each.body for each in slow.arrivals]


def test_virtual_time_gives_the_same_figures_again() -> None:
    trace = traces.build("shared-prefixes", seed=3, seconds=5.0)
    assert virtual.run("PREFIX_CACHE", trace, Fleet()) == virtual.run("PREFIX_CACHE", trace, Fleet())


def test_what_is_repeated_is_found_cached() -> None:
    for trace in ("shared-prefixes", "multi-turn"):
        ours, rest = play("PREFIX_CACHE", trace), play("round robin", trace)
        assert ours.hits > rest.hits + 0.1
        assert ours.ttft_mean < 0.6 * rest.ttft_mean
        assert ours.goodput >= rest.goodput


def test_long_prompts_are_gone_around() -> None:
    ours = play("DEFAULT", "mixed")
    for rest in ("round robin", "least request"):
        assert ours.ttft_mean < 0.8 * play(rest, "mixed").ttft_mean
        assert ours.goodput > play(rest, "mixed").goodput


def test_adapters_do_not_wait_for_one_another() -> None:
    ours = play("DEFAULT", "lora")
    for rest in ("round robin", "least request"):
        assert ours.ttft_p90 < 0.5 * play(rest, "lora").ttft_p90


def test_figures_of_outcomes() -> None:
    slow = Outcome(due=1, sent=1, first=4, last=5, answer=11, prompt=100, cached=0)
    fast = Outcome(due=1, sent=1.5, first=2, last=3, answer=11, prompt=300, cached=200)
    found = figures([slow, fast, Outcome(due=2, error="500")], Slo(ttft=2, tpot=0.2))
    assert (found.requests, found.failed) == (3, 1)
    assert (found.ttft_mean, found.ttft_p99, found.tpot_p50) == (1750, 3000, 100)
    assert (found.goodput, found.hits) == (1 / 3, 0.5)
    assert figures([], Slo()).requests == 0


def test_percentiles_are_values_that_occurred() -> None:
    assert percentile([1, 2, 3, 4], 0.5) == 3
    assert percentile([1, 2, 3, 4], 0.99) == 4
    assert percentile([], 0.5) == 0
