"""What Envoy calls: exchanges (ext_proc) and access logs, on one port, over `picker.http2`.

Nothing here awaits but for a pool that is not known yet: an exchange is answered while its message is taken in, and all
answers to what came together leave together.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias, cast

from picker.access_log import AccessLog
from picker.exchange import Exchange, Pool
from picker.http2 import Call, Connection, Opener
from picker.logs import Log
from picker.passage import Passage
from picker.served_models import Source, read_sources
from picker.server import (
    BODY_FOLLOWS,
    BODY_METADATA,
    ENVOY_METADATA,
    HEALTH,
    LIST_METADATA,
    MIRRORS_METADATA,
    POOL_METADATA,
    PROCESS,
    SERVING,
    STREAM_ACCESS_LOGS,
    STREAMED,
    Picker,
)
from picker.tls import Tls
from protos.pointsman.envoy.v1.access_log_pb2 import StreamAccessLogsMessage, StreamAccessLogsResponse
from protos.pointsman.envoy.v1.ext_proc_pb2 import ProcessingRequest

Route: TypeAlias = "Callable[[Mapping[str, str]], Opener | None]"
"""Finds what opens a stream with these headers; None for what is not served."""

# How long a client may take over its handshake (seconds).
_HANDSHAKE = 10.0
_UNIX = "unix:"
_BACKLOG = 4096
_NOTHING_MORE = StreamAccessLogsResponse().SerializeToString()


class Calls:
    """Opens the streams of all connections; `tasks` are the exchanges that wait for a pool."""

    def __init__(self, picker: Picker, access_log: AccessLog) -> None:
        self.picker = picker
        self.access_log = access_log
        self._open_logs: dict[str, int] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def route(self, headers: Mapping[str, str]) -> Opener | None:
        """Find what opens a stream with these headers; None for what is not served."""
        path = headers.get(":path")
        if path == PROCESS:
            if (listed := headers.get(LIST_METADATA)) is not None:
                sources = read_sources(listed)
                return lambda call: _ListStream(self.picker, call, sources)
            asked = _Asked.by(headers)
            kind = _PassingStream if asked.body == STREAMED else _ExchangeStream
            return lambda call: kind(self, call, asked)
        if path == STREAM_ACCESS_LOGS:
            return lambda call: _AccessLogStream(self, call)
        return _HealthStream if path == HEALTH else None

    @staticmethod
    def route_of_probes(headers: Mapping[str, str]) -> Opener | None:
        """Find what opens a stream where nothing but health is served."""
        return _HealthStream if headers.get(":path") == HEALTH else None

    def begin(self, waiting: Coroutine[Any, Any, None]) -> None:
        """Run what has to wait."""
        task = asyncio.get_running_loop().create_task(waiting)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def open_log(self, envoy: str) -> None:
        """Note an access log stream: each of an Envoy's workers has one, opened with its first entry."""
        self._open_logs[envoy] = self._open_logs.get(envoy, 0) + 1

    def close_log(self, envoy: str) -> None:
        """Note that one ended, which happens only with its Envoy."""
        self._open_logs[envoy] -= 1
        if self._open_logs[envoy]:
            return
        del self._open_logs[envoy]
        self.access_log.close_stream(envoy)
        if not self._open_logs:
            # Exchanges that do not say whose they are belong to one of those that are all gone.
            self.access_log.close_stream("")


class _Asked(NamedTuple):
    """What Envoy says with the headers of an exchange's stream: names of pools, how a body comes, and who it is."""

    pool: str
    mirrors: Sequence[str]
    body: str
    envoy: str

    @classmethod
    def by(cls, headers: Mapping[str, str]) -> _Asked:
        mirrors = headers.get(MIRRORS_METADATA, "")
        return cls(
            headers.get(POOL_METADATA, ""),
            tuple(mirrors.split(",")) if mirrors else (),
            headers.get(BODY_METADATA, ""),
            headers.get(ENVOY_METADATA, ""),
        )


class _ExchangeStream:
    """One message each way, or two where a body follows; then the stream ends."""

    __slots__ = ("_asked", "_call", "_calls", "_exchange", "_held")

    def __init__(self, calls: Calls, call: Call, asked: _Asked) -> None:
        self._calls = calls
        self._call = call
        self._asked = asked
        self._exchange: tuple[Exchange, Pool] | None = None
        self._held: list[bytes] | None = None

    def receive(self, message: bytes) -> None:
        """Answer a message, or hold it until the pool is known."""
        if self._held is not None:
            self._held.append(message)
            return
        if self._exchange is None:
            pool = self._calls.picker.find(self._asked.pool)
            if pool is None:
                self._held = [message]
                self._calls.begin(self._wait(self._held))
                return
            self._begin(pool)
        self._answer(message)

    def finish(self) -> None:
        """Go on: Envoy waits for the answer."""

    def abandon(self) -> None:
        """Go on: what is sent from here on is passed over."""

    async def _wait(self, held: list[bytes]) -> None:
        picker = self._calls.picker
        pool = await picker.await_pool(self._asked.pool)
        self._held = None
        if pool is None:
            self._call.finish(picker.refuse(self._asked.pool).SerializeToString())
            return
        try:
            self._begin(pool)
            for message in held:
                self._answer(message)
        except Exception as error:  # noqa: BLE001  (nobody else would hear of it)
            self._call.fail(error)

    def _begin(self, pool: Pool) -> None:
        asked = self._asked
        opened = self._calls.picker.open(pool, body_follows=asked.body == BODY_FOLLOWS, mirrors=asked.mirrors)
        self._exchange = (opened, pool)

    def _answer(self, message: bytes) -> None:
        if self._exchange is None or self._call.ended:
            return
        exchange, pool = self._exchange
        request = ProcessingRequest.FromString(message)
        response = self._calls.picker.receive(exchange, pool, self._asked.envoy, request).SerializeToString()
        if exchange.done:
            self._call.finish(response)
        else:
            self._call.send(response)


