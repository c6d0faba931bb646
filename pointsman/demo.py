"""`pointsman demo`: runs the gateway on a folder with simulated servers, asks every model, and checks who answered.

What should answer is read off the manifests (`expectation`); what did answer is said by the answer's own headers, and
by the picker's line about it, found by Envoy's request id.
"""

import asyncio
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import orjson
from rich import box
from rich.console import Console
from rich.table import Table

from pointsman.banner import url
from pointsman.expectation import CHAT, Case, cases
from pointsman.installation import Installation, Options, Report
from pointsman.logs import HANDLED, Line
from pointsman.up import Output
from resources import World
from sources import FolderSource

_SHORT = "Who are you?"
# 200 KB of words, as a long document would be.
_LONG = ("The pointsman sets the points for each train that comes down the line. " * 3000)[:200_000]
_PLAIN_WIDTH = 200
# Envoy sends its access log every few tens of milliseconds (seconds).
_LINES_WITHIN = 5.0
_ANSWER_WITHIN = aiohttp.ClientTimeout(total=120)
_OK = 200
_TOO_LONG = 400


@dataclass(frozen=True, slots=True)
class Shot:
    """One request to make."""

    case: Case
    stream: bool
    long: bool

    @property
    def kind(self) -> str:
        """What is special about it, for people."""
        return f"{'streaming' if self.stream else 'plain'}, {'200 KB' if self.long else 'short'}"

    def body(self) -> bytes:
        """Return the JSON document; the model stands at its end where the prompt is long."""
        messages = [{"role": "user", "content": _LONG if self.long else _SHORT}]
        parts: dict[str, object] = {"stream": self.stream, "max_tokens": 24}
        ordered = {"messages": messages, **parts, "model": self.case.model}
        return orjson.dumps(ordered if self.long else {"model": self.case.model, "messages": messages, **parts})


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; times in seconds since the request was sent.  A stream that was cut has not `ended`."""

    status: int
    request_id: str
    pod: str
    first_byte: float
    total: float
    ended: bool


async def run(options: Options) -> bool:
    """Run the demo; tell whether every answer came from a pod of the right pool.  Failure when nothing can start."""
    output = Output(verbose=options.verbose)
    lines: dict[str, Mapping[str, object]] = {}

    def log(line: Line) -> None:
        if line.event == HANDLED:
            lines[str(line.fields.get("request_id"))] = line.fields
            if not options.verbose:
                return
        output.log(line)

    async with Installation(options, announce=lambda text: output.say([text]), log=log) as installation:
        report = await installation.ready()
        world = _world([options.folder, installation.pods])
        shots = [
            Shot(case, stream, long) for case in cases(world) for long in (False, True) for stream in (False, True)
        ]
        async with aiohttp.ClientSession(timeout=_ANSWER_WITHIN) as session:
            answers = [await _ask(session, report, shot) for shot in shots]
        await _await_lines(lines, answers)
    results = [(shot, answer, lines.get(answer.request_id, {})) for shot, answer in zip(shots, answers, strict=True)]
    _show(results)
    wrong = [reason for shot, answer, line in results if (reason := verdict(shot, answer, line))]
    _conclude(len(results), len(wrong), report)
    return bool(results) and not wrong


def verdict(shot: Shot, answer: Answer, line: Mapping[str, object]) -> str:
    """Return what is wrong with an answer, or ""."""
    if answer.pod not in shot.case.pods:
        return f"expected a pod of {' or '.join(sorted(shot.case.pools))}"
    if line.get("pool") not in shot.case.pools:
        return f"the picker was asked for {line.get('pool', 'nothing')}"
    # The right server may have a --max-model-len that is too short for the long prompt, and says so.
    if answer.status != _OK and not (shot.long and answer.status == _TOO_LONG):
        return f"expected {_OK}"
    if not answer.ended and answer.status == _OK:
        return "cut short"
    return ""


def rule(route: object) -> str:
    """Return the rule in a route's name: "default/chat rule 0" for "httproute/default/chat/rule/0/match/0"."""
    parts = str(route).split("/")
    return f"{parts[1]}/{parts[2]} rule {parts[4]}" if len(parts) > 4 else str(route)  # noqa: PLR2004 - see above


