"""How many exchanges a second the picker answers on one core, decision, access log and log line included.

    python benchmarks/picker_exchange.py [--seconds 5] [--streams 32] [--pods 4] [--body BYTES]

The picker runs as a process of its own, as `pointsman picker` runs it, with its log on a pipe that is read.  This
process is the control plane, the pods (one /metrics page for all) and Envoy: it asks for picks and reports each as
finished, a hundred entries to a message.  Both processes share the machine, so the CPU time for each exchange says
more than the rate.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import grpc
import orjson
import uvloop

from picker import ENVIRONMENT
from protos.pointsman.envoy.v1.access_log_pb2 import StreamAccessLogsMessage
from protos.pointsman.envoy.v1.base_pb2 import ClusterLoadAssignment
from protos.pointsman.envoy.v1.discovery_pb2 import DeltaDiscoveryRequest, DeltaDiscoveryResponse
from protos.pointsman.envoy.v1.ext_proc_pb2 import ProcessingRequest, ProcessingResponse
from protos.pointsman.picker.v1.pool_pb2 import Pool

PICKER = """
import asyncio, sys, uvloop
from picker import PickerSettings, serve
xds, listen = sys.argv[1:]
uvloop.run(serve(PickerSettings(xds, listen, "127.0.0.1:0", "bench"), asyncio.Event()))
"""
PAGE = b'vllm:num_requests_waiting{m="m"} 0\nvllm:num_requests_running{m="m"} 3\nvllm:kv_cache_usage_perc{m="m"} 0.2\n'
POOL, CLUSTER = "default/qwen", "pool/default/qwen"
# What a request carries through Envoy.
HEADERS = {
    ":authority": "localhost:8080",
    ":path": "/v1/chat/completions",
    ":method": "POST",
    ":scheme": "http",
    "user-agent": "OpenAI/Python 2.0.0",
    "accept": "application/json",
    "content-type": "application/json",
    "content-length": "600",
    "authorization": "Bearer sk-no-key-required",
    "x-forwarded-proto": "http",
    "x-request-id": "0f8b1f3e-7a0e-4f0e-9a50-1d3b7a2f0c11",
    "x-gateway-model-name": "qwen",
}


def main() -> None:
    """Parse the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--streams", type=int, default=32)
    parser.add_argument("--pods", type=int, default=4)
    parser.add_argument("--body", type=int, default=0, help="bytes of body, rewritten by the picker; 0: headers only")
    uvloop.run(measure(parser.parse_args()))


async def measure(arguments: argparse.Namespace) -> None:
    """Start the parts, measure, print."""
    with tempfile.TemporaryDirectory() as folder:
        xds, listen = f"unix:{folder}/xds.sock", f"unix:{folder}/picker.sock"
        pods = await asyncio.start_server(_serve_metrics, "127.0.0.1", 0)
        port = pods.sockets[0].getsockname()[1]
        rows = [f"127.0.0.{number + 1}" for number in range(arguments.pods)]
        # The one listening socket is on 127.0.0.1; the others listen on the same port of their own addresses.
        others = [await asyncio.start_server(_serve_metrics, row, port) for row in rows[1:]]
        control_plane = await _start_control_plane(xds, rows, port, rewrite=arguments.body > 0)
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            PICKER,
            xds,
            listen,
            stderr=subprocess.PIPE,
            env={**os.environ, **ENVIRONMENT},
            limit=1 << 20,
        )
        drain = asyncio.create_task(_drain(process))
        try:
            await _load(listen, process.pid, arguments)
        finally:
            process.terminate()
            lines = await drain
            await process.wait()
            print(f"log lines read: {lines}")
            await control_plane.stop(None)
            for server in (pods, *others):
                server.close()


