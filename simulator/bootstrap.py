"""How a prefill and a decode server meet that are processes of their own: over HTTP, at the prefill's bootstrap port.

`POST /rooms/NUMBER`, with the host and the port that the request names, says that the decode server has made room. The
answer comes when the KV values are there: 204, or 500 with the reason why they never will be.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus

import aiohttp
from aiohttp import web

from simulator.rooms import Door, Room, Rooms, failure

_ROOMS = "/rooms/"
# Seconds: to connect; and what aiohttp takes for none, where 0 would be no limit.
_CONNECT = 5.0
_AT_ONCE = 0.01


class DistantRooms(Rooms):
    """The meetings of one server with those of other processes."""

    def __init__(self) -> None:
        super().__init__()
        self._client: aiohttp.ClientSession | None = None
        self._runner: web.AppRunner | None = None

    async def listen(self, host: str, port: int) -> None:
        """Be met by decode servers.  Raises OSError when the port is taken."""
        app = web.Application()
        app.router.add_post(_ROOMS + r"{number:\d+}", self._be_met)
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=_AT_ONCE)
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port).start()

    async def end(self) -> None:
        """Close all connections."""
        if self._runner is not None:
            await self._runner.cleanup()
        if self._client is not None:
            await self._client.close()

    def door(self) -> Door:
        """Give the server its door to the rooms."""
        return _DistantDoor(self)

    @property
    def client(self) -> aiohttp.ClientSession:
        """What asks prefill servers."""
        if self._client is None:
            self._client = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        return self._client

    async def _be_met(self, request: web.Request) -> web.Response:
        port = request.query.get("port", "")
        room = Room(
            request.query.get("host", ""), int(port) if port.isdecimal() else None, int(request.match_info["number"])
        )
        with self.meet(room) as meeting:
            meeting.wanted.set()
            await meeting.sent.wait()
            if meeting.failure:
                return web.Response(status=HTTPStatus.INTERNAL_SERVER_ERROR, text=meeting.failure)
            return web.Response(status=HTTPStatus.NO_CONTENT)


class _DistantDoor(Door):
    def __init__(self, rooms: DistantRooms) -> None:
        super().__init__(rooms)
        self._distant = rooms

    async def receive(self, room: Room, patience: float) -> None:
        """Wait for the KV values. Raises RequestError, at once where no prefill server is met at the room's address."""
        host, port = room.address
        url = f"http://{f'[{host}]' if ':' in host else host}:{port}{_ROOMS}{room.number}"
        query = {"host": room.host, **({} if room.port is None else {"port": str(room.port)})}
        limits = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT)
        self.waiting += 1
        try:
            async with (
                asyncio.timeout(patience),
                self._distant.client.post(url, params=query, timeout=limits) as response,
            ):
                reason = "" if response.ok else await response.text()
        except aiohttp.ClientConnectionError as error:
            if isinstance(error, aiohttp.ClientConnectorError):
                raise failure(f"Could not fetch prefill parallel info from bootstrap_addr: {host}:{port}") from None
            reason = f"Lost connection with prefill instance (bootstrap_addr: {host}:{port})"
        except TimeoutError:
            reason = "timed out"
        finally:
            self.waiting -= 1
        if reason:
            raise failure(f"Decode transfer failed for {room.number}: {reason}")
