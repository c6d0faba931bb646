"""`pointsman picker` by itself as a process, on a folder of a test's own, and what any gateway says to it."""

import asyncio
import signal
import ssl
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import grpc.aio
import kinds
import orjson
from grpc_health.v1 import health_pb2_grpc
from other_gateway import OtherGateway
from running import until

from pointsman.ports import port_to_keep
from protos.pointsman.envoy.v1.ext_proc_pb2 import ProcessingRequest, ProcessingResponse

PORT = port_to_keep()
"""What the pool's pods listen on: in each process that runs tests another one."""

PATIENCE = 90.0
"""Seconds: a process starts slowly on a machine that tests keep busy."""

_CERTIFIED = "pointsman-picker"


def write_pool(folder: Path, *addresses: str, api: str = "v1alpha2", **annotations: str) -> None:
    """A pool, default/chat, whose pods are ready at these addresses."""
    made = kinds.stable_pool if api == "v1" else kinds.pool
    pool = made("chat", "chat", port=PORT)
    kinds.write(folder / "pool.yaml", kinds.annotated(pool, annotations))
    write_pods(folder, *addresses)


def write_pods(folder: Path, *addresses: str) -> None:
    """The pods of the pool, in place of those before."""
    kinds.write(folder / "pods.yaml", *kinds.pods("chat", addresses, port=PORT))


@dataclass
class LonePicker:
    """The process. `lines` is what it has logged."""

    port: int
    health_port: int
    metrics_port: int
    process: asyncio.subprocess.Process
    encrypted: bool
    lines: list[dict[str, Any]] = field(default_factory=list)
    _reading: asyncio.Task[None] | None = None
    _channels: list[grpc.aio.Channel] = field(default_factory=list)

    async def read(self) -> None:
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            self.lines.append(orjson.loads(line) if line.startswith(b"{") else {"event": line.decode()})

    async def line(self, event: str, **having: object) -> dict[str, Any]:
        """Wait for a line of the log."""
        found: list[dict[str, Any]] = []

        async def is_there() -> bool:
            found[:] = [each for each in self.lines if each["event"] == event and having.items() <= each.items()]
            return bool(found)

        await until(is_there, PATIENCE)
        return found[0]

    async def knows_load(self, pods: int) -> None:
        """Wait until so many pods have told it their load: on a busy machine it opens its port before."""
        url = f"http://127.0.0.1:{self.metrics_port}/metrics"

        async def is_so() -> bool:
            async with session.get(url) as response:
                return (await response.text()).count("\npointsman_picker_endpoint_waiting_requests{") == pods

        async with aiohttp.ClientSession() as session:
            await until(is_so, PATIENCE)

    def channel(self) -> grpc.aio.Channel:
        """A connection of its own to the port for requests; a gateway would not check the certificate."""
        # Envoy sets no limit to messages.
        options: list[tuple[str, Any]] = [
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.max_receive_message_length", -1),
            ("grpc.max_send_message_length", -1),
        ]
        if not self.encrypted:
            made = grpc.aio.insecure_channel(f"127.0.0.1:{self.port}", options=options)
        else:
            shown = ssl.get_server_certificate(("127.0.0.1", self.port)).encode()
            options.append(("grpc.ssl_target_name_override", _CERTIFIED))
            credentials = grpc.ssl_channel_credentials(shown)
            made = grpc.aio.secure_channel(f"127.0.0.1:{self.port}", credentials, options=options)
        self._channels.append(made)
        return made

    def health(self, channel: grpc.aio.Channel | None = None) -> health_pb2_grpc.HealthStub:
        """What asks for its health, by default on the port that is for that."""
        if channel is None:
            channel = grpc.aio.insecure_channel(f"127.0.0.1:{self.health_port}")
            self._channels.append(channel)
        return health_pb2_grpc.HealthStub(channel)

    async def close(self) -> None:
        for channel in self._channels:
            await channel.close()
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()
        if self._reading is not None:
            await self._reading

    def tell(self, number: signal.Signals) -> None:
        self.process.send_signal(number)


def stream(channel: grpc.aio.Channel) -> Any:
    """An exchange."""
    return channel.stream_stream(
        "/envoy.service.ext_proc.v3.ExternalProcessor/Process",
        request_serializer=ProcessingRequest.SerializeToString,
        response_deserializer=ProcessingResponse.FromString,
    )(wait_for_ready=True, timeout=PATIENCE)


async def play(channel: grpc.aio.Channel, gateway: OtherGateway, *answer: ProcessingRequest) -> OtherGateway:
    """Play a request, and the messages of its answer, which pass; then end the stream as Envoy does."""
    call = stream(channel)
    for message in gateway.begin():
        await call.write(message)
    while not gateway.finished:
        response = await call.read()
        assert response is not grpc.aio.EOF, await call.details()
        for message in gateway.take(response):
            await call.write(message)
    for message in answer:
        await call.write(message)
        passed = await call.read()
        assert passed.WhichOneof("response") == message.WhichOneof("request")
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF
    assert await call.code() is grpc.StatusCode.OK
    return gateway


@asynccontextmanager
async def lone_picker(
    folder: Path, *options: str, tls: str = "off", pool: str = "default/chat", ready: bool = True
) -> AsyncIterator[LonePicker]:
    """Run it on a folder, by default until it takes requests."""
    ports = [port_to_keep() for _ in range(3)]
    listen, health, metrics = (f"127.0.0.1:{port}" for port in ports)
    where = ("--folder", str(folder), "--pool", pool, "--listen", listen, "--health", health, "--metrics", metrics)
    words: Sequence[str] = (sys.executable, "-m", "pointsman", "picker", *where, "--tls", tls, *options)
    process = await asyncio.create_subprocess_exec(*words, stderr=asyncio.subprocess.PIPE)
    made = LonePicker(*ports, process, tls != "off")
    made._reading = asyncio.create_task(made.read())  # noqa: SLF001
    try:
        if ready:
            await made.line("Picker ready")
        yield made
    finally:
        await made.close()
