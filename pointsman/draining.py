"""`pointsman drain-envoy`: beside an Envoy in its pod, lets the requests under way end before Envoy is told to.

Kubernetes asks for ``/drain`` before it sends Envoy its signal (container lifecycle, preStop) and waits for the answer.
From then on the Envoy says that it is not ready and closes connections after the answers under way; the answer comes
when none is left, or when the time is over.
"""

import asyncio
from dataclasses import dataclass

import aiohttp
import orjson
import structlog
from aiohttp import web

from pointsman.failure import Failure
from pointsman.signals import stop_on_signals

_ACTIVE = {"filter": r"^http\..*\.downstream_rq_active$", "format": "json"}
# Connections of our own to the Envoy: its admin interface and the probes.
_OWN = ("http.admin.", "http.pointsman-readiness.")
_INTERVAL = 0.25

_log = structlog.get_logger("drain")


@dataclass(frozen=True, slots=True)
class DrainOptions:
    """listen, admin: "host:port".

    least: seconds for which Envoy goes on taking requests, until every proxy in front of it has forgotten it. timeout:
    seconds within which requests have to end.
    """

    listen: str
    admin: str
    least: float
    timeout: float


async def serve(options: DrainOptions) -> None:
    """Wait to be asked, until SIGTERM or SIGINT.  Failure when the address cannot be bound."""
    stop = stop_on_signals()
    async with aiohttp.ClientSession(f"http://{options.admin}") as envoy:

        async def drain(_: web.Request) -> web.Response:
            left = await drain_envoy(envoy, options)
            return web.Response(text=f"{left} requests left\n")

        application = web.Application()
        application.router.add_get("/drain", drain)
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        host, _, port = options.listen.rpartition(":")
        try:
            await web.TCPSite(runner, host.strip("[]"), int(port)).start()
        except OSError as error:
            raise Failure(f"--listen {options.listen}: {error.strerror}") from None
        try:
            await stop.wait()
        finally:
            await runner.cleanup()


async def drain_envoy(envoy: aiohttp.ClientSession, options: DrainOptions) -> int:
    """Drain, and return how many requests are left at the end."""
    loop = asyncio.get_running_loop()
    end = loop.time() + options.timeout
    try:
        await _tell(envoy, "/healthcheck/fail")
        await asyncio.sleep(min(options.least, options.timeout))
        await _tell(envoy, "/drain_listeners?graceful&skip_exit")
        while (left := await _active(envoy)) and loop.time() < end:  # noqa: ASYNC110 - Envoy has no other way to ask
            await asyncio.sleep(_INTERVAL)
    except aiohttp.ClientError as error:
        # An Envoy that is gone has nothing to drain.
        _log.warning("Envoy does not answer", reason=str(error))
        return 0
    _log.info("drained", left=left)
    return left


async def _tell(envoy: aiohttp.ClientSession, path: str) -> None:
    async with envoy.post(path) as response:
        response.raise_for_status()


async def _active(envoy: aiohttp.ClientSession) -> int:
    async with envoy.get("/stats", params=_ACTIVE) as response:
        response.raise_for_status()
        stats = orjson.loads(await response.read())["stats"]
    return sum(int(each["value"]) for each in stats if "value" in each and not each["name"].startswith(_OWN))
