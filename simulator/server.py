"""One simulated model server on one address: HTTP in front of a driver.

Answers carry the pod's name in `x-simulated-pod`. `POST /simulator/fault` switches faults; it is answered in every
mode in which anything listens, and never to a request that came through a proxy.
"""

import asyncio
import logging
import socket
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus

import msgspec
from aiohttp import StreamReader, web
from aiohttp.abc import AbstractAccessLogger, AbstractStreamWriter
from aiohttp.http import RawRequestMessage

from simulator.adapters import Adapters
from simulator.api import Api
from simulator.dialects.sglang.api import SglangAdapters, SglangApi
from simulator.driver import Driver
from simulator.faults import Fault, Mode, nonsense
from simulator.openai_requests import Reader
from simulator.refusals import RequestError, bad_request
from simulator.rooms import Rooms
from simulator.spec import Role, ServerSpec, Timing

MAX_BODY = 64 * 2**20
_FAULT_PATH = "/simulator/fault"
_METRICS_PATH = "/metrics"
# Envoy adds it to every request: no client of a gateway may switch faults.
_PROXIED = "x-forwarded-proto"
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER on, for 0 seconds: close() sends RST

_UNAVAILABLE = RequestError(HTTPStatus.SERVICE_UNAVAILABLE, "The server is unavailable.", "ServiceUnavailableError")

# Seconds after which an idle connection is closed: vLLM's VLLM_HTTP_TIMEOUT_KEEP_ALIVE.
_KEEP_ALIVE = 5
_STATUSES = frozenset(status.value for status in HTTPStatus)
# aiohttp takes 0 seconds for no limit.
_AT_ONCE = 0.01


@dataclass(frozen=True, slots=True)
class Site:
    """Who a server is and where it listens; port 0 means any free one."""

    pod: str
    host: str
    port: int

    @property
    def url(self) -> str:
        """The server's base URL."""
        return f"http://{self.host}:{self.port}"


_DIALECTS: dict[str, tuple[type[Adapters], type[Api]]] = {
    "vllm": (Adapters, Api),
    "sglang": (SglangAdapters, SglangApi),
}


async def _alone(fault: Fault) -> None:
    raise KeyError(fault.pod)


class RequestsLogger(AbstractAccessLogger):
    """Writes requests as uvicorn does, vLLM's web server: `10.0.0.1:4321 - "POST /v1/completions HTTP/1.1" 200 OK`."""

    def log(self, request: web.BaseRequest, response: web.StreamResponse, _time: float) -> None:
        """Write a request's line."""
        peer = request.transport.get_extra_info("peername") if request.transport is not None else None
        client = f"{peer[0]}:{peer[1]}" if peer else "-"
        version = f"{request.version.major}.{request.version.minor}"
        phrase = HTTPStatus(response.status).phrase if response.status in _STATUSES else ""
        line = f'{client} - "{request.method} {request.path_qs} HTTP/{version}" {response.status} {phrase}'
        self.logger.info("INFO:     %s", line.rstrip())


