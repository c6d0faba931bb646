"""The configuration's file: read when it is asked for, and watched.

A mounted ConfigMap is a link into a folder that is swapped as a whole, so it is the folder that is watched. What the
watch misses, the next periodic reading finds.
"""

import asyncio
from pathlib import Path

from watchfiles import awatch

from lora_syncer.config import Config, ConfigError, decode

# A ConfigMap holds no more (Kubernetes, ConfigMap).
_LONGEST = 2**20
_DEBOUNCE_MS = 50
_STEP_MS = 20
# Seconds until a folder that cannot be watched is tried again.
_RETRY = 5.0


def read(path: Path) -> Config:
    """Read the file. Raises ConfigError when it cannot be read or used."""
    try:
        with path.open("rb") as file:
            text = file.read(_LONGEST + 1)
    except OSError as error:
        raise ConfigError("", f"cannot be read: {error.strerror}") from error
    if len(text) > _LONGEST:
        raise ConfigError("", "is longer than 1 MiB")
    return decode(text)


async def watch(path: Path, changed: asyncio.Event) -> None:
    """Set `changed` whenever something in the file's folder changes, until cancelled."""
    while True:
        try:
            changes = awatch(path.parent, watch_filter=None, recursive=False, debounce=_DEBOUNCE_MS, step=_STEP_MS)
            async for _ in changes:
                changed.set()
        except (OSError, RuntimeError):
            # The folder is not there (any more), or the kernel has no watch left.
            pass
        await asyncio.sleep(_RETRY)
