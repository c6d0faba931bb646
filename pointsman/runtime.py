"""The runtime directory of one `pointsman up`, and the guard that removes it.

Everything that the children share lives here: unix sockets, the Envoy bootstrap, simulated Pods' manifests.  It is
readable by its owner only, and its path is short, because a unix socket's path may have 103 bytes on macOS and 107 on
Linux (sun_path).
"""

import asyncio
import contextlib
import os
import shutil
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

_GUARD = Path(__file__).with_name("guard.py")
_LONGEST_SOCKET_PATH = 103
_LONGEST_NAME = len("/control-plane.sock")


def make_directory() -> Path:
    """Create an empty directory (mode 0700) whose sockets' paths are short enough."""
    directory = Path(tempfile.mkdtemp(prefix="pointsman-"))
    if len(os.fsencode(directory)) + _LONGEST_NAME > _LONGEST_SOCKET_PATH:
        directory.rmdir()
        directory = Path(tempfile.mkdtemp(prefix="pointsman-", dir="/tmp"))
    return directory


class Runtime:
    """An asynchronous context: the directory exists and is guarded inside, and is gone after it.

    `watch(pid)` and `forget(pid)` keep the guard's list of children to kill when this process is killed itself.
    """

    def __init__(self) -> None:
        self.directory = Path()
        self._guard: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        self.directory = make_directory()
        self._guard = await asyncio.create_subprocess_exec(
            sys.executable,
            "-I",
            "-S",
            str(_GUARD),
            str(self.directory),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._guard is not None and self._guard.stdin is not None:
            self._guard.stdin.close()
            await self._guard.wait()
        # The guard has done this already, unless it was killed.
        shutil.rmtree(self.directory, ignore_errors=True)

    def socket(self, name: str) -> str:
        """Return the address of the unix socket `name` ("xds"), as gRPC and the commands write it: "unix:/path"."""
        return f"unix:{self.directory / name}.sock"

    def watch(self, pid: int) -> None:
        """Have the guard kill `pid` if this process is killed."""
        self._tell(f"+{pid}\n")

    def forget(self, pid: int) -> None:
        """Tell the guard that `pid` has ended: its number may be given to a stranger."""
        self._tell(f"-{pid}\n")

    def _tell(self, line: str) -> None:
        if self._guard is None or self._guard.stdin is None:
            return
        with contextlib.suppress(ConnectionError):  # a guard that was killed costs only its own service
            self._guard.stdin.write(line.encode())