async def _load(listen: str, pid: int, arguments: argparse.Namespace) -> None:
    async with grpc.aio.insecure_channel(listen) as channel:
        process = channel.stream_stream(
            "/envoy.service.ext_proc.v3.ExternalProcessor/Process", response_deserializer=ProcessingResponse.FromString
        )
        log = channel.stream_unary("/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs")(wait_for_ready=True)
        messages, metadata = _messages(arguments.body)
        report = _Report(log)

        async def exchange() -> None:
            call = process(metadata=metadata, wait_for_ready=True)
            for message in messages:
                await call.write(message)
                answer = await call.read()
            await report.finish(answer)
            await call.read()

        done = 0

        async def stream(until: float) -> None:
            nonlocal done
            while time.perf_counter() < until:
                await exchange()
                done += 1

        await exchange()
        began, cpu = time.perf_counter(), _cpu(pid)
        await asyncio.gather(*(stream(began + arguments.seconds) for _ in range(arguments.streams)))
        seconds, used = time.perf_counter() - began, _cpu(pid) - cpu
        print(
            f"{done / seconds:.0f} exchanges/s with {arguments.pods} pods and bodies of {arguments.body} bytes;"
            f" picker's CPU {used / seconds:.2f} cores, {used / done * 1e6:.0f} us each,"
            f" so {done / used:.0f}/s on one core"
        )
        log.cancel()


class _Report:
    def __init__(self, log: grpc.aio.StreamUnaryCall) -> None:
        self._log = log
        self._message = self._open()

    def _open(self) -> StreamAccessLogsMessage:
        message = StreamAccessLogsMessage()
        message.identifier.node.id = "bench"
        return message

    async def finish(self, answer: ProcessingResponse) -> None:
        fields = answer.dynamic_metadata.fields
        served = fields["envoy.lb"].struct_value.fields["x-gateway-destination-endpoint"].string_value.split(",")[0]
        entry = self._message.http_logs.log_entry.add()
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
        entry.request.request_id = HEADERS["x-request-id"]
        entry.response.response_code.value = 200
        entry.response.response_code_details = "via_upstream"
        if len(self._message.http_logs.log_entry) >= 100:  # noqa: PLR2004  (entries to a message)
            message, self._message = self._message, self._open()
            await self._log.write(message.SerializeToString())


def _messages(body: int) -> tuple[list[bytes], tuple[tuple[str, str], ...]]:
    headers = ProcessingRequest()
    for key, value in HEADERS.items():
        headers.request_headers.headers.headers.add(key=key, raw_value=value.encode())
    if not body:
        return [headers.SerializeToString()], (("x-pointsman-pool", POOL),)
    request = ProcessingRequest()
    document = {"model": "qwen", "messages": [{"role": "user", "content": "hello world " * (body // 12)}]}
    request.request_body.body = orjson.dumps(document)
    request.request_body.end_of_stream = True
    metadata = (("x-pointsman-pool", POOL), ("x-pointsman-body", "1"))
    return [headers.SerializeToString(), request.SerializeToString()], metadata


async def _serve_metrics(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while await reader.readuntil(b"\r\n\r\n"):
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(PAGE), PAGE))
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


async def _start_control_plane(address: str, rows: list[str], port: int, *, rewrite: bool) -> grpc.aio.Server:
    pool = Pool(name=POOL, cluster=CLUSTER)
    if rewrite:
        pool.models.add(name="qwen").targets.add(name="qwen-lora", weight=1)
    assignment = ClusterLoadAssignment(cluster_name=CLUSTER)
    locality = assignment.endpoints.add()
    for row in rows:
        endpoint = locality.lb_endpoints.add()
        endpoint.endpoint.address.socket_address.address = row
        endpoint.endpoint.address.socket_address.port_value = port
        endpoint.metadata.filter_metadata["pointsman"].fields["pod"].string_value = f"default/{row}"

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


async def _drain(process: asyncio.subprocess.Process) -> int:
    lines = 0
    stderr = process.stderr
    while stderr is not None and (chunk := await stderr.read(1 << 16)):
        lines += chunk.count(b"\n")
    return lines


def _cpu(pid: int) -> float:
    """Return the CPU seconds that a process has used (Linux)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
