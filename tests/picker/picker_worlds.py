"""A small world around a picker: a control plane, pods and an Envoy, each with real sockets."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import grpc
import orjson

from picker.pools import ENDPOINTS_TYPE, POOL_TYPE
from protos.pointsman.envoy.v1.access_log_pb2 import HttpAccessLogEntry, StreamAccessLogsMessage
from protos.pointsman.envoy.v1.base_pb2 import ClusterLoadAssignment
from protos.pointsman.envoy.v1.discovery_pb2 import DeltaDiscoveryRequest, DeltaDiscoveryResponse
from protos.pointsman.envoy.v1.ext_proc_pb2 import ProcessingRequest, ProcessingResponse
from protos.pointsman.picker.v1 import pool_pb2

ADS = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"


def pool(name: str, cluster: str = "", models: dict[str, dict[str, int]] | None = None) -> pool_pb2.Pool:
    message = pool_pb2.Pool(name=name, cluster=cluster or f"pool/{name}")
    for model, targets in (models or {}).items():
        declared = message.models.add(name=model)
        for target, weight in targets.items():
            declared.targets.add(name=target, weight=weight)
    return message


def assignment(cluster: str, rows: Sequence[tuple[str, str]], health: int = 0) -> ClusterLoadAssignment:
    message = ClusterLoadAssignment(cluster_name=cluster)
    locality = message.endpoints.add()
    for address, pod in rows:
        host, _, port = address.rpartition(":")
        row = locality.lb_endpoints.add(health_status=health)
        row.endpoint.address.socket_address.address = host.strip("[]")
        row.endpoint.address.socket_address.port_value = int(port)
        row.metadata.filter_metadata["pointsman"].fields["pod"].string_value = pod
    return message


def response(
    type_url: str, resources: dict[str, tuple[str, Any]], *, nonce: str = "1", removed: Sequence[str] = ()
) -> DeltaDiscoveryResponse:
    message = DeltaDiscoveryResponse(type_url=type_url, nonce=nonce, removed_resources=removed)
    for name, (version, body) in resources.items():
        resource = message.resources.add(name=name, version=version)
        resource.resource.type_url = type_url
        resource.resource.value = body.SerializeToString()
    return message


@dataclass
class ControlPlane:
    """A delta ADS server that sends everything it has on each subscription and each change."""

    address: str
    pools: dict[str, pool_pb2.Pool] = field(default_factory=dict)
    assignments: dict[str, ClusterLoadAssignment] = field(default_factory=dict)
    requests: list[DeltaDiscoveryRequest] = field(default_factory=list)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _version: int = 0

    def change(self) -> None:
        self._version += 1
        self._changed.set()
        self._changed = asyncio.Event()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[ControlPlane]:
        server = grpc.aio.server()
        handler = grpc.stream_stream_rpc_method_handler(
            self._serve, DeltaDiscoveryRequest.FromString, DeltaDiscoveryResponse.SerializeToString
        )
        service, method = ADS[1:].split("/")
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))
        server.add_insecure_port(self.address)
        await server.start()
        try:
            yield self
        finally:
            await server.stop(None)

    async def _serve(self, requests: AsyncIterator[DeltaDiscoveryRequest], context: Any) -> None:
        pusher: asyncio.Task[None] | None = None
        try:
            async for request in requests:
                self.requests.append(request)
                if request.type_url == POOL_TYPE and not request.response_nonce:
                    await self._push(context)
                    pusher = asyncio.create_task(self._push_changes(context))
                elif request.resource_names_subscribe:
                    await self._push_assignments(context)
        finally:
            if pusher is not None:
                pusher.cancel()

    async def _push_changes(self, context: Any) -> None:
        while True:
            await self._changed.wait()
            await self._push(context)
            await self._push_assignments(context)

    async def _push(self, context: Any) -> None:
        version = str(self._version)
        await context.write(response(POOL_TYPE, {name: (version, body) for name, body in self.pools.items()}))

    async def _push_assignments(self, context: Any) -> None:
        version = str(self._version)
        known = {name: (version, body) for name, body in self.assignments.items()}
        await context.write(response(ENDPOINTS_TYPE, known))


VLLM_PAGE = """\
# HELP vllm:num_requests_waiting Number of requests waiting to be processed.
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{{engine="0",model_name="m"}} {waiting}
vllm:num_requests_running{{engine="0",model_name="m"}} {running}
vllm:kv_cache_usage_perc{{engine="0",model_name="m"}} {kv_usage}
"""


@dataclass
class Pod:
    """A model server of a few lines.  `statuses` answers by path, None meaning no answer at all.

    One that `closes` ends each connection with its answer and does not say so.
    """

    name: str
    waiting: float = 0
    running: float = 0
    kv_usage: float = 0
    adapters: str = ""
    models: list[str] = field(default_factory=lambda: ["m"])
    address: str = ""
    closes: bool = False
    statuses: dict[str, int | None] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    _server: asyncio.Server | None = None
    _open: set[asyncio.StreamWriter] = field(default_factory=set)
    _tasks: set[asyncio.Task[Any] | None] = field(default_factory=set)

    async def start(self) -> Pod:
        host, _, port = (self.address or "127.0.0.1:0").rpartition(":")
        self._server = await asyncio.start_server(self._serve, host, int(port))
        host, port = self._server.sockets[0].getsockname()[:2]
        self.address = f"{host}:{port}"
        return self

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            for writer in list(self._open):
                writer.transport.abort()
            await self._server.wait_closed()
            await asyncio.gather(*(task for task in self._tasks if task is not None))
            self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        self._tasks.add(asyncio.current_task())
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                path = head.split(b" ")[1].decode()
                self.asked.append(path)
                if b"content-length: " in head:
                    length = int(head.partition(b"content-length: ")[2].partition(b"\r")[0])
                    self.bodies.append(await reader.readexactly(length))
                status = self.statuses.get(path, self.statuses.get("*", 200))
                if status is None:
                    await reader.read()
                    return
                body = self._page(path) if status == 200 else b"no"
                writer.write(b"HTTP/1.1 %d X\r\ncontent-length: %d\r\n\r\n%s" % (status, len(body), body))
                if self.closes:
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._open.discard(writer)
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()
            self._tasks.discard(asyncio.current_task())

    def _page(self, path: str) -> bytes:
        if path == "/metrics":
            page = VLLM_PAGE.format(waiting=self.waiting, running=self.running, kv_usage=self.kv_usage)
            if self.adapters:
                labels = f'max_lora="2",running_lora_adapters="{self.adapters}",waiting_lora_adapters=""'
                page += f"vllm:lora_requests_info{{{labels}}} 1.7e+09\n"
            return page.encode()
        if path == "/v1/models":
            return orjson.dumps({"data": [{"id": name} for name in self.models]})
        return b"{}"


@asynccontextmanager
async def pods(*made: Pod) -> AsyncIterator[tuple[Pod, ...]]:
    for pod in made:
        await pod.start()
    try:
        yield made
    finally:
        for pod in made:
            await pod.stop()


def headers_message(model: str = "", *, end_of_stream: bool = False, length: int | None = None) -> ProcessingRequest:
    message = ProcessingRequest()
    message.request_headers.end_of_stream = end_of_stream
    headers = message.request_headers.headers.headers
    headers.add(key=":path", raw_value=b"/v1/chat/completions")
    if model:
        headers.add(key="x-gateway-model-name", raw_value=model.encode())
    if length is not None:
        headers.add(key="content-length", raw_value=b"%d" % length)
    return message


def body_message(body: bytes) -> ProcessingRequest:
    message = ProcessingRequest()
    message.request_body.body = body
    message.request_body.end_of_stream = True
    return message


def destinations(message: ProcessingResponse) -> list[str]:
    value = message.dynamic_metadata.fields["envoy.lb"].struct_value.fields["x-gateway-destination-endpoint"]
    return value.string_value.split(",") if value.string_value else []


def identity(message: ProcessingResponse) -> str:
    return message.dynamic_metadata.fields["pointsman"].struct_value.fields["id"].string_value


def entry(
    identity: str,
    served: str,
    *,
    attempts: int = 1,
    status: int = 200,
    details: str = "via_upstream",
    cluster: str = "pool/default/qwen",
    path: str = "/v1/chat/completions",
) -> HttpAccessLogEntry:
    message = HttpAccessLogEntry()
    common = message.common_properties
    if identity:
        common.metadata.filter_metadata["pointsman"].fields["id"].string_value = identity
    if served:
        host, _, port = served.rpartition(":")
        common.upstream_remote_address.socket_address.address = host
        common.upstream_remote_address.socket_address.port_value = int(port)
    common.upstream_cluster = cluster
    common.upstream_request_attempt_count = attempts
    common.route_name = "HTTPRoute default/chat rule 0"
    common.duration.FromMilliseconds(120)
    common.time_to_first_downstream_tx_byte.FromMilliseconds(20)
    message.request.request_id = "r-1"
    message.request.path = path
    message.request.request_headers["x-gateway-model-name"] = "qwen"
    message.response.response_code.value = status
    message.response.response_code_details = details
    return message


def log_message(*entries: HttpAccessLogEntry, node: str = "") -> StreamAccessLogsMessage:
    message = StreamAccessLogsMessage()
    if node:
        message.identifier.node.id = node
        message.identifier.log_name = "default/edge"
    message.http_logs.log_entry.extend(entries)
    return message


class Envoy:
    """The client's end of the exchanges and of the access log."""

    def __init__(self, address: str) -> None:
        self._channel = grpc.aio.insecure_channel(address, options=(("grpc.use_local_subchannel_pool", 1),))
        self._process = self._channel.stream_stream(
            "/envoy.service.ext_proc.v3.ExternalProcessor/Process",
            request_serializer=ProcessingRequest.SerializeToString,
            response_deserializer=ProcessingResponse.FromString,
        )
        self._log = self._channel.stream_unary(
            "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs",
            request_serializer=StreamAccessLogsMessage.SerializeToString,
        )

    async def exchange(self, pool: str, *messages: ProcessingRequest, body: bool = False) -> list[ProcessingResponse]:
        """Send messages one by one, each after the answer to the one before; the picker must then end the stream."""
        metadata = [("x-pointsman-pool", pool)] + ([("x-pointsman-body", "1")] if body else [])
        call = self._process(metadata=metadata, wait_for_ready=True, timeout=5)
        answers = []
        for message in messages:
            await call.write(message)
            answers.append(await call.read())
        assert await call.read() is grpc.aio.EOF
        assert await call.code() is grpc.StatusCode.OK
        return answers

    def open_log(self) -> Any:
        return self._log(wait_for_ready=True)

    async def close(self) -> None:
        await self._channel.close(None)


class Stderr(io.TextIOWrapper):
    """A log to read back; `line(event)` waits for one."""

    def __init__(self) -> None:
        super().__init__(io.BytesIO())

    def lines(self, event: str) -> list[dict[str, Any]]:
        documents = [orjson.loads(line) for line in self.buffer.getvalue().splitlines()]  # type: ignore[attr-defined]
        return [document for document in documents if document["event"] == event]

    async def line(self, event: str, number: int = 1) -> dict[str, Any]:
        async with asyncio.timeout(5):
            while len(found := self.lines(event)) < number:
                await asyncio.sleep(0.005)
        return found[number - 1]
