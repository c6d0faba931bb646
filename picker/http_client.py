"""A keep-alive HTTP/1.1 client for asking one pod one short question at a time.

The picker asks every pod for its metrics ten times a second.  A library's client (sessions, pools, cookies,
redirects, decoders) costs several times what the answer's few lines are worth; this one is a request line, a status,
a length and a body. It reads bodies by content-length, in chunks, or to the end of the connection, and nothing else
of HTTP; a body comes in pieces, and the head before it is read once.

Callers bound the time (`asyncio.timeout`); a question given up closes the connection, so that no late answer is taken
for the next question's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple, cast

_HEADERS = frozenset((b"connection", b"content-length", b"transfer-encoding"))
_LIMIT = 8 * 1024 * 1024
# Seconds.
_LATE = 0.1


class Answer(NamedTuple):
    """A status code and a body."""

    status: int
    body: bytes


def was_late(bound: asyncio.Timeout) -> bool:
    """Tell whether a time-out says more about this process than about who was asked: it was busy, and looked too late.

    The answer may have come long before.
    """
    due = bound.when()
    return due is not None and asyncio.get_running_loop().time() - due > _LATE


class Connection:
    """A connection to one address (``host:port``), opened when needed and kept.

    `lost` is called when the other side closes it between two questions.  Raises OSError when the pod refuses, resets
    or talks nonsense.
    """

    def __init__(self, address: str, lost: Callable[[], None] | None = None) -> None:
        self._lost = lost
        host, _, port = address.rpartition(":")
        self._host = host.strip("[]")
        self._port = int(port)
        # Nothing here decompresses.
        self._common = f"host: {address}\r\naccept: */*\r\naccept-encoding: identity\r\n"
        self._wire: _Wire | None = None

    async def get(self, path: str) -> Answer:
        """Ask for a page."""
        return await self._ask(f"GET {path} HTTP/1.1\r\n{self._common}\r\n".encode())

    async def post(self, path: str, body: bytes) -> Answer:
        """Send a JSON document."""
        head = (
            f"POST {path} HTTP/1.1\r\n{self._common}"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        return await self._ask(head.encode() + body)

    def close(self) -> None:
        """Close the connection; the next question opens another."""
        if self._wire is not None:
            self._wire.close()
            self._wire = None

    async def _ask(self, request: bytes) -> Answer:
        kept = self._wire
        if kept is not None and kept.usable:
            try:
                return await self._exchange(kept, request)
            except ConnectionError:
                # The server may close an idle connection at any time: only a fresh one tells that the pod is away.
                # A reset under way is no such thing.
                if kept.answering:
                    raise
        self.close()
        loop = asyncio.get_running_loop()
        _, wire = await loop.create_connection(lambda: _Wire(self._lost), self._host, self._port)
        self._wire = wire
        return await self._exchange(wire, request)

    async def _exchange(self, wire: _Wire, request: bytes) -> Answer:
        try:
            return await wire.ask(request)
        except BaseException:
            self.close()
            raise


class _Head(NamedTuple):
    """What comes before a body: the status, whether the connection can be used again, and how the body ends.

    `end` is where in what was received; None where it ends in chunks, or else with the connection.
    """

    status: int
    keep: bool
    start: int
    end: int | None
    chunked: bool = False


class _Wire(asyncio.Protocol):
    """The bytes of one connection: one question, one answer."""

    def __init__(self, lost: Callable[[], None] | None) -> None:
        self._lost = lost
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[Answer] | None = None
        self._received = bytearray()
        self._head: _Head | None = None
        self.usable = False

    @property
    def answering(self) -> bool:
        """Whether part of an answer has come."""
        return bool(self._received)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self.usable = True

    def connection_lost(self, exc: Exception | None) -> None:
        kept, self.usable = self.usable, False
        if self._waiter is None:
            if kept and self._lost is not None:
                self._lost()
            return
        head = self._head
        if exc is None and head is not None and head.end is None and not head.chunked:
            self._settle(Answer(head.status, bytes(memoryview(self._received)[head.start :])))
        else:
            self._fail(ConnectionResetError("the pod closed the connection before it answered"))

    def data_received(self, data: bytes) -> None:
        if self._waiter is None:
            # Nobody asked: an answer to nothing.
            self.close()
            return
        self._received += data
        try:
            answer = self._read()
            if answer is None and len(self._received) > _LIMIT:
                raise ValueError("an answer of more than 8 MiB")  # noqa: TRY301  (one way out for all nonsense)
        except ValueError as error:
            self._fail(ConnectionAbortedError(f"no HTTP answer: {error}"))
            self.close()
            return
        if answer is not None:
            keep = self._head is not None and self._head.keep
            self._settle(answer)
            if not keep:
                self.close()

    def close(self) -> None:
        self.usable = False
        if self._transport is not None:
            self._transport.abort()

    async def ask(self, request: bytes) -> Answer:
        if self._transport is None or not self.usable:
            raise ConnectionResetError("the connection is closed")
        self._forget()
        self._waiter = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        try:
            return await self._waiter
        finally:
            self._waiter = None

    def _read(self) -> Answer | None:
        """Return the answer once it is all there.  Raises ValueError for what is no HTTP/1 answer."""
        head = self._head = self._head or _read_head(self._received)
        if head is None:
            return None
        if head.chunked:
            chunked = _dechunk(self._received, head.start)
            return None if chunked is None else Answer(head.status, chunked)
        if head.end is None or len(self._received) < head.end:
            return None
        return Answer(head.status, bytes(memoryview(self._received)[head.start : head.end]))

    def _settle(self, answer: Answer) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(answer)
        self._waiter = None
        self._forget()

    def _fail(self, error: Exception) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(error)
        self._waiter = None

    def _forget(self) -> None:
        self._received = bytearray()
        self._head = None


def _read_head(received: bytearray) -> _Head | None:
    """Read an answer's head; None while it is not all there.  Raises ValueError for what is no HTTP/1 answer."""
    head_end = received.find(b"\r\n\r\n")
    if head_end < 0:
        return None
    status_line, *lines = bytes(received[:head_end]).split(b"\r\n")
    version, code = status_line.split(b" ", 2)[:2]
    headers = {}
    for line in lines:
        name, _, value = line.partition(b":")
        name = name.lower()
        if name in _HEADERS:
            headers[name] = value.strip()
    keep = version == b"HTTP/1.1" and headers.get(b"connection", b"").lower() != b"close"
    status = int(code)
    start = head_end + 4
    if b"chunked" in headers.get(b"transfer-encoding", b"").lower():
        return _Head(status, keep, start, None, chunked=True)
    length = headers.get(b"content-length")
    if length is not None:
        if not length.isdigit():
            raise ValueError(f"a content-length of {length!r}")
        return _Head(status, keep, start, start + int(length))
    if status in (204, 304):
        return _Head(status, keep, start, start)
    return _Head(status, keep=False, start=start, end=None)


def _dechunk(received: bytearray, position: int) -> bytes | None:
    parts: list[bytes] = []
    while True:
        line_end = received.find(b"\r\n", position)
        if line_end < 0:
            return None
        size = int(bytes(received[position:line_end]).partition(b";")[0], 16)
        start = line_end + 2
        if len(received) < start + size + 2:
            return None
        if size == 0:
            return b"".join(parts)
        parts.append(bytes(received[start : start + size]))
        position = start + size + 2
