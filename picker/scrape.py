"""Asking the pods for their load, ten times a second where a pool is in use and twice where it is not.

A pod that refuses, resets, answers 5xx or does not answer within `timeout` is avoided at once, until it answers
again.  A pod without a readable page (404, or none of the families) is not avoided: it only stays unknown.

A pod that ends closes the connection that is kept for asking it: then it is asked at once and not when it is due, so
that next to no request is sent to a pod that has just died or was told to go.

Scraping also heals our own count.  A pod that says for a while that it runs nothing and has nothing waiting cannot hold
the requests that we count there from before: either they are lost to us, and are no longer counted; or the pod takes
requests and does nothing with them, which the prober finds out first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from picker.http_client import Connection, was_late
from picker.in_flight import InFlight
from picker.metrics_text import Adapters, read_any
from picker.pools import Member
from picker.probe import Prober
from picker.table import Endpoint, Table

_OK = 200
_SERVER_ERROR = 500
_NO_ADAPTERS = Adapters(frozenset(), frozenset(), 0)


@dataclass(frozen=True, slots=True)
class ScrapeTimes:
    """Seconds: intervals between two questions to a pod in use, and to an idle one; how long what reports change may
    wait to be added up; how long a use counts; the bound of an answer; how old figures may be that still count; how
    long an idle pod may hold requests of ours before it is suspected, and before they are no longer counted.

    A page costs its server some milliseconds, and its reader a tenth of one.  So with n pods in all the interval in use
    is n * `each`, at least `busy` and at most `many`; beyond that there is a question every `gap`: up to 20 pods are
    asked every 100 ms, 32 to 106 every 160 ms.
    """  # noqa: D205  (one list)

    busy: float = 0.1
    many: float = 0.16
    each: float = 0.005
    gap: float = 0.0015
    idle: float = 0.5
    sums: float = 0.01
    in_use: float = 5.0
    timeout: float = 1.0
    stale: float = 2.0
    stall: float = 0.5
    heal: float = 5.0

    def while_in_use(self, pods: int) -> float:
        """Tell the interval in use when there are so many pods in all."""
        return max(self.busy, min(self.each * pods, self.many), self.gap * pods)


class _Pause:
    """Pauses that can be ended early, but never two in a row: some servers close every connection."""

    def __init__(self) -> None:
        self._over: asyncio.Future[None] | None = None
        self._asked = False
        self._was_cut = False

    async def last(self, seconds: float) -> None:
        """Wait so long, or until somebody ends it, or not at all if somebody has since the last one."""
        loop = asyncio.get_running_loop()
        over = loop.create_future()
        may_be_cut = not self._was_cut
        if may_be_cut:
            self._over = over
            if self._asked:
                over.set_result(None)
        timer = loop.call_later(seconds, _settle, over)
        try:
            await over
        finally:
            timer.cancel()
            self._over = None
            self._was_cut = may_be_cut and self._asked
            self._asked = False

    def end(self) -> None:
        """End the pause."""
        self._asked = True
        if self._over is not None:
            _settle(self._over)


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class Scraper:
    """Watches every endpoint of every pool, each in a task of its own.

    `changed(endpoint, reason)` is called when a scrape makes or ends an endpoint's being avoided, `failed()` on each
    failure.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float],
        dice: Callable[[], float],
        in_flight: InFlight,
        prober: Prober,
        changed: Callable[[Endpoint, str], None],
        failed: Callable[[Endpoint], None],
        times: ScrapeTimes | None = None,
        connect: Callable[..., Connection] = Connection,
    ) -> None:
        self._connect = connect
        self._clock = clock
        self._dice = dice
        self._in_flight = in_flight
        self._prober = prober
        self._changed = changed
        self._failed = failed
        self._times = times or ScrapeTimes()
        self._members: Mapping[str, Member] = {}
        self._tasks: dict[Endpoint, asyncio.Task[None]] = {}
        self._scraped: set[Endpoint] = set()
        self._progress = asyncio.Event()
        self._reported: set[Table] = set()
        self._adding: asyncio.TimerHandle | None = None

    def follow(self, members: Mapping[str, Member]) -> None:
        """Watch these endpoints and no others."""
        self._members = members
        present = {member.endpoint for member in members.values()}
        for endpoint in self._tasks.keys() - present:
            self._tasks.pop(endpoint).cancel()
            self._scraped.discard(endpoint)
            self._prober.forget(endpoint)
        for member in members.values():
            if member.endpoint not in self._tasks:
                task = asyncio.get_running_loop().create_task(self._watch(member.endpoint))
                self._tasks[member.endpoint] = task

    async def settle(self) -> None:
        """Wait until every endpoint has been asked once."""
        while self._tasks.keys() - self._scraped:
            self._progress.clear()
            await self._progress.wait()
        self._add_up()

    async def close(self) -> None:
        """Stop watching."""
        tasks = list(self._tasks.values())
        self._tasks.clear()
        if self._adding is not None:
            self._adding.cancel()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _watch(self, endpoint: Endpoint) -> None:
        pause = _Pause()
        connection = self._connect(endpoint.address, lost=pause.end)
        loop = asyncio.get_running_loop()
        try:
            while True:
                asked = loop.time()
                reason = await self._scrape(endpoint, connection)
                if reason is None:
                    reason = await self._scrape(endpoint, connection) or ""
                if reason:
                    self._failed(endpoint)
                    self._age(endpoint)
                if endpoint.mark_reachable(reachable=not reason):
                    self._changed(endpoint, reason)
                self._scraped.add(endpoint)
                self._progress.set()
                self._heal(endpoint)
                # Jitter keeps the pods from being asked all at once.
                interval = self._interval(endpoint) * (0.85 + 0.15 * self._dice())
                await pause.last(max(0.0, asked + interval - loop.time()))
        finally:
            connection.close()

    async def _scrape(self, endpoint: Endpoint, connection: Connection) -> str | None:
        """Ask once; "" when the pod answered, else what is wrong; None when nobody can tell."""
        in_flight, sent = endpoint.in_flight, endpoint.backlog.sent
        try:
            async with asyncio.timeout(self._times.timeout) as bound:
                answer = await connection.get("/metrics")
        except TimeoutError:
            if was_late(bound):
                return None
            return f"no answer to /metrics within {self._times.timeout} s"
        except OSError as error:
            # Nobody is there, or somebody new: a server's cache does not outlive it.
            endpoint.prefixes.forget()
            return f"/metrics: {error}"
        if answer.status >= _SERVER_ERROR:
            return f"/metrics answers {answer.status}"
        member = self._members.get(endpoint.address)
        if member is None or member.endpoint is not endpoint:
            return ""
        report = read_any(answer.body, member.dialect) if answer.status == _OK else None
        if report is None:
            endpoint.unreport()
        else:
            endpoint.report(
                report.waiting,
                report.running,
                report.kv_usage,
                in_flight,
                self._clock(),
                firsts=report.first_tokens,
                sent=sent,
            )
            endpoint.report_adapters(*(report.adapters or _NO_ADAPTERS))
        self._note_report(member)
        return ""

    def _age(self, endpoint: Endpoint) -> None:
        """Forget figures that are too old to tell anything."""
        if endpoint.reported and self._clock() - endpoint.reported_at > self._times.stale:
            endpoint.unreport()
            member = self._members.get(endpoint.address)
            if member is not None:
                self._note_report(member)

    def _note_report(self, member: Member) -> None:
        """Have the tables of a pod that reported added up: once for all that report at about the same time."""
        self._reported.update(member.tables)
        if self._adding is None:
            self._adding = asyncio.get_running_loop().call_later(self._times.sums, self._add_up)

    def _add_up(self) -> None:
        if self._adding is not None:
            self._adding.cancel()
            self._adding = None
        for table in self._reported:
            table.refresh()
        self._reported.clear()

    def _heal(self, endpoint: Endpoint) -> None:
        idle_since = endpoint.idle_since
        if not endpoint.in_flight or idle_since is None or not endpoint.reported or endpoint.unreachable:
            return
        idle_for = self._clock() - idle_since
        if idle_for < self._times.stall:
            return
        if idle_for >= self._times.heal and not endpoint.failing:
            self._in_flight.discount(endpoint, idle_since)
        oldest = self._in_flight.oldest(endpoint)
        if oldest is not None and self._clock() - oldest >= self._times.stall:
            self._prober.suspect(endpoint)

    def _interval(self, endpoint: Endpoint) -> float:
        times = self._times
        member = self._members.get(endpoint.address)
        if member is None:
            return times.idle
        busy = times.while_in_use(len(self._members))
        now = self._clock()
        if endpoint.avoided or any(now - table.used_at < times.in_use for table in member.tables):
            return busy
        return max(times.idle, busy)
