"""In which order statuses are written, told by what stands in for the API server's side of it."""

import asyncio
from collections.abc import Mapping
from typing import Any, cast

import orjson

from resources import GATEWAY_GROUP, Gateway, HTTPRoute, Key
from sources.kubernetes import Api, StatusWriter
from sources.kubernetes.discovery import Served
from sources.kubernetes.follower import Told

GATEWAY = Key(GATEWAY_GROUP, "Gateway", "default", "a")
ROUTES = [Key(GATEWAY_GROUP, "HTTPRoute", "default", f"r{number}") for number in range(100)]


class Server:
    """Takes every status, and says so."""

    def __init__(self) -> None:
        self.written: list[str] = []
        self._told: dict[Key, Told] = {}

    def told(self, key: Key) -> Told | None:
        return self._told.get(key, Told("uid", "1", 1, b"{}"))

    def note(self, key: Key, told: Told) -> None:
        self._told[key] = told

    def served(self, key: Key) -> Served | None:
        kind = Gateway if key.kind == "Gateway" else HTTPRoute
        return Served(kind, "v1", key.kind.lower() + "s")

    async def apply(self, path: str, body: Mapping[str, Any], *, manager: str) -> bytes:
        assert path.endswith("/status")
        assert manager
        self.written.append(str(body["metadata"]["name"]))
        return orjson.dumps({**body, "metadata": {**body["metadata"], "resourceVersion": "2"}})


async def test_a_gateway_does_not_wait_for_its_routes() -> None:
    server = Server()
    # Four are written at a time, in order of need.
    writer = StatusWriter(cast("Api", server), server, owns=lambda _: True, rate=20.0)
    writer.want({key: {"parents": []} for key in ROUTES} | {GATEWAY: {"addresses": [{"value": "10.0.0.1"}]}})
    running = asyncio.create_task(writer.run())
    try:
        async with asyncio.timeout(30):
            while GATEWAY.name not in server.written:
                await asyncio.sleep(0.01)
    finally:
        running.cancel()
    assert server.written.index(GATEWAY.name) <= 4
