"""The gRPC server that Envoy talks to: exchanges (ext_proc) and access logs, on one port.

An exchange without a body is one message each way, so its stream is served as if it were a unary call: the answer and
the end of the stream leave in one batch, which costs a fifth less than a stream that is read and written message by
message.  An exchange with a body is a stream of two messages each way, ended right after the second answer.
gRPC chooses the handler by the metadata that Envoy sends with the stream's headers.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from itertools import count
from typing import Any

import grpc

from picker.access_log import AccessLog
from picker.exchange import Exchange, Pool
from picker.in_flight import InFlight
from picker.logs import Log
from picker.pools import Directory
from picker.refusals import UNKNOWN_POOL, refuse
from picker.telemetry import Telemetry
from protos.pointsman.envoy.v1.access_log_pb2 import StreamAccessLogsMessage, StreamAccessLogsResponse
from protos.pointsman.envoy.v1.ext_proc_pb2 import ProcessingRequest, ProcessingResponse

PROCESS = "/envoy.service.ext_proc.v3.ExternalProcessor/Process"
STREAM_ACCESS_LOGS = "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs"
POOL_METADATA = "x-pointsman-pool"
BODY_METADATA = "x-pointsman-body"
MIRRORS_METADATA = "x-pointsman-mirrors"
ENVOY_METADATA = "x-pointsman-envoy"

SERVER_OPTIONS = (
    ("grpc.max_concurrent_streams", 1_000_000),
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # A whole 20 MiB body in few windows.
    ("grpc.http2.lookahead_bytes", 1 << 20),
    # Envoy keeps its connections open for days and pings them as it likes.
    ("grpc.http2.min_ping_interval_without_data_ms", 1000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.so_reuseport", 0),
)

# How long a request may wait for a pool that Envoy knows already and the control plane has not told us of: less than
# Envoy waits for us.
_PATIENCE = 1.5
_HANDLERS_LIMIT = 10_000


class Picker:
    """Runs exchanges against the directory; the rim that gives them clock, dice and names.

    `announce` is to be called on each change of the directory.
    """

    def __init__(
        self,
        *,
        directory: Directory,
        in_flight: InFlight,
        telemetry: Telemetry,
        clock: Callable[[], float],
        dice: Callable[[], float],
        instance: str,
        log: Log,
    ) -> None:
        self._directory = directory
        self._in_flight = in_flight
        self._telemetry = telemetry
        self._clock = clock
        self._dice = dice
        # The instance keeps the names of a picker that was restarted apart from those of the one before.
        self._identify = map(f"{instance}-{{}}".format, count()).__next__
        self._log = log
        self._explain = log.explains
        self._changed = asyncio.Event()

    def announce(self) -> None:
        """Wake those who wait for a pool."""
        self._changed.set()
        self._changed = asyncio.Event()

    def find(self, name: str) -> Pool | None:
        """Return the pool if all is known of it."""
        pool = self._directory.pools.get(name)
        return pool if pool is not None and pool.table is not None else None

    async def await_pool(self, name: str) -> Pool | None:
        """Wait a little for a pool that is not known yet; None if it stays unknown."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE):
                while self.find(name) is None:
                    await self._changed.wait()
        return self._directory.pools.get(name)

    @property
    def clock(self) -> Callable[[], float]:
        """The clock, in seconds."""
        return self._clock

    def open(self, pool: Pool, *, body_follows: bool, mirrors: Sequence[str] = ()) -> Exchange:
        """Begin an exchange; `mirrors` are the names of the pools that copies go to, as far as they are known."""
        return Exchange(
            pool,
            body_follows=body_follows,
            identify=self._identify,
            dice=self._dice,
            explain=self._explain,
            mirrors=[found for name in mirrors if (found := self.find(name)) is not None],
        )

    def receive(self, exchange: Exchange, pool: Pool, envoy: str, request: ProcessingRequest) -> ProcessingResponse:
        """Take one message in and account for what it led to."""
        began = self._clock()
        response = exchange.receive(request)
        self.account(exchange, pool, envoy, began=began)
        return response

    def account(self, exchange: Exchange, pool: Pool, envoy: str, *, began: float) -> None:
        """Account for what a message led to that was taken in at a time `began` (seconds of the clock)."""
        picked = exchange.picked
        if picked is not None:
            now = self._clock()
            picked.began = began
            picked.decision_seconds = now - began
            picked.envoy = envoy
            if picked.decision.trace is not None:
                self._log.explain(
                    "Pod Picked",
                    id=picked.identity,
                    pool=pool.name,
                    model=picked.model,
                    target_model=picked.target,
                    reason=picked.decision.reason,
                    candidates=picked.decision.trace.rows(),
                )
            if picked.prefill is not None and picked.prefill.decision.trace is not None:
                self._log.explain(
                    "Prefill Pod Picked",
                    id=picked.identity,
                    pool=pool.name,
                    reason=picked.prefill.decision.reason,
                    candidates=picked.prefill.decision.trace.rows(),
                )
            self._telemetry.decide(picked)
            self._in_flight.begin(picked)
            for used in (pool, *exchange.mirrors):
                if used.table is not None:
                    used.table.used_at = now
            if pool.split is not None:
                pool.split.table.used_at = now
        elif exchange.refused:
            self._telemetry.refuse(pool.name, exchange.refused)
            if self._explain:
                self._log.explain("Request Refused", pool=pool.name, reason=exchange.refused)

    def refuse(self, name: str) -> ProcessingResponse:
        """Answer for a pool that nobody told us of."""
        self._telemetry.refuse(name, UNKNOWN_POOL)
        return refuse(UNKNOWN_POOL, "", name)


