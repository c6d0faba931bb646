"""Running exchanges: the rim that gives them clock, dice and names, and accounts for what they led to.

Envoy calls over `picker.calls`; a gateway that a pool's own picker serves, over `picker.streams`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import count

from picker.exchange import Exchange, Pool, pass_on
from picker.in_flight import InFlight
from picker.logs import Log
from picker.passage import Passage
from picker.pools import Directory
from picker.refusals import UNKNOWN_POOL, refuse
from picker.served_models import Source, complete, served_by
from picker.telemetry import Telemetry
from protos.pointsman.envoy.v1.ext_proc_pb2 import ProcessingRequest, ProcessingResponse

PROCESS = "/envoy.service.ext_proc.v3.ExternalProcessor/Process"
STREAM_ACCESS_LOGS = "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs"
HEALTH = "/grpc.health.v1.Health/Check"
# grpc.health.v1.HealthCheckResponse{status: SERVING}
SERVING = b"\x08\x01"
POOL_METADATA = "x-pointsman-pool"
BODY_METADATA = "x-pointsman-body"
MIRRORS_METADATA = "x-pointsman-mirrors"
ENVOY_METADATA = "x-pointsman-envoy"
LIST_METADATA = "x-pointsman-models-of"
BODY_FOLLOWS, STREAMED = "1", "streamed"

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
        pool.note_use(began)
        response = exchange.receive(request)
        self.account(exchange, pool, envoy, began=began)
        return response

    def pass_message(
        self, passage: Passage, pool: Pool, envoy: str, request: ProcessingRequest
    ) -> list[ProcessingResponse]:
        """Take one message in of what streams through, and account for what it led to."""
        undecided, began = not passage.exchange.done, self._clock()
        if undecided:
            pool.note_use(began)
        answers = passage.receive(request)
        if undecided and passage.exchange.done:
            self.account(passage.exchange, pool, envoy, began=began)
        return answers

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
            for mirror in exchange.mirrors:
                mirror.note_use(now)
        elif exchange.refused:
            self._telemetry.refuse(pool.name, exchange.refused)
            if self._explain:
                self._log.explain("Request Refused", pool=pool.name, reason=exchange.refused)

    def refuse(self, name: str) -> ProcessingResponse:
        """Answer for a pool that nobody told us of."""
        self._telemetry.refuse(name, UNKNOWN_POOL)
        return refuse(UNKNOWN_POOL, "", name)

    def complete(self, sources: Sequence[Source], request: ProcessingRequest) -> ProcessingResponse:
        """Complete a list of models, which passes here as an answer, by what the pools' servers say."""
        body = request.response_body.body
        return pass_on(request, complete(body, served_by(sources, self.find)) if body else None)
