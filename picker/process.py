"""The picker's process: wires clock, dice, log and sockets to the rest, and runs it until told to stop."""

from __future__ import annotations

import asyncio
import gc
import random
import secrets
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol, TextIO

import grpc
from aiohttp import web

from picker.access_log import AccessLog
from picker.ads import Credentials, follow_control_plane
from picker.calls import Calls, Listener
from picker.in_flight import MAX_AGE, InFlight
from picker.logs import Log, open_log
from picker.model_lists import ListTimes, ModelLists
from picker.passage import DUPLEX
from picker.pools import Directory
from picker.probe import Prober, ProbeTimes
from picker.scrape import Scraper, ScrapeTimes
from picker.server import Picker
from picker.streams import PoolServer
from picker.table import Endpoint
from picker.telemetry import Telemetry, metrics_app
from picker.tls import Tls

# To be in the environment before the process starts: gRPC's older listener polls on one thread instead of handing
# each event from thread to thread, which takes a quarter off the cost of what still goes through gRPC (1.85): the
# streams of a picker that a pool names itself.
ENVIRONMENT = {"GRPC_EXPERIMENTS": "-event_engine_listener"}

# The port opens when the pods were asked once, and does not wait longer than this for one that hangs (seconds).
_FIRST_SCRAPE = 0.3
_SWEEP = 600.0


@dataclass(frozen=True, slots=True)
class PickerSettings:
    """Where the picker finds and is found.

    `xds` and `listen` are ``unix:/path`` or ``host:port``; `metrics` is ``host:port``, and so is `health`, where probes
    ask by gRPC; `group` is the name under which the control plane keeps the Envoys and pickers that belong together;
    `debug` logs every decision in full.

    With `pool` (``namespace/name``) it is the picker that this pool names itself, and speaks the endpoint picker
    protocol to any gateway: with TLS if there are `credentials`, taking bodies in `body_mode` (`BodySendMode`) where a
    gateway does not say how it sends them; `drain` is how many seconds requests that are passing may take to end when
    it is told to stop.

    With `proof` it meets the control plane over TLS, which gives it the certificate that it meets Envoys with.
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
    proof: Credentials | None = None
    credentials: grpc.ServerCredentials | None = None
    body_mode: int = DUPLEX
    drain: float = 0.2


class Teacher(Protocol):
    """Tells the directory of pools and endpoints, calls `changed` whenever it did, and does so until cancelled."""

    def __call__(self, directory: Directory, *, changed: Callable[[], None], log: Log) -> Coroutine[Any, Any, None]:
        """Begin."""


class PortTakenError(OSError):
    """A port that the picker is told to listen on is taken."""


async def serve(
    settings: PickerSettings, stop: asyncio.Event, stream: TextIO | None = None, teacher: Teacher | None = None
) -> None:
    """Run the picker until `stop` is set; logs to `stream` (stderr).

    It learns of pools from `teacher`, by default the control plane.

    The port for Envoy opens when the pools and their endpoints are known: until then Envoy does what the pool's
    failure mode says.  Raises PortTakenError.
    """
    log = open_log(stream or sys.stderr, debug=settings.debug)
    by_default = partial(follow_control_plane, settings.xds, dice=random.random, credentials=settings.proof)
    process = _Process(settings, log, teacher or by_default)
    try:
        await process.run(stop)
    finally:
        await process.close()


@contextmanager
def _taken(address: str) -> Iterator[None]:
    try:
        yield
    except (OSError, RuntimeError) as error:
        raise PortTakenError(f"the picker cannot listen on {address}") from error


class _Process:
    def __init__(self, settings: PickerSettings, log: Log, teacher: Teacher) -> None:
        self._settings = settings
        self._teacher = teacher
        self._log = log
        self._directory = Directory(settings.group, settings.pool, identified=settings.proof is not None)
        self._tls = Tls() if settings.proof is not None else None
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
        self._news = asyncio.Event()
        self._serving = False
        self._listener = Listener(log)
        self._access_log = AccessLog(
            directory=self._directory,
            in_flight=self._in_flight,
            prober=self._prober,
            telemetry=self._telemetry,
            log=log,
        )
        self._pool_server: PoolServer | None = None
        if settings.pool:
            self._pool_server = PoolServer(self._picker, self._access_log, settings.pool, settings.body_mode)
        self._web: web.AppRunner | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def run(self, stop: asyncio.Event) -> None:
        await self._open_metrics()
        if self._pool_server is not None:
            with _taken(self._settings.health):
                await self._pool_server.open_probes(self._settings.health)
        loop = asyncio.get_running_loop()
        self._tasks += (
            loop.create_task(self._teacher(self._directory, changed=self._change, log=self._log)),
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
        if self._pool_server is not None:
            await self._pool_server.close(self._settings.drain)
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
        listen, health = self._settings.listen, self._settings.health
        if self._pool_server is None:
            calls = Calls(self._picker, self._access_log)
            with _taken(listen):
                await self._listener.open(listen, calls.route, self._tls)
            if health:
                with _taken(health):
                    await self._listener.open(health, Calls.route_of_probes)
        else:
            with _taken(listen):
                await self._pool_server.open(listen, self._settings.credentials)
            self._tasks.append(asyncio.get_running_loop().create_task(self._show_ready(self._pool_server)))
        self._serving = True
        # What is there at the start stays: the collector need not look at it again, and requests make little garbage.
        gc.freeze()
        gc.set_threshold(50_000, 20, 50)
        self._log.event("Picker ready", listen=listen, pools=sorted(self._directory.pools))

    async def _open_metrics(self) -> None:
        runner = self._web = web.AppRunner(metrics_app(self._telemetry, lambda: self._serving), access_log=None)
        await runner.setup()
        host, _, port = self._settings.metrics.rpartition(":")
        await web.TCPSite(runner, host.strip("[]"), int(port)).start()

    async def _show_ready(self, server: PoolServer) -> None:
        """Keep the answer to health checks true: without its pool there is nothing to pick from."""
        while True:
            self._news.clear()
            await server.show_ready(ready=bool(self._directory.pools))
            await self._news.wait()

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP)
            self._in_flight.forget_before(time.monotonic() - MAX_AGE)

    def _change(self) -> None:
        if self._tls is not None and self._directory.identity is not None:
            try:
                self._tls.take(self._directory.identity)
            except ValueError as error:
                self._log.event("Certificate refused", reason=str(error))
        self._scraper.follow(self._directory.members)
        self._model_lists.follow(self._directory.members)
        self._telemetry.forget_others()
        self._picker.announce()
        self._news.set()
        if self._directory.complete:
            self._complete.set()

    def _note_avoidance(self, endpoint: Endpoint, reason: str) -> None:
        if endpoint.avoided:
            self._telemetry.avoid(endpoint.address, endpoint.pod)
            self._log.event("Endpoint avoided", pod=endpoint.pod, address=endpoint.address, reason=reason)
        else:
            self._log.event("Endpoint back", pod=endpoint.pod, address=endpoint.address)
