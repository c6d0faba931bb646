"""A tiny DNS server: UDP and TCP, one question per query (RFC 1035, section 4)."""

import asyncio
import ipaddress
import struct
from collections.abc import Callable
from contextlib import suppress

A, CNAME, SRV, ANY = 1, 5, 33, 255
NXDOMAIN = 3
_RESPONSE, _RECURSION_DESIRED = 0x8000, 0x0100
_AUTHORITATIVE_ANSWER = 0x8580
_TTL = 5  # seconds

Record = tuple[str, int, str | tuple[int, str]]
"""Name, type and data: an address, a name, or for SRV a port and a name."""
Resolve = Callable[[str, int], list[Record] | None]
"""The records of a name for a type of question; None: there is no such name."""


def _pack_name(name: str) -> bytes:
    labels = [label.encode() for label in name.rstrip(".").split(".") if label]
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"


def _pack_data(kind: int, data: str | tuple[int, str]) -> bytes:
    if isinstance(data, tuple):
        port, target = data
        return struct.pack("!HHH", 0, 100, port) + _pack_name(target)
    return ipaddress.IPv4Address(data).packed if kind == A else _pack_name(data)


def answer(query: bytes, resolve: Resolve) -> bytes | None:
    """The answer to a query, or None where it is none."""
    try:
        number, flags, questions = struct.unpack("!HHH", query[:6])
        labels, at = [], 12
        while query[at]:
            labels.append(query[at + 1 : at + 1 + query[at]].decode("latin-1"))
            at += 1 + query[at]
        (kind,) = struct.unpack("!H", query[at + 1 : at + 3])
    except (struct.error, IndexError):
        return None
    if flags & _RESPONSE or questions != 1:
        return None
    records = resolve(".".join(labels).lower(), kind)
    header = _AUTHORITATIVE_ANSWER | (flags & _RECURSION_DESIRED) | (NXDOMAIN if records is None else 0)
    packed = b""
    for name, record, data in records or []:
        payload = _pack_data(record, data)
        packed += _pack_name(name) + struct.pack("!HHIH", record, 1, _TTL, len(payload)) + payload
    return struct.pack("!HHHHHH", number, header, 1, len(records or []), 0, 0) + query[12 : at + 5] + packed


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, resolve: Resolve) -> None:
        self._resolve = resolve
        self._transport: asyncio.DatagramTransport

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if reply := answer(data, self._resolve):
            self._transport.sendto(reply, addr)


async def serve(host: str, port: int, resolve: Resolve) -> None:
    """Answer for ever."""

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, OSError):
            while size := await reader.readexactly(2):
                query = await reader.readexactly(struct.unpack("!H", size)[0])
                reply = answer(query, resolve) or b""
                writer.write(struct.pack("!H", len(reply)) + reply)
        writer.close()

    loop = asyncio.get_running_loop()
    await loop.create_datagram_endpoint(lambda: _Datagrams(resolve), local_addr=(host, port))
    await (await asyncio.start_server(connection, host, port)).serve_forever()
