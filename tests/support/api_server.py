"""What stands for an API server where the point is how one misbehaves, or when it answers."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import yaml
from aiohttp import web

from sources.kubernetes import Api


@asynccontextmanager
async def api_of(
    answer: Callable[[web.Request], Awaitable[web.StreamResponse]], folder: Path, *, silence: float = 75.0
) -> AsyncIterator[Api]:
    """Serve every request by `answer`, and yield a client of that server."""
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        (place,) = runner.addresses
        name = "local"
        config = {
            "clusters": [{"name": name, "cluster": {"server": f"http://127.0.0.1:{place[1]}"}}],
            "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
            "users": [{"name": name, "user": {}}],
            "current-context": name,
        }
        kubeconfig = folder / "kubeconfig"
        kubeconfig.write_text(yaml.safe_dump(config))
        api = await Api.connect(kubeconfig, silence=silence)
        try:
            yield api
        finally:
            await api.close()
    finally:
        await runner.cleanup()
