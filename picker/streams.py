"""The gRPC streams of a picker that a pool names itself: requests and answers pass it in full, and nobody else reports.

What Envoy's access log tells the picker of Pointsman's gateway, this one sees pass by: it makes the entry itself.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import grpc

from picker.access_log import AccessLog
from picker.duplex import Duplex
from picker.exchange import MODEL_HEADER, NAMESPACE
from picker.server import HEALTH, PROCESS, SERVING, Picker
from protos.pointsman.envoy.v1.access_log_pb2 import HttpAccessLogEntry, StreamAccessLogsMessage
from protos.pointsman.envoy.v1.ext_proc_pb2 import ProcessingRequest, ProcessingResponse


class PoolServices(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpc has no types
    """Answers for one pool whatever a gateway says of pools."""

    def __init__(self, picker: Picker, access_log: AccessLog, pool: str) -> None:
        self._handler = grpc.stream_stream_rpc_method_handler(
            _process(picker, access_log, pool), ProcessingRequest.FromString, ProcessingResponse.SerializeToString
        )

    def service(self, handler_call_details: Any) -> Any:  # noqa: ANN401  (grpc has no types)
        """Return the handler of a stream; None for what is not served."""
        return self._handler if handler_call_details.method == PROCESS else None


class Health(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpc has no types
    """Says that the picker serves, whichever service is asked for: a probe reaches it only then."""

    def service(self, handler_call_details: Any) -> Any:  # noqa: ANN401  (grpc has no types)
        """Return the handler of a call; None for what is not served."""
        return grpc.unary_unary_rpc_method_handler(_serving) if handler_call_details.method == HEALTH else None


async def _serving(_request: bytes, _context: object) -> bytes:
    return SERVING


def _process(picker: Picker, access_log: AccessLog, name: str) -> Callable[[object, Any], Awaitable[None]]:
    async def handle(_requests: object, context: Any) -> None:  # noqa: ANN401  (grpc has no types)
        pool = picker.find(name) or await picker.await_pool(name)
        if pool is None:
            await context.write(picker.refuse(name))
            return
        began, first = picker.clock(), None
        duplex = Duplex(picker.open(pool, body_follows=True))
        try:
            while (request := await context.read()) is not grpc.aio.EOF:
                if first is None and request.HasField("response_body"):
                    first = picker.clock() - began
                for answer in picker.pass_message(duplex, pool, "", request):
                    await context.write(answer)
        finally:
            # Envoy ends the stream when the answer has passed, and when the client has left.
            if duplex.picked is not None:
                message = StreamAccessLogsMessage()
                message.http_logs.log_entry.append(_entry(duplex, pool.cluster, picker.clock() - began, first))
                access_log.receive(message)

    return handle


def _entry(duplex: Duplex, cluster: str, seconds: float, first: float | None) -> HttpAccessLogEntry:
    """Put down what was seen as Envoy would; times in seconds."""
    entry = HttpAccessLogEntry()
    common = entry.common_properties
    common.upstream_cluster = cluster
    common.upstream_request_attempt_count = 1 if duplex.served else 0
    common.duration.FromNanoseconds(int(seconds * 1e9))
    if first is not None:
        common.time_to_first_downstream_tx_byte.FromNanoseconds(int(first * 1e9))
    if duplex.picked is not None:
        common.metadata.filter_metadata[NAMESPACE].fields["id"].string_value = duplex.picked.identity
    host, _, port = duplex.served.rpartition(":")
    if host and port.isdecimal():
        common.upstream_remote_address.socket_address.address = host.strip("[]")
        common.upstream_remote_address.socket_address.port_value = int(port)
    entry.request.path = duplex.header(":path")
    entry.request.request_id = duplex.header("x-request-id")
    entry.request.request_body_bytes = duplex.request_bytes
    entry.request.request_headers[MODEL_HEADER] = duplex.header(MODEL_HEADER)
    entry.response.response_code.value = duplex.status
    entry.response.response_body_bytes = duplex.answer_bytes
    entry.response.response_code_details = "via_upstream" if duplex.complete else ""
    return entry