def _world(folders: list[Path]) -> World:
    return World().apply(FolderSource(folders).read().changes)


async def _ask(session: aiohttp.ClientSession, report: Report, shot: Shot) -> Answer:
    listener = next(
        listener
        for gateway in report["gateways"]
        if gateway["gateway"] == shot.case.gateway
        for listener in gateway["listeners"]
        if listener["name"] == shot.case.listener
    )
    headers = {"content-type": "application/json", **dict(shot.case.headers)}
    if shot.case.host is not None:
        headers["host"] = shot.case.host
    started = time.perf_counter()
    first: float | None = None
    received = bytearray()
    try:
        async with session.post(
            url(listener) + CHAT,
            data=shot.body(),
            headers=headers,
            # The certificates of a folder are nobody's business but its author's.
            ssl=False,
            server_hostname=shot.case.host if listener["tls"] else None,
        ) as response:
            async for chunk in response.content.iter_any():
                first = first or time.perf_counter() - started
                received += chunk
            status, found = response.status, response.headers
    except (aiohttp.ClientError, TimeoutError) as error:
        sys.stderr.write(f"{shot.case.model}, {shot.kind}: {error or type(error).__name__}\n")
        elapsed = time.perf_counter() - started
        return Answer(0, "", "", first or elapsed, elapsed, ended=False)
    total = time.perf_counter() - started
    events = [event for event in bytes(received).split(b"\n\n") if event] if shot.stream else []
    return Answer(
        status=status,
        request_id=found.get("x-request-id", ""),
        pod=found.get("x-simulated-pod", ""),
        first_byte=first or total,
        total=total,
        ended=not shot.stream or (bool(events) and events[-1] == b"data: [DONE]"),
    )


async def _await_lines(lines: Mapping[str, object], answers: list[Answer]) -> None:
    deadline = time.monotonic() + _LINES_WITHIN
    while time.monotonic() < deadline and not all(answer.request_id in lines for answer in answers):  # noqa: ASYNC110 - filled by callbacks
        await asyncio.sleep(0.02)


def _show(results: list[tuple[Shot, Answer, Mapping[str, object]]]) -> None:
    console = Console(highlight=False, emoji=False, markup=False)
    if not console.is_terminal:
        console.width = _PLAIN_WIDTH
    table = Table(box=box.SIMPLE_HEAD, show_edge=False)
    for title in ("model", "request", "rule matched", "pool", "served by pod", "status"):
        table.add_column(title, overflow="fold")
    for title in ("first byte", "total"):
        table.add_column(title, justify="right")
    table.add_column("", overflow="fold")
    for shot, answer, line in results:
        found = verdict(shot, answer, line)
        table.add_row(
            shot.case.model,
            shot.kind,
            rule(line.get("route", "?")),
            str(line.get("pool", "?")),
            answer.pod or "?",
            str(answer.status or "none"),
            f"{answer.first_byte * 1e3:.0f} ms",
            f"{answer.total * 1e3:.0f} ms",
            found or ("ok" if answer.status == _OK else "ok: prompt too long for it"),
            style="red" if found else "",
        )
    console.print(table)


def _conclude(count: int, wrong: int, report: Report) -> None:
    for problem in report["problems"]:
        sys.stdout.write(f"problem: {problem}\n")
    if not count:
        sys.stdout.write("nothing to ask: no HTTPRoute in this folder leads from a model to a pool\n")
    elif wrong:
        sys.stdout.write(f"{wrong} of {count} answers are not as they should be\n")
    else:
        sys.stdout.write(f"all {count} answers came from the right pool\n")
