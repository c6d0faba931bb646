"""The processes that take part, and the CPU time that each has used (Linux: from /proc)."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pointsman.parent_death import die_with

# `pointsman up` ends its own children before it ends (seconds).
_GRACE = 20.0
_PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Child:
    """A process of ours: `role` is what the report calls it, `log` where its output goes."""

    role: str
    process: subprocess.Popen[bytes]
    log: Path

    def check(self) -> None:
        """RuntimeError with the last lines of its output when it has ended."""
        if self.process.poll() is not None:
            last = self.log.read_text(encoding="utf-8", errors="replace")[-2000:]
            raise RuntimeError(f"{self.role} ended with status {self.process.returncode}:\n{last}")


class Processes:
    """A context: what was started inside is ended with it, the last first."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._children: list[Child] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for child in reversed(self._children):
            child.process.send_signal(signal.SIGTERM)
        for child in reversed(self._children):
            try:
                child.process.wait(_GRACE)
            except subprocess.TimeoutExpired:
                child.process.kill()
                child.process.wait()

    def start(
        self,
        role: str,
        argv: Sequence[str],
        *,
        folder: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Child:
        """Start a process in a session of its own, so that Ctrl-C reaches only this one; its output goes to a file.

        It runs in `folder` (where this one does), with `environment` beside this one's.
        """
        log = self._folder / f"{len(self._children)}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env={**os.environ, **(environment or {})},
                start_new_session=True,
                preexec_fn=die_with(os.getpid()),  # noqa: PLW1509  (this process has one thread)
            )
        child = Child(role, process, log)
        self._children.append(child)
        return child


def parts(child: Child) -> Mapping[str, int]:
    """Return the process ids of a `pointsman up` and its children, by what the report calls them."""
    found = {"up": child.process.pid}
    for pid, argv in _offspring(child.process.pid):
        if "control-plane" in argv:
            found["control plane"] = pid
        elif "picker" in argv:
            found["picker"] = pid
        elif "--config-path" in argv:
            found["envoy"] = pid
    return found


def cpu_seconds(pid: int) -> float | None:
    """Return the CPU time of all threads of a process; None where the system does not tell."""
    fields = _stat(pid)
    if fields is None:
        return None
    user, system = 11, 12
    return (int(fields[user]) + int(fields[system])) / os.sysconf("SC_CLK_TCK")


def peak_bytes(pid: int) -> int | None:
    """Return the most memory that a process has had resident; None where the system does not tell."""
    try:
        text = (_PROC / str(pid) / "status").read_text(errors="replace")
    except OSError:
        return None
    found = [line.split() for line in text.splitlines() if line.startswith("VmHWM:")]
    return int(found[0][1]) * 1024 if found else None


def _offspring(parent: int) -> Iterator[tuple[int, list[str]]]:
    for entry in _PROC.glob("[0-9]*"):
        fields = _stat(int(entry.name))
        if fields is not None and int(fields[1]) == parent:
            with contextlib.suppress(OSError):
                yield int(entry.name), (entry / "cmdline").read_text(errors="replace").split("\0")


def _stat(pid: int) -> list[str] | None:
    """Return proc_pid_stat(5) from its third field on, after the program's name, which may have any character."""
    try:
        text = (_PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return None
    return text.rpartition(")")[2].split()
