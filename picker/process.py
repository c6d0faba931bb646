"""The picker's process: wires clock, dice, log and sockets to the rest, and runs it until told to stop."""

from __future__ import annotations

import asyncio
import gc
import random
import secrets
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TextIO

import grpc
from aiohttp import web

from picker.access_log import AccessLog
from picker.ads import follow_control_plane
from picker.calls import Calls, Listener
from picker.in_flight import MAX_AGE, InFlight
from picker.logs import Log, open_log
from picker.model_lists import ListTimes, ModelLists
from picker.pools import Directory
from picker.probe import Prober, ProbeTimes
from picker.scrape import Scraper, ScrapeTimes
from picker.server import SERVER_OPTIONS, Picker
from picker.streams import Health, PoolServices
from picker.table import Endpoint
from picker.telemetry import Telemetry, metrics_app

# To be in the environment before the process starts: gRPC's older listener polls on one thread instead of handing
# each event from thread to thread, which takes a quarter off the cost of what still goes through gRPC (1.85): the
# streams of a picker that a pool names itself.
ENVIRONMENT = {"GRPC_EXPERIMENTS": "-event_engine_listener"}

# The port opens when the pods were asked once, and does not wait longer than this for one that hangs (seconds).
_FIRST_SCRAPE = 0.3
_SWEEP = 600.0
# Access log streams never end of themselves; exchanges take milliseconds (seconds).
_GRACE = 0.2


@dataclass(frozen=True, slots=True)
class PickerSettings:
    """Where the picker finds and is found.

    `xds` and `listen` are ``unix:/path`` or ``host:port``; `metrics` is ``host:port``; `group` is the name under which
    the control plane keeps the Envoys and pickers that belong together; `debug` logs every decision in full.  With
    `pool` (``namespace/name``) it is the picker that this pool names itself, and speaks the endpoint picker protocol;
    `health` (``host:port``) is where it says by gRPC that it serves.
    """

    xds: str
    listen: str
    metrics: str
    group: str
    scrape: ScrapeTimes = field(default_factory=ScrapeTimes)
    probe: ProbeTimes = field(default_factory=ProbeTimes)
    lists: ListTimes = field(default_factory=ListTimes)
    debug: bool = False
    pool: str = ""
    health: str = ""


class PortTakenError(OSError):
    """A port that the picker is told to listen on is taken."""


async def serve(settings: PickerSettings, stop: asyncio.Event, stream: TextIO | None = None) -> None:
    """Run the picker until `stop` is set; logs to `stream` (stderr).

    The port for Envoy opens when the pools and their endpoints are known: until then Envoy does what the pool's
    failure mode says.  Raises PortTakenError.
    """
    log = open_log(stream or sys.stderr, debug=settings.debug)
    process = _Process(settings, log)
    try:
        await process.run(stop)
    finally:
        await process.close()


class _Process:
    def __init__(self, settings: PickerSettings, log: Log) -> None:
        self._settings = settings
        self._log = log
        self._directory = Directory(settings.group, settings.pool)
        self._in_flight = InFlight()
        self._telemetry = Telemetry(self._directory, self._in_flight)
        self._prober = Prober(self._note_avoidance, settings.probe)
        self._scraper = Scraper(
            clock=time.monotonic,
            dice=random.random,
            in_flight=self._in_flight,
            prober=self._prober,
            changed=self._note_avoidance,
            failed=lambda endpoint: self._telemetry.fail_scrape(endpoint.address, endpoint.pod),
            times=settings.scrape,
        )
        self._model_lists = ModelLists(settings.lists)
        self._picker = Picker(
            directory=self._directory,
            in_flight=self._in_flight,
            telemetry=self._telemetry,
            clock=time.monotonic,
            dice=random.random,
            # The access log of one picker among several is told by the beginning of its names.
            instance=f"{settings.group}/{secrets.token_hex(4)}",
            log=log,
        )
        self._complete = asyncio.Event()
        self._serving = False
        self._listener = Listener(log)
        self._server = grpc.aio.server(options=SERVER_OPTIONS)
        self._web: web.AppRunner | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def run(self, stop: asyncio.Event) -> None:
        await self._open_metrics()
        loop = asyncio.get_running_loop()
        self._tasks += (
            loop.create_task(
                follow_control_plane(
                    self._settings.xds, self._directory, changed=self._change, log=self._log, dice=random.random
                )
            ),
            loop.create_task(self._sweep()),
            loop.create_task(self._open()),
        )
        stopping = loop.create_task(stop.wait())
        pending: set[asyncio.Task[Any]] = {stopping, *self._tasks}
        try:
            while not stopping.done():
                done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
        finally:
            stopping.cancel()

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._listener.close()
        await self._server.stop(_GRACE if self._serving else None)
        await self._scraper.close()
        await self._model_lists.close()
        await self._prober.close()
        if self._web is not None:
            await self._web.cleanup()
        self._log.release()

    async def _open(self) -> None:
        await self._complete.wait()
        with suppress(TimeoutError):
            async with asyncio.timeout(_FIRST_SCRAPE):
                await self._scraper.settle()
        access_log = AccessLog(
            directory=self._directory,
            in_flight=self._in_flight,
            prober=self._prober,
            telemetry=self._telemetry,
            log=self._log,
        )
        for address in filter(None, (self._settings.listen, self._settings.health)):
            try:
                if self._settings.pool:
                    self._server.add_insecure_port(address)
                else:
                    await self._listener.open(address, Calls(self._picker, access_log))
            except (OSError, RuntimeError) as error:
                raise PortTakenError(f"the picker cannot listen on {address}") from error
        if self._settings.pool:
            services = PoolServices(self._picker, access_log, self._settings.pool)
            self._server.add_generic_rpc_handlers((services, Health()))
            await self._server.start()
        self._serving = True
        # What is there at the start stays: the collector need not look at it again, and requests make little garbage.
        gc.freeze()
        gc.set_threshold(50_000, 20, 50)
        self._log.event("Picker ready", listen=self._settings.listen, pools=sorted(self._directory.pools))

    async def _open_metrics(self) -> None:
        runner = self._web = web.AppRunner(metrics_app(self._telemetry, lambda: self._serving), access_log=None)
        await runner.setup()
        host, _, port = self._settings.metrics.rpartition(":")
        await web.TCPSite(runner, host.strip("[]"), int(port)).start()

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP)
            self._in_flight.forget_before(time.monotonic() - MAX_AGE)

    def _change(self) -> None:
        self._scraper.follow(self._directory.members)
        self._model_lists.follow(self._directory.members)
        self._telemetry.forget_others()
        self._picker.announce()
        if self._directory.complete:
            self._complete.set()

    def _note_avoidance(self, endpoint: Endpoint, reason: str) -> None:
        if endpoint.avoided:
            self._telemetry.avoid(endpoint.address, endpoint.pod)
            self._log.event("Endpoint avoided", pod=endpoint.pod, address=endpoint.address, reason=reason)
        else:
            self._log.event("Endpoint back", pod=endpoint.pod, address=endpoint.address)
