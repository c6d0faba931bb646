"""A watch on a server that falls silent without a word, its connection open."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
from aiohttp import web
from api_server import api_of

from resources import Service, Upsert, World
from sources.kubernetes import Api, Interest, KubernetesSource

# Seconds without a word after which a watch is given up.
SILENCE = 1.0


def service(name: str, version: int) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "shop", "resourceVersion": str(version)}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {}}


class Server:
    """As much of an API server as has Services.

    Every watch tells of one and says nothing after that; the second one is not even answered.
    """

    def __init__(self) -> None:
        self.watched_from: list[str] = []
        self._open: list[asyncio.Event] = []

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Say what a client asks for."""
        if request.path == "/api/v1":
            return web.json_response({"resources": [{"name": "services", "kind": "Service"}]})
        if request.path != "/api/v1/services":
            return web.json_response({"reason": "NotFound", "message": "not found"}, status=404)
        if "watch" not in request.query:
            return web.json_response({"metadata": {"resourceVersion": "1"}, "items": []})
        self.watched_from.append(request.query["resourceVersion"])
        number = len(self.watched_from)
        self._open.append(asyncio.Event())
        stream = web.StreamResponse()
        if number == 2:
            await self._open[-1].wait()
        await stream.prepare(request)
        line = orjson.dumps({"type": "ADDED", "object": service(f"service-{number}", number + 1)})
        await stream.write(line + b"\n")
        await self._open[-1].wait()
        return stream

    def end(self) -> None:
        """End all watches."""
        for each in self._open:
            each.set()


@asynccontextmanager
async def served(folder: Path) -> AsyncIterator[tuple[Server, Api]]:
    server = Server()
    async with api_of(server.answer, folder, silence=SILENCE) as api:
        try:
            yield server, api
        finally:
            server.end()


async def test_a_watch_that_falls_silent_goes_on_from_where_it_was(tmp_path: Path) -> None:
    async with served(tmp_path) as (server, api):
        source = KubernetesSource(api, [Interest(Service)], dice=lambda: 0.5)
        stop, world, begun = asyncio.Event(), World(), asyncio.get_running_loop().time()
        async with asyncio.timeout(60):
            async for reading in source.watch(stop):
                world = world.apply([each for each in reading.changes if isinstance(each, Upsert)])
                if len(world.all(Service)) == 2:
                    stop.set()
        took = asyncio.get_running_loop().time() - begun
    assert {name for _, name in world.all(Service)} == {"service-1", "service-3"}
    # Each goes on from the last that was told, without a list of all, and none before its time.
    assert server.watched_from[:3] == ["1", "2", "2"]
    assert took >= 2 * SILENCE
