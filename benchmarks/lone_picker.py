"""A picker process on its own: this process plays its control plane, its pods' /metrics, and Envoy."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from picker import ENVIRONMENT
from protos.pointsman.envoy.v1.access_log_pb2 import StreamAccessLogsMessage
from protos.pointsman.envoy.v1.base_pb2 import ClusterLoadAssignment
from protos.pointsman.envoy.v1.discovery_pb2 import DeltaDiscoveryRequest, DeltaDiscoveryResponse
from protos.pointsman.envoy.v1.ext_proc_pb2 import ProcessingRequest, ProcessingResponse
from protos.pointsman.picker.v1.pool_pb2 import Pool

POOL, CLUSTER = "default/qwen", "pool/default/qwen"
_PICKER = """
import asyncio, sys, uvloop
from picker import PickerSettings, serve
xds, listen = sys.argv[1:]
uvloop.run(serve(PickerSettings(xds, listen, "127.0.0.1:0", "bench"), asyncio.Event()))
"""
# What a request carries through Envoy: the headers that the picker is sent.
_HEADERS = {"content-length": "600", "x-gateway-model-name": "qwen"}
_REQUEST_ID = "0f8b1f3e-7a0e-4f0e-9a50-1d3b7a2f0c11"


@dataclass(frozen=True, slots=True)
class LonePicker:
    """A picker that serves: its process, and the unix socket at which it listens."""

    pid: int
    listen: str

    def cpu(self) -> float:
        """Return the CPU seconds that its process has used (Linux)."""
        fields = Path(f"/proc/{self.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


@asynccontextmanager
async def lone_picker(pool: Pool, pods: Sequence[str], answer: Callable[[int], bytes]) -> AsyncIterator[LonePicker]:
    """Start a picker for one pool; `answer` gives the page of the pod of that number, anew for each question."""
    port = await _free_port()
    servers = [await _serve_metrics(host, port, number, answer) for number, host in enumerate(pods)]
    with tempfile.TemporaryDirectory() as folder:
        xds, listen = f"unix:{folder}/xds.sock", f"unix:{folder}/picker.sock"
        control_plane = await _start_control_plane(xds, pool, pods, port)
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            _PICKER,
            xds,
            listen,
            stderr=subprocess.PIPE,
            env={**os.environ, **ENVIRONMENT},
            limit=1 << 20,
        )
        drain = asyncio.create_task(_drain(process))
        try:
            yield LonePicker(process.pid, listen)
        finally:
            process.terminate()
            await drain
            await process.wait()
            await control_plane.stop(None)
            for server in servers:
                server.close()


class Envoy:
    """Asks for picks and reports each as finished, a hundred entries to a message."""

    def __init__(self, channel: grpc.aio.Channel, messages: Sequence[bytes]) -> None:
        self._process = channel.stream_stream(
            "/envoy.service.ext_proc.v3.ExternalProcessor/Process", response_deserializer=ProcessingResponse.FromString
        )
        self._log = channel.stream_unary("/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs")(
            wait_for_ready=True
        )
        self._messages = messages
        body = (("x-pointsman-body", "1"),) if len(messages) > 1 else ()
        self._metadata = (("x-pointsman-pool", POOL), *body)
        self._finished = _entries()

    async def exchange(self) -> None:
        """Ask once, and note that the request is finished."""
        call = self._process(metadata=self._metadata, wait_for_ready=True)
        answer = None
        for message in self._messages:
            await call.write(message)
            answer = await call.read()
        await self._finish(answer)
        await call.read()

    async def _finish(self, answer: ProcessingResponse) -> None:
        fields = answer.dynamic_metadata.fields
        served = fields["envoy.lb"].struct_value.fields["x-gateway-destination-endpoint"].string_value.split(",")[0]
        entry = self._finished.http_logs.log_entry.add()
        common = entry.common_properties
        common.metadata.filter_metadata["pointsman"].CopyFrom(fields["pointsman"].struct_value)
        host, _, port = served.rpartition(":")
        common.upstream_remote_address.socket_address.address = host
        common.upstream_remote_address.socket_address.port_value = int(port)
        common.upstream_cluster = CLUSTER
        common.upstream_request_attempt_count = 1
        common.route_name = "HTTPRoute default/chat rule 0"
        common.duration.nanos = 120_000_000
        common.time_to_first_downstream_tx_byte.nanos = 20_000_000
        entry.request.request_id = _REQUEST_ID
        entry.response.response_code.value = 200
        entry.response.response_code_details = "via_upstream"
        if len(self._finished.http_logs.log_entry) >= 100:  # noqa: PLR2004  (entries to a message)
            message, self._finished = self._finished, _entries()
            await self._log.write(message.SerializeToString())


def messages(body: bytes | None) -> list[bytes]:
    """Return what Envoy says of a request: its headers, and its body where the picker is sent it."""
    headers = ProcessingRequest()
    for key, value in _HEADERS.items():
        headers.request_headers.headers.headers.add(key=key, raw_value=value.encode())
    if body is None:
        headers.request_headers.end_of_stream = True
        return [headers.SerializeToString()]
    request = ProcessingRequest()
    request.request_body.body = body
    request.request_body.end_of_stream = True
    return [headers.SerializeToString(), request.SerializeToString()]


def _entries() -> StreamAccessLogsMessage:
    message = StreamAccessLogsMessage()
    message.identifier.node.id = "bench"
    return message


class _Pod(asyncio.Protocol):
    """Answers every question with the page, as uvicorn does."""

    def __init__(self, page: Callable[[], bytes]) -> None:
        self._page = page
        self._transport: asyncio.Transport | None = None
        self._asked = b""

    def connection_made(self, transport: Any) -> None:  # noqa: ANN401  (asyncio declares it wider)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._asked += data
        while self._transport is not None and b"\r\n\r\n" in self._asked:
            _, _, self._asked = self._asked.partition(b"\r\n\r\n")
            page = self._page()
            head = (
                "HTTP/1.1 200 OK\r\ndate: Sat, 21 Nov 2026 09:30:00 GMT\r\nserver: uvicorn\r\n"
                f"content-length: {len(page)}\r\ncontent-type: text/plain; version=1.0.0; charset=utf-8\r\n\r\n"
            )
            self._transport.write(head.encode() + page)


async def _serve_metrics(host: str, port: int, number: int, answer: Callable[[int], bytes]) -> asyncio.Server:
    return await asyncio.get_running_loop().create_server(lambda: _Pod(lambda: answer(number)), host, port)


async def _free_port() -> int:
    server = await asyncio.get_running_loop().create_server(asyncio.Protocol, "127.0.0.1", 0)
    port = int(server.sockets[0].getsockname()[1])
    server.close()
    return port


async def _start_control_plane(address: str, pool: Pool, pods: Sequence[str], port: int) -> grpc.aio.Server:
    assignment = ClusterLoadAssignment(cluster_name=CLUSTER)
    locality = assignment.endpoints.add()
    for host in pods:
        endpoint = locality.lb_endpoints.add()
        endpoint.endpoint.address.socket_address.address = host
        endpoint.endpoint.address.socket_address.port_value = port
        endpoint.metadata.filter_metadata["pointsman"].fields["pod"].string_value = f"default/{host}"

    async def serve(requests: grpc.aio.ServicerContext, context: grpc.aio.ServicerContext) -> None:
        async for request in requests:
            if request.response_nonce:
                continue
            name, body = (POOL, pool) if request.type_url.endswith("Pool") else (CLUSTER, assignment)
            response = DeltaDiscoveryResponse(type_url=request.type_url, nonce="1")
            resource = response.resources.add(name=name, version="1")
            resource.resource.value = body.SerializeToString()
            await context.write(response)

    server = grpc.aio.server()
    handler = grpc.stream_stream_rpc_method_handler(
        serve, DeltaDiscoveryRequest.FromString, DeltaDiscoveryResponse.SerializeToString
    )
    service = "envoy.service.discovery.v3.AggregatedDiscoveryService"
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(service, {"DeltaAggregatedResources": handler}),)
    )
    server.add_insecure_port(address)
    await server.start()
    return server


async def _drain(process: asyncio.subprocess.Process) -> None:
    stderr = process.stderr
    while stderr is not None and await stderr.read(1 << 16):
        pass
