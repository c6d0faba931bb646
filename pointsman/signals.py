"""How the children are told to end: SIGTERM from `up`, Ctrl-C where one runs alone, or the end of their stdin."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

_ENDS = "POINTSMAN_ENDS_WITH_STDIN"


def stop_on_signals() -> asyncio.Event:
    """Return an event that SIGTERM and SIGINT set."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    return stop


@asynccontextmanager
async def ending_with_stdin(stop: asyncio.Event) -> AsyncIterator[None]:
    """Set the event when stdin ends inside the block, where the environment says POINTSMAN_ENDS_WITH_STDIN.

    So a child ends with the process that started it, however that ends.
    """
    if not os.environ.get(_ENDS):
        yield
        return
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    task = loop.create_task(reader.read())
    task.add_done_callback(lambda _: stop.set())
    try:
        yield
    finally:
        task.cancel()
        transport.close()
