"""Keeps child processes running: starts them, passes on what they print, restarts those that end, stops all in order.

Every child is a session of its own, so that Ctrl-C reaches only this process, which then ends the children one by one,
the last started first.  A child that this process leaves behind by being killed ends too (`parent_death`, `guard`).
"""

import asyncio
import contextlib
import os
import signal
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from time import monotonic
from typing import Protocol

from pointsman.parent_death import die_with

_CHUNK = 65_536
_LONGEST_LINE = 1 << 20
# A grandchild may hold the pipe open after the child's end: its lines are not waited for longer than this (seconds).
_LAST_LINES = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """What to run: `argv`, with `environment` beside our own; it may take `grace` seconds to end after SIGTERM."""

    name: str
    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    grace: float = 3.0


class Roll(Protocol):
    """Who has to know which children are alive (`runtime.Runtime`)."""

    def watch(self, pid: int) -> None:
        """Note that `pid` is a child."""

    def forget(self, pid: int) -> None:
        """Note that `pid` has ended."""


class Backoff:
    """Delays between restarts (s): `first`, doubling up to `last`; `first` again after a life of `reset_after`."""

    def __init__(self, *, first: float = 0.1, last: float = 5.0, reset_after: float = 10.0) -> None:
        self._first = first
        self._last = last
        self._reset_after = reset_after
        self._next = first

    def after(self, lived: float) -> float:
        """Return the delay before restarting a child that lived `lived` seconds."""
        delay = self._first if lived >= self._reset_after else self._next
        self._next = min(delay * 2, self._last)
        return delay


def reason(returncode: int) -> str:
    """Say how a process ended: "exit status 3", "signal 9"."""
    return f"signal {-returncode}" if returncode < 0 else f"exit status {returncode}"


async def lines(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """Yield the lines of `reader` without their ends; a line longer than 1 MiB comes in pieces."""
    rest = b""
    while chunk := await reader.read(_CHUNK):
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield line
        if len(rest) > _LONGEST_LINE:
            yield rest
            rest = b""
    if rest:
        yield rest


class Supervisor:
    """The children of this process.

    `announce(text)` is told of restarts, `relay(name, line)` of every line that a child prints.
    """

    def __init__(
        self,
        *,
        announce: Callable[[str], None],
        relay: Callable[[str, bytes], None],
        roll: Roll,
        clock: Callable[[], float] = monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._announce = announce
        self._relay = relay
        self._roll = roll
        self._clock = clock
        self._sleep = sleep
        self._children: list[_Child] = []

    async def start(self, program: Program) -> None:
        """Start `program` and keep it running until `stop`.  OSError when it cannot be started at all."""
        child = _Child(program, await self._spawn(program))
        self._children.append(child)
        child.task = asyncio.create_task(self._keep(child), name=f"keep {program.name}")

    def pids(self) -> dict[str, int]:
        """Return the process ids of the children that run, by name."""
        return {child.program.name: child.process.pid for child in self._children if child.process.returncode is None}

    async def stop(self) -> None:
        """End every child, the last started first: SIGTERM, and SIGKILL after its grace."""
        for child in self._children:
            child.stopping = True
        for child in reversed(self._children):
            await self._end(child)
        self._children.clear()

    async def _end(self, child: "_Child") -> None:
        await _terminate(child.process, child.program.grace)
        if child.task is not None:
            # It sees `stopping` and returns, unless it waits to restart.
            if child.waiting:
                child.task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await child.task
        await _terminate(child.process, 0)

    async def _keep(self, child: "_Child") -> None:
        backoff = Backoff()
        while True:
            started = self._clock()
            if child.stopping:  # `stop` came while this process was being started
                await _terminate(child.process, child.program.grace)
            how = await self._follow(child)
            if child.stopping:
                return
            while True:
                delay = backoff.after(self._clock() - started)
                self._announce(f"{child.program.name} ended ({how}), restarted in {delay:g} s")
                child.waiting = True
                await self._sleep(delay)
                child.waiting = False
                try:
                    child.process = await self._spawn(child.program)
                except OSError as error:
                    how, started = str(error), self._clock()
                else:
                    break

    async def _follow(self, child: "_Child") -> str:
        """Pass on the child's lines until it ends; return how it ended."""
        process = child.process
        relaying = asyncio.create_task(self._relay_all(child.program.name, process))
        try:
            returncode = await process.wait()
        finally:
            self._roll.forget(process.pid)
            await asyncio.wait([relaying], timeout=_LAST_LINES)
            relaying.cancel()
        return reason(returncode)

    async def _relay_all(self, name: str, process: Process) -> None:
        if process.stdout is not None:
            async for line in lines(process.stdout):
                self._relay(name, line)

    async def _spawn(self, program: Program) -> Process:
        process = await asyncio.create_subprocess_exec(
            *program.argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=PIPE,
            stderr=STDOUT,
            start_new_session=True,
            env={**os.environ, **program.environment},
            preexec_fn=die_with(os.getpid()),
        )
        self._roll.watch(process.pid)
        return process


@dataclass(slots=True)
class _Child:
    program: Program
    process: Process
    task: asyncio.Task[None] | None = None
    stopping: bool = False
    waiting: bool = False


async def _terminate(process: Process, grace: float) -> None:
    for number, patience in ((signal.SIGTERM, grace), (signal.SIGKILL, None)):
        if process.returncode is not None or (number == signal.SIGTERM and grace == 0):
            continue
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(number)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), patience)
