"""The load generator: sends each request when it is due, and notes when its tokens come.

An open loop: nobody waits for anybody.  How late requests were sent is part of what is measured, and whether the
servers themselves answered at once while the load was on: where they did not, the machine was the limit and no router.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

import aiohttp

from benchmarks.scheduling.outcome import Outcome, percentile
from benchmarks.scheduling.traces import Arrival, Trace

_PATH = "/v1/chat/completions"
_JSON = {"content-type": "application/json"}
_OK = 200
# What a streamed answer says when there is something to read, and at its end.
_TOKEN, _EMPTY, _DONE = b'"content":"', b'"content":""', b"data: [DONE]"
_CACHED, _PROMPT = b'"cached_tokens":', b'"prompt_tokens":'
# Seconds: after the last arrival for all to end, and between two looks at the servers.
_PATIENCE, _LOOK = 60.0, 0.25


@dataclass(frozen=True, slots=True)
class Played:
    """A trace's outcomes; how late requests were sent, and servers answered to a bare question (99 of 100, seconds)."""

    outcomes: tuple[Outcome, ...]
    lateness: float
    servers: float


async def play(trace: Trace, url: str, servers: Sequence[str]) -> Played:
    """Send a trace's requests to `url`, and look at the `servers` (``ip:port``) meanwhile."""
    clock = time.monotonic
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        looks: list[float] = []
        looking = asyncio.create_task(_look(session, servers, looks))
        began = clock() + 0.5
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(_ask(session, url + _PATH, arrival, began)) for arrival in trace.arrivals]
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)
    outcomes = tuple(task.result() for task in tasks)
    late = sorted(outcome.sent - outcome.due for outcome in outcomes)
    return Played(outcomes, percentile(late, 0.99), percentile(sorted(looks), 0.99))


async def greet(url: str, body: bytes) -> int:
    """Ask once; returns the status, 0 when nobody answers."""
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5.0)) as session,
            session.post(url + _PATH, data=body, headers=_JSON) as response,
        ):
            await response.read()
            return response.status
    except (aiohttp.ClientError, TimeoutError, OSError):
        return 0


async def read_pages(servers: Sequence[str]) -> list[str]:
    """Read the servers' pages of metrics."""
    async with aiohttp.ClientSession() as session:

        async def page(server: str) -> str:
            async with session.get(f"http://{server}/metrics") as response:
                return await response.text()

        return await asyncio.gather(*(page(server) for server in servers))


async def _ask(session: aiohttp.ClientSession, url: str, arrival: Arrival, began: float) -> Outcome:
    clock = time.monotonic
    await asyncio.sleep(began + arrival.at - clock())
    sent = clock()
    first = last = 0.0
    rest = b""
    headers = {**_JSON, "x-session-id": arrival.session}
    try:
        async with asyncio.timeout(_PATIENCE), session.post(url, data=arrival.body, headers=headers) as response:
            if response.status != _OK:
                return Outcome(arrival.at, sent - began, error=f"status {response.status}")
            async for chunk in response.content.iter_any():
                now = clock()
                if _TOKEN in chunk:
                    last = now
                    if not first and chunk.count(_TOKEN) > chunk.count(_EMPTY):
                        first = now
                rest = (rest + chunk)[-1024:]
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        return Outcome(arrival.at, sent - began, error=type(error).__name__)
    if not first or _DONE not in rest:
        return Outcome(arrival.at, sent - began, error="the answer broke off")
    return Outcome(
        due=arrival.at,
        sent=sent - began,
        first=first - began,
        last=last - began,
        answer=arrival.answer,
        prompt=_number(rest, _PROMPT),
        cached=_number(rest, _CACHED),
    )


def _number(text: bytes, key: bytes) -> int:
    digits = text.rpartition(key)[2].lstrip()
    end = next((place for place, byte in enumerate(digits) if not 48 <= byte <= 57), len(digits))  # noqa: PLR2004
    return int(digits[:end] or 0)


async def _look(session: aiohttp.ClientSession, servers: Sequence[str], looks: list[float]) -> None:
    while True:
        for server in servers:
            asked = time.monotonic()
            async with session.get(f"http://{server}/health") as response:
                await response.read()
            looks.append(time.monotonic() - asked)
            await asyncio.sleep(_LOOK / len(servers))