class ModelServer:
    """A model server; `control` is asked to switch the faults of other pods, and in `rooms` it meets other servers.

    `requests_log` gets a line for each request, as vLLM's server writes it.
    """

    def __init__(
        self,
        site: Site,
        spec: ServerSpec,
        timing: Timing,
        control: Callable[[Fault], Awaitable[None]] = _alone,
        rooms: Rooms | None = None,
        requests_log: logging.Logger | None = None,
    ) -> None:
        self.site = site
        self._control = control
        self._headers = {"x-simulated-pod": site.pod}
        self._mode = Mode.NONE
        self._responsive = asyncio.Event()
        self._responsive.set()
        self._spec = spec
        self._timing = timing
        self._rooms = rooms or Rooms()
        self._nonsense = nonsense()
        self._begin()
        self._switching = asyncio.Lock()
        self._fault_end: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._listener: asyncio.Server | None = None
        self._busy: set[web.RequestHandler] = set()
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._gone = False
        # Requests cancelled with their connection: a client that leaves takes its job out of the engine.
        self._http = web.Server(
            self._handle,
            request_factory=_request,
            handler_cancellation=True,
            access_log=requests_log,
            access_log_class=RequestsLogger,
            keepalive_timeout=_KEEP_ALIVE,
        )

    @property
    def mode(self) -> Mode:
        """The present fault."""
        return self._mode

    @property
    def busy(self) -> int:
        """Requests that are being handled."""
        return len(self._busy)

    def _begin(self) -> None:
        """Be as a process is that was just started."""
        adapters, api = _DIALECTS[self._spec.dialect]
        self.driver = Driver(self._spec, self._timing)
        loaded = adapters(self._spec)
        reader = Reader(self._spec, self._timing, loaded)
        self._api = api(self._spec, self.driver, reader, loaded, self._rooms.door(), self._headers, self._responsive)

    async def start(self) -> None:
        """Listen. Raises OSError when the address is taken or is not this machine's."""
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(self._http, self.site.host, self.site.port, backlog=1024)
        port: int = self._listener.sockets[0].getsockname()[1]
        self.site = Site(self.site.pod, self.site.host, port)
        if self._meets is not None:
            self._rooms.open(self.site.host, self._meets)

    async def reserve(self) -> None:
        """Learn whether `start` would do, and which port it would take; raises OSError as `start` does."""
        await self.start()
        self._close_listener()

    def cut(self) -> None:
        """Cut what `stop` would finish; `stop` goes on to its end."""
        self._die(None)

    async def stop(self, grace: float) -> None:
        """Stop listening, finish what is under way within `grace` seconds, then cut what is left."""
        if self._fault_end is not None:
            self._fault_end.cancel()
        for task in self._tasks:
            task.cancel()
        self._close_listener()
        # An event loop may close sockets only when it comes round again (uvloop).
        await asyncio.sleep(0)
        self._close_listener()
        # aiohttp's own shutdown would not read the rest of the requests that are under way.
        now = asyncio.get_running_loop().time
        end = now() + (_AT_ONCE if self._mode is Mode.HANG else grace)
        with suppress(TimeoutError):
            async with asyncio.timeout_at(end):
                await self._quiet.wait()
        self._gone = True
        await self._http.shutdown(max(_AT_ONCE, end - now()))
        # Until here it can be met for the requests that it had.
        self._close_door()
        self.driver.close()

    async def switch(
        self, mode: Mode, duration: float | None = None, *, asked_by: web.RequestHandler | None = None
    ) -> None:
        """Fail in this way from here on, for `duration` seconds if that is given. Raises OSError as `start` does.

        The connection that asks for a crash is told that it happened.
        """
        async with self._switching:
            if self._fault_end is not None:
                self._fault_end.cancel()
                self._fault_end = None
            if self._mode is Mode.CRASH and mode is not Mode.CRASH:
                self._begin()
            if mode in {Mode.REFUSE, Mode.CRASH}:
                self._close_listener()
                self._close_door()
                if mode is Mode.CRASH:
                    self._die(asked_by)
                # An event loop may close sockets only when it comes round again (uvloop).
                await asyncio.sleep(0)
            elif self._listener is None:
                await self.start()
            self._mode = mode
            if mode is Mode.HANG:
                self._responsive.clear()
                self.driver.pause()
            else:
                self._responsive.set()
                if mode is not Mode.CRASH:
                    self.driver.resume()
            if duration is not None and mode is not Mode.NONE:
                self._fault_end = asyncio.get_running_loop().call_later(duration, self._recover)

    @property
    def _meets(self) -> int | None:
        """The port at which a prefill server is met."""
        shared = self._spec.disaggregation
        return shared.bootstrap_port if shared is not None and shared.role is Role.PREFILL else None

    def _recover(self) -> None:
        self._fault_end = None
        task = asyncio.get_running_loop().create_task(self.switch(Mode.NONE))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _close_listener(self) -> None:
        """Take no more connections, close the idle ones, and the others when their answers are complete."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        for connection in self._http.connections:
            # A busy one goes with its answer: aiohttp, told to close it, would not read the rest of the request.
            if connection not in self._busy:
                connection.force_close()

    def _die(self, spared: web.RequestHandler | None) -> None:
        """Cut every connection, as a kernel does for a process that is killed."""
        for connection in self._http.connections:
            if connection is not spared and connection.transport is not None:
                connection.transport.abort()
        self.driver.close()

    def _close_door(self) -> None:
        if self._meets is not None:
            self._rooms.close(self.site.host, self._meets)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        connection = request.protocol
        if self._gone:
            # Accepted while the listener was being closed: a process that is gone answers nothing.
            return self._abort(request)
        self._busy.add(connection)
        self._quiet.clear()
        try:
            is_fault = request.path == _FAULT_PATH
            response = await (self._switch_by_request(request) if is_fault else self._respond(request))
            if self._listener is None:
                response.force_close()
            return response
        finally:
            self._busy.discard(connection)
            if not self._busy:
                self._quiet.set()

    def _abort(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.transport is not None:
            request.transport.abort()
        return web.Response()

    async def _respond(self, request: web.BaseRequest) -> web.StreamResponse:
        await self._responsive.wait()
        if self._mode is Mode.RESET:
            return await self._reset(request)
        if self._mode is Mode.UNAVAILABLE:
            return self._api.refusal(_UNAVAILABLE)
        if self._mode is Mode.GARBAGE and request.path == _METRICS_PATH:
            return web.Response(body=next(self._nonsense), headers=self._headers)
        return await self._api.answer(request)

    async def _reset(self, request: web.BaseRequest) -> web.StreamResponse:
        await request.read()
        transport = request.transport
        if transport is not None:
            connection = transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        return self._abort(request)

    async def _switch_by_request(self, request: web.BaseRequest) -> web.StreamResponse:
        if _PROXIED in request.headers:
            return self._api.refusal(
                RequestError(HTTPStatus.FORBIDDEN, "Faults are not switched by proxy.", "Forbidden")
            )
        try:
            fault = msgspec.json.decode(await request.read(), type=Fault)
            if fault.pod is None or fault.pod == self.site.pod:
                await self.switch(fault.mode, fault.duration, asked_by=request.protocol)
            else:
                await self._control(fault)
        except msgspec.DecodeError as error:
            return self._api.refusal(bad_request(str(error)))
        except KeyError as error:
            return self._api.refusal(RequestError(HTTPStatus.NOT_FOUND, f"No pod {error}.", "NotFoundError", "pod"))
        return web.Response(status=HTTPStatus.NO_CONTENT, headers=self._headers)


def _request(
    message: RawRequestMessage,
    payload: StreamReader,
    protocol: web.RequestHandler,
    writer: AbstractStreamWriter,
    task: asyncio.Task[None],
) -> web.BaseRequest:
    loop = asyncio.get_running_loop()
    return web.BaseRequest(message, payload, protocol, writer, task, loop, client_max_size=MAX_BODY)
