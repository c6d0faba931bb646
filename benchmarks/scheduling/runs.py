"""One run: the fleet with empty caches, a router in front of it, one trace; and what came of it."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.processes import Child, Processes, cpu_seconds
from benchmarks.scheduling import client, fleet_process
from benchmarks.scheduling.fleet import MODEL, Fleet
from benchmarks.scheduling.outcome import Outcome
from benchmarks.scheduling.routers import Router, Running
from benchmarks.scheduling.traces import Trace, hello

LATE = 0.1
"""How late (seconds) the load generator or a server may be, 99 of 100, before the machine is to blame and no router."""

_PATIENCE = 90.0
_OK = 200


@dataclass(frozen=True, slots=True)
class Run:
    """What came of it.

    `hits` and `queries` are prompt tokens by the servers' own metrics, `served` the requests that each of them
    finished. `lateness` and `servers_late` (seconds) are of the load generator and of the servers, 99 of 100; `cpu` are
    cores that each process used.
    """

    router: str
    family: str
    trace: str
    seed: int
    outcomes: tuple[Outcome, ...]
    hits: float
    queries: float
    served: tuple[int, ...]
    lateness: float
    servers_late: float
    cpu: Mapping[str, float]

    @property
    def disturbed(self) -> float:
        """How late the load generator or a server was, whichever was later (seconds)."""
        return max(self.lateness, self.servers_late)


async def run(router: Router, trace: Trace, fleet: Fleet, seed: int) -> Run:
    """Measure. RuntimeError when something does not come up."""
    with TemporaryDirectory(prefix="pointsman-scheduling-") as name, Processes(Path(name)) as processes:
        servers = fleet_process.start(processes, Path(name), fleet)
        running = router.start(processes, Path(name), servers)
        await _await(running, len(servers.addresses))
        before = await client.read_pages(servers.addresses)
        pids = {"fleet": servers.child.process.pid, **running.pids()}
        used = {role: cpu_seconds(pid) for role, pid in pids.items()}
        began, own = time.monotonic(), time.process_time()
        played = await client.play(trace, running.url, servers.addresses)
        seconds = time.monotonic() - began
        cpu = {"client": (time.process_time() - own) / seconds}
        for role, pid in pids.items():
            start, end = used[role], cpu_seconds(pid)
            if start is not None and end is not None:
                cpu[role] = (end - start) / seconds
        _check(running.child, servers.child)
        after = await client.read_pages(servers.addresses)
    gained = [
        {name: _sum(new, name) - _sum(old, name) for name in (_HITS, _QUERIES, _FINISHED)}
        for old, new in zip(before, after, strict=True)
    ]
    return Run(
        router=router.name,
        family=router.family,
        trace=trace.name,
        seed=seed,
        outcomes=tuple(_unslowed(outcome, fleet.slow) for outcome in played.outcomes),
        hits=sum(each[_HITS] for each in gained),
        queries=sum(each[_QUERIES] for each in gained),
        served=tuple(int(each[_FINISHED]) for each in gained),
        lateness=played.lateness,
        servers_late=played.servers,
        cpu=cpu,
    )


_HITS, _QUERIES, _FINISHED = (
    "vllm:prefix_cache_hits_total",
    "vllm:prefix_cache_queries_total",
    "vllm:request_success_total",
)


async def _await(running: Running, servers: int) -> None:
    """Wait until requests are answered: one for each server, so that no router meets one for the first time."""
    deadline = time.monotonic() + _PATIENCE
    for number in range(2 * servers):
        while (status := await client.greet(running.url, hello(MODEL, number))) != _OK:
            _check(running.child)
            if time.monotonic() > deadline:
                log = running.child.log.read_text(encoding="utf-8", errors="replace")[-2000:]
                raise RuntimeError(f"{running.child.role} answers {status}:\n{log}")
            await asyncio.sleep(0.1)


def _check(*children: Child) -> None:
    for child in children:
        child.check()


def _unslowed(outcome: Outcome, slow: float) -> Outcome:
    """Give an outcome's times as they would be on the GPUs that the fleet stands for."""
    return Outcome(
        due=outcome.due / slow,
        sent=outcome.sent / slow,
        first=outcome.first / slow,
        last=outcome.last / slow,
        answer=outcome.answer,
        prompt=outcome.prompt,
        cached=outcome.cached,
        error=outcome.error,
    )


def _sum(page: str, name: str) -> float:
    return sum(float(value) for value in re.findall(rf"^{re.escape(name)}(?:\{{.*\}})? (\S+)$", page, re.MULTILINE))
