"""A model server that tells how requests to it were framed: in HTTP/1.1, byte for byte, trailers included."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

METRICS = b"vllm:num_requests_running 0\nvllm:num_requests_waiting %d\nvllm:kv_cache_usage_perc 0\n"
EVENTS = b"data: 1\n\n", b"data: [DONE]\n\n"


@dataclass
class Request:
    """What came. chunked: whether its body was; otherwise its headers gave its length."""

    address: str
    path: str
    headers: dict[str, str]
    body: bytes
    chunked: bool
    trailers: dict[str, str] = field(default_factory=dict)


@dataclass
class FramedServer:
    """It answers each POST with two events, or 503 while it is `unavailable`; `waiting` is what its metrics say."""

    address: str
    port: int
    waiting: int = 0
    unavailable: bool = False
    came: list[Request] = field(default_factory=list)

    @property
    def at(self) -> str:
        return f"{self.address}:{self.port}"

    @asynccontextmanager
    async def running(self) -> AsyncIterator["FramedServer"]:
        server = await asyncio.start_server(self._serve, self.address, self.port)
        try:
            yield self
        finally:
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while (line := await reader.readline()).strip():
                method, path, _ = line.decode().split()
                headers = await _headers(reader)
                if method == "GET":
                    page = METRICS % self.waiting if path == "/metrics" else b"{}"
                    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(page), page))
                    continue
                chunked = headers.get("transfer-encoding") == "chunked"
                if chunked:
                    assert "content-length" not in headers
                    body = await _chunks(reader)
                    trailers = await _headers(reader)
                else:
                    body, trailers = await reader.readexactly(int(headers.get("content-length", "0"))), {}
                if self.unavailable:
                    writer.write(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n")
                    continue
                self.came.append(Request(self.at, path, headers, body, chunked, trailers))
                writer.write(
                    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
                )
                for event in EVENTS:
                    writer.write(b"%x\r\n%s\r\n" % (len(event), event))
                    await writer.drain()
                    await asyncio.sleep(0)
                writer.write(b"0\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


async def _headers(reader: asyncio.StreamReader) -> dict[str, str]:
    found = {}
    while (line := (await reader.readline()).strip()) != b"":
        name, _, value = line.decode().partition(":")
        found[name.lower()] = value.strip()
    return found


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    body = bytearray()
    while length := int(await reader.readline(), 16):
        body += await reader.readexactly(length)
        assert await reader.readline() == b"\r\n"
    return bytes(body)
