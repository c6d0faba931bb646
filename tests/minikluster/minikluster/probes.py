"""Readiness, liveness and startup probes, and the handlers of lifecycle hooks."""

import asyncio
import struct
from http import HTTPStatus
from typing import Protocol

import aiohttp

from .manifest import Manifest

_DATA, _HEADERS, _RESET, _SETTINGS, _GOAWAY = 0, 1, 3, 4, 7  # HTTP/2 frames, RFC 9113 section 6
_ACK = _END_STREAM = 1
_END_HEADERS = 4
_SERVING = b"\x08\x01"  # HealthCheckResponse{status: SERVING}


class Target(Protocol):
    """What is probed: a container."""

    spec: Manifest

    @property
    def address(self) -> str:
        """The pod's."""

    async def execute(self, command: list[str]) -> int:
        """Run a command in it; returns the exit status."""


def _port(action: Manifest, target: Target) -> int:
    port = action["port"]
    if isinstance(port, int) or str(port).isdigit():
        return int(port)
    named = [each["containerPort"] for each in target.spec.get("ports", []) if each.get("name") == port]
    if not named:
        raise OSError(f"no port is named {port}")
    return int(named[0])


async def check(handler: Manifest, target: Target, seconds: float) -> bool:
    """Run one probe or hook (httpGet, tcpSocket, grpc, exec or sleep) of a container."""
    try:
        async with asyncio.timeout(seconds):
            for kind, function in _KINDS.items():
                if kind in handler:
                    return await function(handler[kind], target)
    except (OSError, TimeoutError, aiohttp.ClientError, asyncio.IncompleteReadError):
        return False
    return True


async def _http(action: Manifest, target: Target) -> bool:
    host, path = action.get("host") or target.address, action.get("path", "/")
    url = f"{action.get('scheme', 'HTTP').lower()}://{host}:{_port(action, target)}/{path.removeprefix('/')}"
    headers = {"User-Agent": "kube-probe/minikluster", "Connection": "close"}
    headers |= {each["name"]: each["value"] for each in action.get("httpHeaders", [])}
    connector = aiohttp.TCPConnector(ssl=False, force_close=True)
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        session.get(url, headers=headers, allow_redirects=False) as answer,
    ):
        return HTTPStatus.OK <= answer.status < HTTPStatus.BAD_REQUEST


async def _tcp(action: Manifest, target: Target) -> bool:
    _, writer = await asyncio.open_connection(action.get("host") or target.address, _port(action, target))
    writer.close()
    return True


async def _exec(action: Manifest, target: Target) -> bool:
    return await target.execute(action["command"]) == 0


async def _sleep(action: Manifest, _: Target) -> bool:
    await asyncio.sleep(action["seconds"])
    return True


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack("!I", len(payload))[1:] + struct.pack("!BBI", kind, flags, stream) + payload


def _literal(name: str, value: str) -> bytes:
    """A header field that is in no table (RFC 7541, 6.2.2)."""
    return b"\0" + b"".join(bytes([len(text)]) + text.encode() for text in (name, value))


async def _grpc(action: Manifest, target: Target) -> bool:
    """grpc.health.v1.Health/Check, in as much HTTP/2 as one call needs."""
    host, service = target.address, action.get("service") or ""
    fields = {
        ":method": "POST",
        ":scheme": "http",
        ":path": "/grpc.health.v1.Health/Check",
        ":authority": host,
        "content-type": "application/grpc",
        "te": "trailers",
    }
    headers = b"".join(_literal(name, value) for name, value in fields.items())
    body = b"\x0a" + bytes([len(service)]) + service.encode() if service else b""
    reader, writer = await asyncio.open_connection(host, _port(action, target))
    try:
        writer.write(
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
            + _frame(_SETTINGS, 0, 0, b"")
            + _frame(_HEADERS, _END_HEADERS, 1, headers)
            + _frame(_DATA, _END_STREAM, 1, struct.pack("!BI", 0, len(body)) + body)
        )
        data = b""
        while True:
            head = await reader.readexactly(9)
            payload = await reader.readexactly(int.from_bytes(head[:3]))
            kind, flags = head[3], head[4]
            if kind == _SETTINGS and not flags & _ACK:
                writer.write(_frame(_SETTINGS, _ACK, 0, b""))
            if kind == _DATA:
                data += payload
            if kind in (_RESET, _GOAWAY) or (kind in (_DATA, _HEADERS) and flags & _END_STREAM):
                return data[5:] == _SERVING
    finally:
        writer.close()


_KINDS = {"httpGet": _http, "tcpSocket": _tcp, "exec": _exec, "grpc": _grpc, "sleep": _sleep}
