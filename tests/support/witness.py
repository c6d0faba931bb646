"""A server that answers with what reached it: what the simulated model servers cannot tell."""

import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

_KEPT = 65_536
_LONGEST = 64 * 2**20


@asynccontextmanager
async def witness() -> AsyncIterator[int]:
    """Serve on a port of 127.0.0.1, which is yielded."""
    application = web.Application(client_max_size=_LONGEST)
    application.router.add_get("/metrics", _metrics)
    application.router.add_route("*", "/{path:.*}", _testify)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


async def _metrics(_: web.Request) -> web.Response:
    return web.Response(text="vllm:num_requests_running 0.0\nvllm:num_requests_waiting 0.0\n")


async def _testify(request: web.Request) -> web.Response:
    body = await request.read()
    seen = {
        "method": request.method,
        "path": request.path_qs,
        "headers": [[name.lower(), value] for name, value in request.headers.items()],
        "length": len(body),
        "digest": hashlib.blake2b(body).hexdigest(),
        "body": body.decode("latin-1") if len(body) <= _KEPT else None,
    }
    return web.Response(text=json.dumps(seen), content_type="application/json", headers={"x-witness": "yes"})
