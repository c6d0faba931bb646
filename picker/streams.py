"""The gRPC streams of a picker that a pool names itself: requests and answers pass it in full, and nobody else reports.

What Envoy's access log tells the picker of Pointsman's gateway, this one sees pass by: it makes the entry itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from picker.access_log import AccessLog
from picker.exchange import MODEL_HEADER, NAMESPACE
from picker.passage import Passage
from picker.server import SERVER_OPTIONS, Picker
from protos.pointsman.envoy.v1.access_log_pb2 import HttpAccessLogEntry, StreamAccessLogsMessage
from protos.pointsman.envoy.v1.ext_proc_pb2 import ProcessingRequest, ProcessingResponse

_EXTERNAL_PROCESSOR = "envoy.service.ext_proc.v3.ExternalProcessor"
# What the Inference Extension's probes ask for, and what gateways do: they want an answer, not the words.
_LIVENESS = "liveness"
_READINESS = ("", "readiness", _EXTERNAL_PROCESSOR, "inference-extension")


class PoolServer:
    """The ports of a picker that a pool names: for its gateways' requests, and for those who ask how it is.

    `mode` is how a gateway sends bodies that does not say (`BodySendMode`).  What asks for its health is told so on
    both ports, once each is open: that it lives at once, and that it is ready while `is_ready` says so.
    """

    def __init__(self, picker: Picker, access_log: AccessLog, pool: str, mode: int) -> None:
        self._health = health.aio.HealthServicer()
        self._asked = grpc.aio.server(options=SERVER_OPTIONS)
        self._probed = grpc.aio.server()
        handler = grpc.stream_stream_rpc_method_handler(
            _process(picker, access_log, pool, mode), ProcessingRequest.FromString, ProcessingResponse.SerializeToString
        )
        self._asked.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(_EXTERNAL_PROCESSOR, {"Process": handler}),)
        )
        for server in (self._asked, self._probed):
            health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        self._open: list[Any] = []

    async def open_probes(self, address: str) -> None:
        """Open the port for health checks, without TLS: kubelets know none.  Raises RuntimeError if it is taken."""
        await self.show_ready(ready=False)
        await self._health.set(_LIVENESS, health_pb2.HealthCheckResponse.SERVING)
        if address:
            self._probed.add_insecure_port(address)
            await self._probed.start()
            self._open.append(self._probed)

    async def open(self, address: str, credentials: grpc.ServerCredentials | None) -> None:
        """Open the port for requests.  Raises RuntimeError if it is taken."""
        if credentials is None:
            self._asked.add_insecure_port(address)
        else:
            self._asked.add_secure_port(address, credentials)
        await self._asked.start()
        self._open.append(self._asked)

    async def show_ready(self, *, ready: bool) -> None:
        """Say whether requests can be picked for."""
        status = health_pb2.HealthCheckResponse.SERVING if ready else health_pb2.HealthCheckResponse.NOT_SERVING
        for service in _READINESS:
            await self._health.set(service, status)

    async def close(self, drain: float) -> None:
        """Take no more requests, and wait so many seconds at most for those that are passing."""
        await self._health.enter_graceful_shutdown()
        await asyncio.gather(*(server.stop(drain) for server in self._open))


def _process(picker: Picker, access_log: AccessLog, name: str, mode: int) -> Callable[[object, Any], Awaitable[None]]:
    async def handle(_requests: object, context: Any) -> None:  # noqa: ANN401  (grpc has no types)
        pool = picker.find(name) or await picker.await_pool(name)
        if pool is None:
            await context.write(picker.refuse(name))
            return
        began, first = picker.clock(), None
        passage = Passage(picker.open(pool, body_follows=True), mode)
        try:
            while (request := await context.read()) is not grpc.aio.EOF:
                if first is None and request.HasField("response_body"):
                    first = picker.clock() - began
                for answer in picker.pass_message(passage, pool, "", request):
                    await context.write(answer)
        finally:
            # Envoy ends the stream when the answer has passed, and when the client has left.
            if passage.picked is not None:
                message = StreamAccessLogsMessage()
                message.http_logs.log_entry.append(_entry(passage, pool.cluster, picker.clock() - began, first))
                access_log.receive(message)

    return handle


def _entry(passage: Passage, cluster: str, seconds: float, first: float | None) -> HttpAccessLogEntry:
    """Put down what was seen as Envoy would; times in seconds."""
    entry = HttpAccessLogEntry()
    common = entry.common_properties
    common.upstream_cluster = cluster
    common.upstream_request_attempt_count = 1 if passage.served else 0
    common.duration.FromNanoseconds(int(seconds * 1e9))
    if first is not None:
        common.time_to_first_downstream_tx_byte.FromNanoseconds(int(first * 1e9))
    if passage.picked is not None:
        common.metadata.filter_metadata[NAMESPACE].fields["id"].string_value = passage.picked.identity
    host, _, port = passage.served.rpartition(":")
    if host and port.isdecimal():
        common.upstream_remote_address.socket_address.address = host.strip("[]")
        common.upstream_remote_address.socket_address.port_value = int(port)
    entry.request.path = passage.header(":path")
    entry.request.request_id = passage.header("x-request-id")
    entry.request.request_body_bytes = passage.request_bytes
    entry.request.request_headers[MODEL_HEADER] = passage.header(MODEL_HEADER)
    entry.response.response_code.value = passage.status
    entry.response.response_body_bytes = passage.answer_bytes
    entry.response.response_code_details = "via_upstream" if passage.complete else ""
    return entry