class _ListStream:
    """A list of models on its way to a client: headers, then the body, which is completed; then the stream ends."""

    __slots__ = ("_call", "_picker", "_sources")

    def __init__(self, picker: Picker, call: Call, sources: Sequence[Source]) -> None:
        self._picker = picker
        self._call = call
        self._sources = sources

    def receive(self, message: bytes) -> None:
        """Answer a message."""
        request = ProcessingRequest.FromString(message)
        response = self._picker.complete(self._sources, request).SerializeToString()
        if request.HasField("response_body"):
            self._call.finish(response)
        else:
            self._call.send(response)

    def finish(self) -> None:
        """Go on: Envoy waits for the answer."""

    def abandon(self) -> None:
        """Go on: what is sent from here on is passed over."""


class _PassingStream(_ExchangeStream):
    """Request and answer as they stream through, for a pool whose own picker fails; Envoy ends the stream."""

    __slots__ = ("_passage",)

    def _begin(self, pool: Pool) -> None:
        exchange = self._calls.picker.open(pool, body_follows=True)
        self._exchange = (exchange, pool)
        self._passage = Passage(exchange)

    def _answer(self, message: bytes) -> None:
        if self._exchange is None or self._call.ended:
            return
        request = ProcessingRequest.FromString(message)
        for answer in self._calls.picker.pass_message(self._passage, self._exchange[1], self._asked.envoy, request):
            self._call.send(answer.SerializeToString())

    def finish(self) -> None:
        """End the stream: Envoy has ended its side of it."""
        self._call.end()


class _AccessLogStream:
    """Envoy's access log, for as long as Envoy runs."""

    __slots__ = ("_call", "_calls", "_envoy", "_gateway")

    def __init__(self, calls: Calls, call: Call) -> None:
        self._calls = calls
        self._call = call
        self._envoy: str | None = None
        self._gateway = ""

    def receive(self, message: bytes) -> None:
        """Take in entries."""
        entries = StreamAccessLogsMessage.FromString(message)
        if self._envoy is None:
            # Only a stream's first message says whose it is; the log of each Gateway has its own stream.
            self._envoy = entries.identifier.node.id
            self._gateway = entries.identifier.log_name
            self._calls.open_log(self._envoy)
        self._calls.access_log.receive(entries, self._gateway)

    def finish(self) -> None:
        """Answer: Envoy has no more to tell."""
        self._call.finish(_NOTHING_MORE)
        self.abandon()

    def abandon(self) -> None:
        """Note that nothing more is told."""
        if self._envoy is not None:
            self._calls.close_log(self._envoy)
            self._envoy = None


class _HealthStream:
    """Says that the picker serves, whichever service is asked for: a probe reaches it only then."""

    __slots__ = ("_call",)

    def __init__(self, call: Call) -> None:
        self._call = call

    def receive(self, _message: bytes) -> None:
        """Say so."""
        self._call.finish(SERVING)

    def finish(self) -> None:
        """Go on."""

    def abandon(self) -> None:
        """Go on."""


class _Client(asyncio.Protocol):
    """The bytes of one connection."""

    def __init__(
        self, route: Route, clients: set[_Client], failed: Callable[[Exception], None], tls: Tls | None
    ) -> None:
        self._clients = clients
        self._tls = tls
        self._connection = Connection(route, woken=self._flush, failed=failed)
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if self._tls is not None and not self._tls.admits(transport.get_extra_info("peercert")):
            cast("asyncio.Transport", transport).abort()
            return
        self._transport = cast("asyncio.Transport", transport)
        self._clients.add(self)
        self._flush()

    def data_received(self, data: bytes) -> None:
        if self._transport is None:
            return
        self._connection.receive(data)
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  (asyncio's name)
        self._clients.discard(self)
        self._connection.lose()

    def leave(self) -> None:
        """Say goodbye, and close when that is sent."""
        self._connection.leave()
        self._flush()

    def _flush(self) -> None:
        if self._transport is None:
            return
        out = self._connection.take()
        if out:
            self._transport.write(out)
        if self._connection.closed:
            self._transport.close()


class Listener:
    """The ports that Envoy calls."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._clients: set[_Client] = set()
        self._servers: list[asyncio.Server] = []

    async def open(self, address: str, route: Route, tls: Tls | None = None) -> None:
        """Listen on ``unix:/path`` or ``host:port``.  Raises OSError when that is taken."""

        def connect() -> _Client:
            return _Client(route, self._clients, self._fail, tls)

        loop = asyncio.get_running_loop()
        path = address.removeprefix(_UNIX)
        if path != address:
            server = await loop.create_unix_server(connect, path, backlog=_BACKLOG)
        else:
            host, _, port = address.rpartition(":")
            security: dict[str, Any] = (
                {"ssl": tls.context, "ssl_handshake_timeout": _HANDSHAKE} if tls is not None else {}
            )
            server = await loop.create_server(connect, host.strip("[]"), int(port), backlog=_BACKLOG, **security)
        self._servers.append(server)

    async def close(self) -> None:
        """End all connections."""
        for server in self._servers:
            server.close()
        for client in list(self._clients):
            client.leave()
        for server in self._servers:
            await server.wait_closed()

    def _fail(self, error: Exception) -> None:
        self._log.logger.error("Call failed", exc_info=error)
        self._log.release()