class Services(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpc has no types
    """Finds the handler of each stream."""

    def __init__(self, picker: Picker, access_log: AccessLog) -> None:
        self._picker = picker
        self._handlers: dict[tuple[str, str, bool, str], Any] = {}
        self._access_logs = grpc.stream_unary_rpc_method_handler(
            AccessLogStreams(access_log).stream,
            request_deserializer=StreamAccessLogsMessage.FromString,
            response_serializer=StreamAccessLogsResponse.SerializeToString,
        )

    def service(self, handler_call_details: Any) -> Any:  # noqa: ANN401  (grpc has no types)
        """Return the handler for a stream, by its method and metadata; None for what we do not serve."""
        if handler_call_details.method == PROCESS:
            pool = mirrors = envoy = ""
            body_follows = False
            for key, value in handler_call_details.invocation_metadata:
                if key == POOL_METADATA:
                    pool = value
                elif key == BODY_METADATA:
                    body_follows = value == "1"
                elif key == MIRRORS_METADATA:
                    mirrors = value
                elif key == ENVOY_METADATA:
                    envoy = value
            known = self._handlers.get((pool, mirrors, body_follows, envoy))
            return known or self._make(pool, mirrors, envoy, body_follows=body_follows)
        if handler_call_details.method == STREAM_ACCESS_LOGS:
            return self._access_logs
        return None

    def _make(self, pool: str, mirrors: str, envoy: str, *, body_follows: bool) -> Any:  # noqa: ANN401  (grpc has no types)
        make = grpc.stream_stream_rpc_method_handler if body_follows else grpc.unary_unary_rpc_method_handler
        how = _with_body if body_follows else _without_body
        handle = how(self._picker, pool, tuple(mirrors.split(",")) if mirrors else (), envoy)
        handler = make(handle, ProcessingRequest.FromString, ProcessingResponse.SerializeToString)
        if len(self._handlers) >= _HANDLERS_LIMIT:
            self._handlers.clear()
        self._handlers[pool, mirrors, body_follows, envoy] = handler
        return handler


def _without_body(picker: Picker, name: str, mirrors: Sequence[str], envoy: str) -> Callable[..., Any]:
    async def handle(request: ProcessingRequest, _context: object) -> ProcessingResponse:
        pool = picker.find(name) or await picker.await_pool(name)
        if pool is None:
            return picker.refuse(name)
        return picker.receive(picker.open(pool, body_follows=False, mirrors=mirrors), pool, envoy, request)

    return handle


def _with_body(picker: Picker, name: str, mirrors: Sequence[str], envoy: str) -> Callable[..., Any]:
    async def handle(_requests: object, context: Any) -> None:  # noqa: ANN401  (grpc has no types)
        pool = picker.find(name) or await picker.await_pool(name)
        if pool is None:
            await context.write(picker.refuse(name))
            return
        exchange = picker.open(pool, body_follows=True, mirrors=mirrors)
        while not exchange.done:
            request = await context.read()
            if request is grpc.aio.EOF:
                return
            await context.write(picker.receive(exchange, pool, envoy, request))

    return handle


class AccessLogStreams:
    """Reads access log streams, and notices when the last one of an Envoy ends.

    Each of Envoy's workers has a stream of its own, opened with its first entry and ended only with Envoy.
    """

    def __init__(self, access_log: AccessLog) -> None:
        self._access_log = access_log
        self._open: dict[str, int] = {}

    async def stream(
        self, messages: AsyncIterator[StreamAccessLogsMessage], _context: object
    ) -> StreamAccessLogsResponse:
        """Take in one stream."""
        envoy: str | None = None
        gateway = ""
        try:
            async for message in messages:
                if envoy is None:
                    # Only a stream's first message says whose it is; the log of each Gateway has its own stream.
                    envoy = message.identifier.node.id
                    gateway = message.identifier.log_name
                    self._open[envoy] = self._open.get(envoy, 0) + 1
                self._access_log.receive(message, gateway)
        finally:
            if envoy is not None:
                self._close(envoy)
        return StreamAccessLogsResponse()

    def _close(self, envoy: str) -> None:
        self._open[envoy] -= 1
        if self._open[envoy]:
            return
        del self._open[envoy]
        self._access_log.close_stream(envoy)
        if not self._open:
            # Exchanges that do not say whose they are belong to one of those that are all gone.
            self._access_log.close_stream("")
