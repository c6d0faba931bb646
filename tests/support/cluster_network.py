"""What tests do in a cluster's network: requests without pause, and a relay that cuts connections."""

import asyncio
import threading
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from minikluster.cluster import Cluster

_CHUNK = 1 << 16


@dataclass
class Traffic:
    """What became of requests that are sent one after another: who answered, and what failed."""

    answers: Counter[str] = field(default_factory=Counter)
    failed: list[str] = field(default_factory=list)

    @property
    def answered(self) -> int:
        """How many were."""
        return self.answers.total()


@contextmanager
def traffic(cluster: Cluster, request: str | urllib.request.Request) -> Iterator[Traffic]:
    """Send a request (or to a URL) over and over, each on a connection of its own, until the end of the block."""
    told, stop = Traffic(), threading.Event()

    def send() -> None:
        while not stop.wait(0.02):
            try:
                with urllib.request.urlopen(request, timeout=20) as answer:
                    told.answers[answer.read(64).decode("utf-8", "replace")] += 1
            except OSError as error:
                told.failed.append(f"{type(error).__name__}: {error}")

    with cluster.inside():
        thread = threading.Thread(target=send)
        thread.start()
    try:
        yield told
    finally:
        stop.set()
        thread.join()


class Relay:
    """Relays connections to HOST:PORT, cuts them, and may have the other side be away."""

    def __init__(self, target: str) -> None:
        self._host, _, port = target.rpartition(":")
        self._port = int(port)
        self._away = False
        self._open: dict[asyncio.Task[None], tuple[asyncio.StreamWriter, ...]] = {}
        self._loop = asyncio.new_event_loop()
        self._listens = threading.Event()
        self._end = asyncio.Event()
        self.port = 0

    @classmethod
    @contextmanager
    def within(cls, cluster: Cluster, target: str) -> Iterator["Relay"]:
        """Have a relay at the node of a cluster."""
        relay = cls(target)
        with cluster.inside():
            thread = threading.Thread(target=lambda: relay._loop.run_until_complete(relay._serve()))
            thread.start()
        relay._listens.wait()
        try:
            yield relay
        finally:
            relay._loop.call_soon_threadsafe(relay._end.set)
            thread.join()
            relay._loop.close()

    @property
    def connections(self) -> int:
        """How many there are."""
        return len(self._open)

    def cut(self, *, away: bool = False) -> None:
        """Break all connections. `away`: whether new ones are broken at once, too."""
        asyncio.run_coroutine_threadsafe(self._cut(away=away), self._loop).result()

    async def _cut(self, *, away: bool) -> None:
        self._away = away
        tasks = list(self._open)
        for writers in list(self._open.values()):
            for writer in writers:
                writer.transport.abort()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._relay, "10.244.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._listens.set()
        async with server:
            await self._end.wait()
            await self._cut(away=True)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if self._away:
            writer.transport.abort()
            return
        with suppress(OSError):
            far_reader, far_writer = await asyncio.open_connection(self._host, self._port)
            self._open[task] = (writer, far_writer)
            try:
                await asyncio.gather(_copy(reader, far_writer), _copy(far_reader, writer))
            finally:
                writer.transport.abort()
                far_writer.transport.abort()
                del self._open[task]


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy until the end, which is passed on."""
    while chunk := await reader.read(_CHUNK):
        writer.write(chunk)
        await writer.drain()
    writer.write_eof()
