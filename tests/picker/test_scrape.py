"""Scraper and prober against real pods; clocks are the tests' own where time matters."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import pytest
from picker_worlds import Pod, pods

from picker.decision import Decision, Request
from picker.exchange import Picked
from picker.in_flight import InFlight
from picker.metrics_text import dialect_of
from picker.pools import Member
from picker.probe import Prober, ProbeTimes
from picker.scrape import Scraper, ScrapeTimes
from picker.strategies import DEFAULT
from picker.table import Endpoint, Table
from protos.pointsman.picker.v1.pool_pb2 import RUNTIME_SGLANG, RUNTIME_VLLM

TIMES = ScrapeTimes(busy=0.005, each=0.0, sums=0.0, idle=0.005, timeout=0.2, stall=10.0, heal=20.0)


@dataclass
class Rim:
    now: float = 0.0
    in_flight: InFlight = field(default_factory=InFlight)
    changes: list[tuple[str, str]] = field(default_factory=list)
    failures: int = 0
    woken: asyncio.Event = field(default_factory=asyncio.Event)

    def change(self, endpoint: Endpoint, reason: str) -> None:
        self.changes.append((endpoint.pod, reason))
        self.woken.set()

    def fail(self, _endpoint: Endpoint) -> None:
        self.failures += 1


@asynccontextmanager
async def scraping(
    rim: Rim, *made: Pod, runtime: int = RUNTIME_VLLM, times: ScrapeTimes = TIMES
) -> AsyncIterator[tuple[Scraper, Table]]:
    table = Table()
    table.replace(Endpoint(pod.address, pod.name) for pod in made)
    prober = Prober(rim.change, ProbeTimes(retry=0.01, pause=0.01))
    scraper = Scraper(
        clock=lambda: rim.now,
        dice=lambda: 0.5,
        in_flight=rim.in_flight,
        prober=prober,
        changed=rim.change,
        failed=rim.fail,
        times=times,
    )
    scraper.follow({row.address: Member(row, dialect_of(runtime), (table,)) for row in table.endpoints})
    try:
        async with asyncio.timeout(5):
            await scraper.settle()
        yield scraper, table
    finally:
        await scraper.close()
        await prober.close()


async def scraped_again(pod: Pod, times: int = 2) -> None:
    target = len(pod.asked) + times
    async with asyncio.timeout(5):
        while len(pod.asked) < target:
            await asyncio.sleep(0.002)


def begin(rim: Rim, table: Table) -> None:
    decision = DEFAULT.decide(Request(), table, lambda: 0.0)
    assert isinstance(decision, Decision)
    rim.in_flight.begin(Picked(str(len(rim.in_flight)), "p", "m", "m", decision, began=rim.now))


@pytest.mark.parametrize(("pods_", "interval"), [(1, 0.1), (20, 0.1), (32, 0.16), (100, 0.16), (120, 0.18), (400, 0.6)])
def test_many_pods_are_asked_less_often(pods_: int, interval: float) -> None:
    assert ScrapeTimes().while_in_use(pods_) == pytest.approx(interval)


async def test_the_table_says_what_the_pods_say() -> None:
    async with pods(Pod("a", 3, 5, 0.5), Pod("b", 1, 1, 0.25)) as made, scraping(Rim(), *made) as (_, table):
        a, b = table.endpoints
        assert (a.waiting, a.running, a.kv_usage, a.reported) == (3, 5, 0.5, True)
        assert (b.waiting, b.running, b.kv_usage) == (1, 1, 0.25)
        assert (table.peak_running, table.mean_waiting, table.mean_kv_usage) == (5, 2, 0.375)


async def test_a_pod_without_metrics_is_unknown_and_not_avoided() -> None:
    rim = Rim()
    async with pods(Pod("a", statuses={"/metrics": 404})) as made, scraping(rim, *made) as (_, table):
        [row] = table.endpoints
        assert (row.reported, row.avoided, rim.changes) == (False, False, [])


async def test_a_page_in_another_dialect_is_read_all_the_same() -> None:
    async with pods(Pod("a", waiting=3)) as made, scraping(Rim(), *made, runtime=RUNTIME_SGLANG) as (_, table):
        assert table.endpoints[0].waiting == 3


async def test_adapters_are_reported() -> None:
    async with pods(Pod("a", adapters="x,y")) as made, scraping(Rim(), *made) as (_, table):
        [row] = table.endpoints
        assert (row.adapters, row.adapters_waiting, row.adapter_limit) == (frozenset("xy"), frozenset(), 2)
        assert table.adapters == {"x", "y"}


async def test_figures_of_a_pod_that_hangs_grow_too_old() -> None:
    rim = Rim()
    async with pods(Pod("a", waiting=3)) as made, scraping(rim, *made) as (_, table):
        [row] = table.endpoints
        made[0].statuses["*"] = None
        async with asyncio.timeout(5):
            await rim.woken.wait()
        assert (row.avoided, row.reported, table.mean_waiting) == (True, True, 3)
        rim.now = 2.1
        rim.failures = 0
        async with asyncio.timeout(5):
            while rim.failures < 2:
                await asyncio.sleep(0.005)
        assert (row.reported, row.waiting, table.mean_waiting) == (False, 0, 0)


async def test_a_pod_that_is_gone_has_nothing_cached_when_it_is_back() -> None:
    rim = Rim()
    async with pods(Pod("a")) as made, scraping(rim, *made) as (_, table):
        [row] = table.endpoints
        row.prefixes.learn([1, 2, 3])
        await scraped_again(made[0])
        assert row.prefixes.match([1, 2, 3]) == 3
        await made[0].stop()
        async with asyncio.timeout(5):
            await rim.woken.wait()
        assert row.prefixes.match([1, 2, 3]) == 0


class Stalling(Pod):
    """A pod that keeps the whole process busy once, for longer than a scrape may take."""

    stalls: bool = False

    def _page(self, path: str) -> bytes:
        if self.stalls:
            self.stalls = False
            time.sleep(2 * TIMES.timeout)
        return super()._page(path)


async def test_that_the_picker_was_busy_says_nothing_of_a_pod() -> None:
    rim = Rim()
    async with pods(Stalling("a"), Pod("b")) as made, scraping(rim, *made) as (_, table):
        for _ in range(3):
            made[0].stalls = True  # type: ignore[attr-defined]
            await scraped_again(made[0])
            await scraped_again(made[1])
        assert rim.changes == []
        assert not any(row.avoided for row in table.endpoints)


# No scrape is due before a test is over.
SELDOM = replace(TIMES, busy=3600.0, idle=3600.0)


async def test_a_pod_that_ends_is_avoided_before_the_next_scrape_is_due() -> None:
    rim = Rim()
    async with pods(Pod("a"), Pod("b")) as made, scraping(rim, *made, times=SELDOM) as (_, table):
        await made[0].stop()
        async with asyncio.timeout(5):
            await rim.woken.wait()
        assert [row.avoided for row in table.endpoints] == [True, False]
        assert [len(pod.asked) for pod in made] == [1, 1]


async def test_a_server_that_closes_every_connection_is_not_asked_without_pause() -> None:
    async with pods(Pod("a", closes=True)) as made, scraping(Rim(), *made, times=SELDOM):
        await scraped_again(made[0], 1)
        for _ in range(50):
            await asyncio.sleep(0.001)
        assert len(made[0].asked) == 2


async def test_a_pod_that_answers_503_is_avoided_until_it_does_not() -> None:
    rim = Rim()
    async with pods(Pod("a", statuses={"*": 503})) as made, scraping(rim, *made) as (_, table):
        assert rim.changes == [("a", "/metrics answers 503")]
        assert rim.failures >= 1
        rim.woken.clear()
        made[0].statuses.clear()
        async with asyncio.timeout(5):
            await rim.woken.wait()
        assert not table.endpoints[0].avoided


async def test_one_connection_serves_many_scrapes() -> None:
    async with pods(Pod("a")) as made, scraping(Rim(), *made):
        await scraped_again(made[0], 5)
        assert len(made[0]._open) == 1  # noqa: SLF001  (the stand-in's own)


async def test_a_count_that_nobody_ends_is_healed_by_an_idle_pod() -> None:
    rim = Rim()
    async with pods(Pod("a", running=1)) as made, scraping(rim, *made) as (_, table):
        begin(rim, table)
        rim.now = 5.0
        made[0].running = 0
        await scraped_again(made[0])
        [row] = table.endpoints
        assert row.in_flight == 1
        rim.now = 30.0
        await scraped_again(made[0])
        assert row.in_flight == 0
        assert len(rim.in_flight) == 1


async def test_an_idle_pod_that_holds_our_request_is_probed_first() -> None:
    rim = Rim()
    async with pods(Pod("a")) as made, scraping(rim, *made) as (_, table):
        begin(rim, table)
        rim.now = 11.0
        async with asyncio.timeout(5):
            while "/v1/completions" not in made[0].asked:
                await asyncio.sleep(0.002)
        assert rim.changes == []


async def test_endpoints_that_go_are_left_alone() -> None:
    async with pods(Pod("a")) as made, scraping(Rim(), *made) as (scraper, _):
        scraper.follow({})
        asked = len(made[0].asked)
        await scraper.settle()
        await asyncio.sleep(0.02)
        assert len(made[0].asked) <= asked + 1
