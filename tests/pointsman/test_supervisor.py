import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from pointsman.supervisor import Backoff, Program, Supervisor, lines, reason


class Roll:
    def __init__(self) -> None:
        self.alive: set[int] = set()

    def watch(self, pid: int) -> None:
        self.alive.add(pid)

    def forget(self, pid: int) -> None:
        self.alive.discard(pid)


class Stage:
    """A supervisor whose delays take no time, and what it said."""

    def __init__(self) -> None:
        self.said: asyncio.Queue[str] = asyncio.Queue()
        self.relayed: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue()
        self.delays: list[float] = []
        self.roll = Roll()
        self.now = 0.0
        self.patient = False
        self.supervisor = Supervisor(
            announce=self.said.put_nowait,
            relay=lambda name, line: self.relayed.put_nowait((name, line)),
            roll=self.roll,
            clock=lambda: self.now,
            sleep=self._sleep,
        )

    async def _sleep(self, seconds: float) -> None:
        self.delays.append(seconds)
        await asyncio.sleep(3600 if self.patient else 0)


@asynccontextmanager
async def stage() -> AsyncIterator[Stage]:
    it = Stage()
    try:
        yield it
    finally:
        await it.supervisor.stop()
        assert not it.roll.alive


def python(name: str, code: str, *, grace: float = 5.0) -> Program:
    return Program(name=name, argv=(sys.executable, "-I", "-S", "-u", "-c", textwrap.dedent(code)), grace=grace)


SLEEPER = """
import time
print("here", flush=True)
time.sleep(600)
"""


def test_back_off_doubles_up_to_its_limit() -> None:
    backoff = Backoff()
    assert [backoff.after(0) for _ in range(8)] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]


def test_back_off_begins_anew_after_a_long_life() -> None:
    backoff = Backoff()
    assert [backoff.after(lived) for lived in (0, 0, 10, 0)] == [0.1, 0.2, 0.1, 0.2]


def test_reasons_are_told_apart() -> None:
    assert [reason(-9), reason(3)] == ["signal 9", "exit status 3"]


async def test_lines_are_split_and_the_last_one_needs_no_end() -> None:
    reader = asyncio.StreamReader()
    reader.feed_data(b"one\ntwo")
    reader.feed_data(b" more\n\nlast")
    reader.feed_eof()
    assert [line async for line in lines(reader)] == [b"one", b"two more", b"", b"last"]


async def test_an_endless_line_comes_in_pieces() -> None:
    reader = asyncio.StreamReader()
    reader.feed_data(b"x" * (3 << 20))
    reader.feed_eof()
    pieces = [line async for line in lines(reader)]
    assert len(pieces) > 1
    assert b"".join(pieces) == b"x" * (3 << 20)


async def test_a_childs_lines_are_relayed_with_its_name() -> None:
    async with stage() as it:
        await it.supervisor.start(python("talker", "import sys; print('out'); sys.stderr.write('err\\n')" + SLEEPER))
        assert [await it.relayed.get() for _ in range(3)] == [
            ("talker", b"out"),
            ("talker", b"err"),
            ("talker", b"here"),
        ]


async def test_a_killed_child_is_announced_and_restarted() -> None:
    async with stage() as it:
        await it.supervisor.start(python("picker", SLEEPER))
        await it.relayed.get()
        first = it.supervisor.pids()["picker"]
        os.kill(first, signal.SIGKILL)
        assert await it.said.get() == "picker ended (signal 9), restarted in 0.1 s"
        await it.relayed.get()
        assert it.supervisor.pids()["picker"] != first


async def test_a_child_that_keeps_failing_is_restarted_ever_more_slowly() -> None:
    async with stage() as it:
        await it.supervisor.start(python("broken", "raise SystemExit(3)"))
        said = [await it.said.get() for _ in range(3)]
        assert said == [f"broken ended (exit status 3), restarted in {delay} s" for delay in ("0.1", "0.2", "0.4")]


async def test_stop_ends_the_last_started_first() -> None:
    code = """
        import signal, sys, time
        def end(*_):
            print("bye", flush=True)
            sys.exit(0)
        signal.signal(signal.SIGTERM, end)
        print("here", flush=True)
        time.sleep(600)
    """
    it = Stage()
    for name in ("one", "two", "three"):
        await it.supervisor.start(python(name, code))
        assert await it.relayed.get() == (name, b"here")
    await it.supervisor.stop()
    assert [it.relayed.get_nowait() for _ in range(3)] == [("three", b"bye"), ("two", b"bye"), ("one", b"bye")]
    assert it.said.empty()
    assert it.supervisor.pids() == {}


async def test_a_child_that_ignores_sigterm_is_killed() -> None:
    code = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)" + SLEEPER
    it = Stage()
    await it.supervisor.start(python("stubborn", code, grace=0.1))
    await it.relayed.get()
    pid = it.supervisor.pids()["stubborn"]
    await it.supervisor.stop()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_stop_does_not_wait_for_a_restart() -> None:
    it = Stage()
    it.patient = True
    await it.supervisor.start(python("broken", "raise SystemExit(3)"))
    await it.said.get()
    async with asyncio.timeout(5):
        await it.supervisor.stop()


async def test_a_program_that_is_not_there_is_an_error_at_once(tmp_path: Path) -> None:
    async with stage() as it:
        with pytest.raises(OSError, match="No such file"):
            await it.supervisor.start(Program(name="ghost", argv=(str(tmp_path / "ghost"),)))


async def test_the_environment_reaches_the_child() -> None:
    async with stage() as it:
        program = python("child", "import os; print(os.environ['POINTSMAN_TEST'])" + SLEEPER)
        await it.supervisor.start(
            Program(name="child", argv=program.argv, environment={"POINTSMAN_TEST": "here it is"})
        )
        assert (await it.relayed.get())[1] == b"here it is"


PARENT = """
    import asyncio, sys
    from pointsman.runtime import Runtime
    from pointsman.supervisor import Program, Supervisor

    async def main():
        async with Runtime() as runtime:
            supervisor = Supervisor(announce=print, relay=lambda name, line: None, roll=runtime)
            for seconds in ("600", "601"):
                await supervisor.start(Program(name="sleep", argv=("sleep", seconds)))
            print(runtime.directory, *(child.process.pid for child in supervisor._children), flush=True)
            await asyncio.sleep(600)

    asyncio.run(main())
"""


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="watches processes that are not its children by pidfd")
def test_kill_9_of_the_parent_ends_the_children_and_removes_the_runtime_directory() -> None:
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(PARENT)], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        directory, *pids = parent.stdout.readline().split()
        children = [os.pidfd_open(int(pid)) for pid in pids]
        assert Path(directory).is_dir()
        parent.kill()
        parent.wait()
    for child in children:
        assert _ended(child)
    # The guard is nobody's child here: its work is what can be waited for.
    _await_gone(Path(directory))


def _ended(pidfd: int) -> bool:
    import select  # noqa: PLC0415 - Linux's pidfd becomes readable at the process's end

    try:
        return bool(select.select([pidfd], [], [], 10)[0])
    finally:
        os.close(pidfd)


def _await_gone(path: Path) -> None:
    async def gone() -> None:
        async with asyncio.timeout(10):
            while path.exists():
                await asyncio.sleep(0.01)

    asyncio.run(gone())
