"""What is left when `up` is killed outright: ends its children and removes its runtime directory.

A program of its own, run by path with the bare interpreter (`python -I -S guard.py DIRECTORY`), so that it starts in
milliseconds and works wherever Python does.  Its standard input is a pipe that only its parent holds open: end of file
means that the parent is gone, however it ended.  Lines on it are `+PID` (a child was started) and `-PID` (it ended).
Linux's PR_SET_PDEATHSIG ends the children sooner; this one works everywhere, for programs that are not ours too.
"""

import contextlib
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterable
from pathlib import Path

# A killed process may go on writing for an instant, and a directory being written to cannot be removed.
_PATIENCE = 2.0
_STEP = 0.01


def children(lines: Iterable[str]) -> set[int]:
    """Return the process ids that were started and have not ended when `lines` ends."""
    alive: set[int] = set()
    for line in lines:
        sign, pid = line[:1], line[1:].strip()
        if not pid.isdecimal():
            continue
        if sign == "+":
            alive.add(int(pid))
        elif sign == "-":
            alive.discard(int(pid))
    return alive


def end(pids: Iterable[int]) -> None:
    """Kill those of `pids` that are still there."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)


def remove(directory: Path) -> None:
    """Remove `directory`, again and again while something still writes into it."""
    deadline = time.monotonic() + _PATIENCE
    while directory.exists():
        shutil.rmtree(directory, ignore_errors=True)
        if time.monotonic() > deadline:
            return
        time.sleep(_STEP)


def main() -> None:
    """Wait for the parent's end, then clean up after it."""
    # Ctrl-C and a closed terminal reach whole process groups: only the parent's end counts.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    end(children(sys.stdin))
    remove(Path(sys.argv[1]))


if __name__ == "__main__":
    main()
