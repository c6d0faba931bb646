"""The file system's events below the folders: what changed."""

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from watchfiles import awatch

_DEBOUNCE_MS = 50
_STEP_MS = 10


@dataclass(slots=True)
class Bell:
    """Rings when something below the folders changes. It never lies still for ever: `wait` has a time limit."""

    folders: tuple[Path, ...]
    stop: asyncio.Event
    _rung: asyncio.Event = field(default_factory=asyncio.Event)
    _heard: set[Path] = field(default_factory=set)
    _roots: tuple[tuple[Path, int, int], ...] = ()
    _listener: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self.follow()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._listener is not None:
            self._listener.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._listener

    async def wait(self, seconds: float) -> frozenset[Path]:
        """Return when the bell rings, when the source shall stop, or when the time is over: with what changed."""
        waiters = [asyncio.ensure_future(self._rung.wait()), asyncio.ensure_future(self.stop.wait())]
        try:
            await asyncio.wait(waiters, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for waiter in waiters:
                waiter.cancel()
        self._rung.clear()
        heard, self._heard = frozenset(self._heard), set()
        return heard

    def follow(self) -> None:
        """Listen to the folders that exist; one that was made or replaced since is listened to afresh."""
        roots = tuple(_roots(self.folders))
        if roots != self._roots:
            self._roots = roots
            if self._listener is not None:
                self._listener.cancel()
            self._listener = asyncio.create_task(self._listen(tuple(path for path, _, _ in roots))) if roots else None

    async def _listen(self, paths: tuple[Path, ...]) -> None:
        # Without events (no watches left, a folder gone again) the time limit of `wait` still finds every change.
        with contextlib.suppress(OSError, RuntimeError):
            # No stop event of ours: awatch sets the one it is given when it is cancelled.
            changes = awatch(
                *paths, watch_filter=None, debounce=_DEBOUNCE_MS, step=_STEP_MS, ignore_permission_denied=True
            )
            async for found in changes:
                self._heard.update(Path(path) for _, path in found)
                self._rung.set()


def _roots(folders: Sequence[Path]) -> list[tuple[Path, int, int]]:
    roots = []
    for folder in folders:
        with contextlib.suppress(OSError):
            status = folder.stat()
            roots.append((folder, status.st_dev, status.st_ino))
    return roots
