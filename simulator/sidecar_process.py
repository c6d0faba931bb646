"""A sidecar as a child process, started again when it ends, as the kubelet does."""

import asyncio
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress

# Seconds: between restarts at first and at last, after which a run counts as a good one, and for a child to end.
_FIRST, _LAST = 1.0, 60.0
_GOOD = 60.0
_GRACE = 3.0
_STDERR = 2


class SidecarProcess:
    """Python's module `module`, kept running until it is stopped; its stdin ends with this process, and so shall it."""

    def __init__(self, module: str, flags: Sequence[str], env: Mapping[str, str]) -> None:
        # -P: a folder that is called like one of our packages must not hide it.
        self._argv = (sys.executable, "-P", "-m", module, *flags)
        self._env = {**os.environ, **env}
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start it; what it prints goes where this process' errors go."""
        self._task = asyncio.get_running_loop().create_task(self._keep())

    async def stop(self) -> None:
        """End it; returns when it is gone."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _keep(self) -> None:
        loop = asyncio.get_running_loop()
        wait = _FIRST
        while True:
            begun = loop.time()
            await self._run()
            wait = _FIRST if loop.time() - begun > _GOOD else min(wait * 2, _LAST)
            await asyncio.sleep(wait)

    async def _run(self) -> None:
        try:
            child = await asyncio.create_subprocess_exec(
                *self._argv,
                env=self._env,
                stdin=asyncio.subprocess.PIPE,
                stdout=_STDERR,
            )
        except OSError:
            return  # no process left on this machine: later, perhaps
        try:
            await child.wait()
        finally:
            with suppress(ProcessLookupError):
                child.terminate()
            try:
                await asyncio.wait_for(child.wait(), _GRACE)
            except TimeoutError:
                child.kill()
                await child.wait()
