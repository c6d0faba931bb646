"""WebSockets through real Envoy: to Services, and not to pools."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import kinds
import pytest
from aiohttp import web
from running import Start


@asynccontextmanager
async def echo() -> AsyncIterator[int]:
    """A server that sends back what it gets; its port is yielded."""

    async def serve(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            await (socket.send_str(message.data) if isinstance(message.data, str) else socket.send_bytes(message.data))
        return socket

    application = web.Application()
    application.router.add_get("/ws", serve)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


async def test_a_service_is_reached_and_a_pool_is_not(start: Start, tmp_path: Path) -> None:
    async with echo() as port:
        kinds.write(tmp_path / "gateway.yaml", kinds.gateway_class(), kinds.gateway())
        service, endpoints = kinds.served_at("sockets", "127.0.0.1", port)
        service["spec"]["ports"][0]["appProtocol"] = "kubernetes.io/ws"
        kinds.write(tmp_path / "sockets.yaml", service, endpoints)
        kinds.write(tmp_path / "chat.yaml", kinds.pool("chat", "chat"), kinds.deployment("chat", ""))
        rules = [kinds.rule(kinds.to_pool("chat"), headers={"to": "pool"}), kinds.rule(kinds.to_service("sockets"))]
        kinds.write(tmp_path / "route.yaml", kinds.route("route", *rules))
        running = await start(tmp_path)
        url = f"{running.url}/ws"
        async with running.session.ws_connect(url) as socket:
            await socket.send_str("one")
            assert await socket.receive_str() == "one"
            await socket.send_bytes(b"\x00\x01")
            assert await socket.receive_bytes() == b"\x00\x01"
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await running.session.ws_connect(url, headers={"to": "pool"})
        assert refused.value.status == 403
