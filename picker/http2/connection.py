"""One client's connection.

Rules, and everything that affects the state of the connection lives in this file:

1. `receive` takes bytes and hands messages to the streams' receivers; `take` gives the bytes to send.
2. A stream ends when the server has ended it; what the client still sends there is passed over.
3. The client may send as much as it likes: its windows are opened again and again.  What it takes is respected, and the
   rest waits.
4. A violation of the protocol ends the connection, with a GOAWAY that says why.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping

from picker.http2.call import Call, Opener, Receiver
from picker.http2.compression import ANSWER, NO_TABLE, TABLE_SIZE, Blocks, outcome
from picker.http2.frames import (
    ACK,
    CONTINUATION,
    DATA,
    DEFAULT_WINDOW,
    END_HEADERS,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR,
    GOAWAY,
    HEAD,
    HEAD_SIZE,
    HEADER_TABLE_SIZE,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    LARGEST_FRAME_LIMIT,
    LARGEST_WINDOW,
    MAX_FRAME_SIZE,
    MESSAGE,
    NO_ERROR,
    NUMBER,
    OK,
    PADDED,
    PING,
    PREFACE,
    PRIORITIZED,
    PROTOCOL_ERROR,
    PUSH_PROMISE,
    RST_STREAM,
    SETTING,
    SETTINGS,
    SMALLEST_FRAME_LIMIT,
    UNIMPLEMENTED,
    WINDOW_UPDATE,
    ViolationError,
    frame,
    unpad,
)

_WELCOME = frame(SETTINGS, 0, 0, SETTING.pack(INITIAL_WINDOW_SIZE, LARGEST_WINDOW)) + frame(
    WINDOW_UPDATE, 0, 0, NUMBER.pack(LARGEST_WINDOW - DEFAULT_WINDOW)
)
_WELL = outcome(OK)
_LONGEST_BLOCK = 65_536
_PRIORITY_SIZE = 5


class Connection:
    """A connection's state; `closed` once it takes nothing in any more.

    `route` finds, for the headers of a request, what opens its stream; None for what is not served.  `woken` is called
    when there is something to take outside of `receive`, `failed` with what a receiver raised.  `replenish` (bytes) is
    how much the client sends before it is told that it may go on.
    """

    def __init__(
        self,
        route: Callable[[Mapping[str, str]], Opener | None],
        *,
        woken: Callable[[], None],
        failed: Callable[[Exception], None],
        replenish: int = LARGEST_WINDOW // 2,
    ) -> None:
        self._woken = woken
        self.failed = failed
        self._replenish = replenish
        self.closed = False
        self.room = DEFAULT_WINDOW
        self._initial_room = DEFAULT_WINDOW
        self._frame_limit = SMALLEST_FRAME_LIMIT
        self._out: list[bytes] = [_WELCOME]
        self._rest = b""
        self._greeted = False
        self._receiving = False
        self._blocks: Blocks[Opener] = Blocks(lambda headers: route(headers) or _refuse)
        self._calls: dict[int, Call] = {}
        self._last = 0
        self._begun: tuple[int, int, bytearray] | None = None
        self._consumed = 0
        self._first_block_says = b""
        self._handlers: dict[int, Callable[[int, int, bytes], None]] = {
            DATA: self._receive_data,
            HEADERS: self._receive_headers,
            RST_STREAM: self._receive_reset,
            SETTINGS: self._receive_settings,
            PUSH_PROMISE: self._receive_push,
            PING: self._receive_ping,
            WINDOW_UPDATE: self._receive_window_update,
            CONTINUATION: self._receive_continuation,
        }

    def __len__(self) -> int:
        return len(self._calls)

    def take(self) -> bytes:
        """Return what is to be sent."""
        out = b"".join(self._out)
        self._out.clear()
        return out

    def receive(self, data: bytes) -> None:
        """Take in what the client sent."""
        if self.closed:
            return
        if self._rest:
            data = self._rest + data
        self._receiving = True
        try:
            self._rest = self._read(data)
        except ViolationError as violation:
            self._leave(violation.code, str(violation))
        except struct.error as error:
            self._leave(FRAME_SIZE_ERROR, str(error))
        finally:
            self._receiving = False

    def leave(self) -> None:
        """Say goodbye: what runs is abandoned."""
        if not self.closed:
            self._leave(NO_ERROR, "")

    def lose(self) -> None:
        """Take in that the connection is gone."""
        self.closed = True
        calls, self._calls = list(self._calls.values()), {}
        for call in calls:
            call.abandon()

    def _leave(self, code: int, text: str) -> None:
        self.emit(GOAWAY, 0, 0, NUMBER.pack(self._last) + NUMBER.pack(code) + text.encode())
        self.lose()

    def _read(self, data: bytes) -> bytes:
        """Read whole frames; return what is left."""
        position, size = 0, len(data)
        if not self._greeted:
            if not PREFACE.startswith(data[: len(PREFACE)]):
                raise ViolationError(PROTOCOL_ERROR, "no HTTP/2")
            if size < len(PREFACE):
                return data
            self._greeted = True
            position = len(PREFACE)
        handlers = self._handlers
        while size - position >= HEAD_SIZE:
            high, low, kind, flags, stream = HEAD.unpack_from(data, position)
            length = high << 16 | low
            if length > SMALLEST_FRAME_LIMIT:
                raise ViolationError(FRAME_SIZE_ERROR, f"a frame of {length} bytes")
            start = position + HEAD_SIZE
            if start + length > size:
                break
            position = start + length
            if self._begun is not None and kind != CONTINUATION:
                raise ViolationError(PROTOCOL_ERROR, "a header block is interrupted")
            # Unknown types are passed over (section 4.1), and so are priorities and the client's GOAWAY.
            handle = handlers.get(kind)
            if handle is not None:
                handle(stream & LARGEST_WINDOW, flags, data[start:position])
        return data[position:]

    def _receive_data(self, stream: int, flags: int, payload: bytes) -> None:
        self._consumed += len(payload)
        if self._consumed >= self._replenish:
            self.emit(WINDOW_UPDATE, 0, 0, NUMBER.pack(self._consumed))
            self._consumed = 0
        call = self._calls.get(stream)
        if call is None:
            if not 0 < stream <= self._last:
                raise ViolationError(PROTOCOL_ERROR, f"data on stream {stream}, which is not open")
            return
        if call.told:
            raise ViolationError(PROTOCOL_ERROR, f"data behind the end of stream {stream}")
        call.consumed += len(payload)
        if flags & PADDED:
            payload = unpad(payload)
        if payload:
            call.take(payload)
        if flags & END_STREAM:
            call.close()
        elif call.consumed >= self._replenish and not call.ended:
            self.emit(WINDOW_UPDATE, 0, stream, NUMBER.pack(call.consumed))
            call.consumed = 0

    def _receive_headers(self, stream: int, flags: int, payload: bytes) -> None:
        if flags & PADDED:
            payload = unpad(payload)
        if flags & PRIORITIZED:
            payload = payload[_PRIORITY_SIZE:]
        if flags & END_HEADERS:
            self._open(stream, flags, payload)
        else:
            self._begun = (stream, flags, bytearray(payload))

    def _receive_continuation(self, stream: int, flags: int, payload: bytes) -> None:
        if self._begun is None or self._begun[0] != stream:
            raise ViolationError(PROTOCOL_ERROR, "a continuation of nothing")
        _, began_with, block = self._begun
        block += payload
        if len(block) > _LONGEST_BLOCK:
            raise ViolationError(ENHANCE_YOUR_CALM, "a header block without end")
        if flags & END_HEADERS:
            self._begun = None
            self._open(stream, began_with, bytes(block))

    def _open(self, stream: int, flags: int, block: bytes) -> None:
        if not stream & 1:
            raise ViolationError(PROTOCOL_ERROR, f"stream {stream} is not the client's to open")
        if stream <= self._last:
            # The end of a stream, which may have ended here already; the compression's table is kept in step.
            self._blocks.decode(block)
            call = self._calls.get(stream)
            if call is not None:
                if call.told or not flags & END_STREAM:
                    raise ViolationError(PROTOCOL_ERROR, f"another header block on stream {stream}")
                call.close()
            return
        self._last = stream
        opener = self._blocks.read(block)
        call = self._calls[stream] = Call(self, stream, self._initial_room)
        call.told = bool(flags & END_STREAM)
        call.receiver = opener(call)
        if call.told:
            call.close()

    def _receive_reset(self, stream: int, _flags: int, payload: bytes) -> None:
        NUMBER.unpack(payload)
        call = self._calls.pop(stream, None)
        if call is not None:
            call.abandon()
        elif not 0 < stream <= self._last:
            raise ViolationError(PROTOCOL_ERROR, f"a reset of stream {stream}, which is not open")

    def _receive_settings(self, _stream: int, flags: int, payload: bytes) -> None:
        if flags & ACK:
            return
        for identifier, value in SETTING.iter_unpack(payload):
            if identifier == INITIAL_WINDOW_SIZE:
                if value > LARGEST_WINDOW:
                    raise ViolationError(FLOW_CONTROL_ERROR, f"a window of {value} bytes")
                more, self._initial_room = value - self._initial_room, value
                for call in self._calls.values():
                    call.room += more
            elif identifier == MAX_FRAME_SIZE:
                if not SMALLEST_FRAME_LIMIT <= value <= LARGEST_FRAME_LIMIT:
                    raise ViolationError(PROTOCOL_ERROR, f"a limit of {value} bytes for frames")
                self._frame_limit = value
            elif identifier == HEADER_TABLE_SIZE and value < TABLE_SIZE:
                # The next block has to say that we keep to that (RFC 7541, 4.2): we use no table at all.
                self._first_block_says = NO_TABLE
        self.emit(SETTINGS, ACK, 0, b"")
        self._release_all()

    def _receive_push(self, _stream: int, _flags: int, _payload: bytes) -> None:
        raise ViolationError(PROTOCOL_ERROR, "clients push nothing")

    def _receive_ping(self, _stream: int, flags: int, payload: bytes) -> None:
        if not flags & ACK:
            self.emit(PING, ACK, 0, payload)

    def _receive_window_update(self, stream: int, _flags: int, payload: bytes) -> None:
        (more,) = NUMBER.unpack(payload)
        if stream == 0:
            self.room += more
            if not more or self.room > LARGEST_WINDOW:
                raise ViolationError(FLOW_CONTROL_ERROR, f"a window of {self.room} bytes")
            self._release_all()
            return
        call = self._calls.get(stream)
        if call is not None:
            call.room += more
            call.release(self)

    def _release_all(self) -> None:
        for call in list(self._calls.values()):
            call.release(self)

    def emit(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        """Have a frame sent."""
        if kind == HEADERS and self._first_block_says:
            payload, self._first_block_says = self._first_block_says + payload, b""
        size = len(payload)
        self._out += (HEAD.pack(size >> 16, size & 0xFFFF, kind, flags, stream), payload)

    def emit_data(self, call: Call, stream: int, payload: bytes) -> None:
        """Have data sent, for which there is room."""
        size = len(payload)
        call.room -= size
        self.room -= size
        for start in range(0, size, self._frame_limit):
            self.emit(DATA, 0, stream, payload[start : start + self._frame_limit])

    def emit_answer(self, call: Call, stream: int, message: bytes) -> None:
        """Have a whole answer sent, of one small message for which there is room."""
        self.emit(HEADERS, END_HEADERS, stream, ANSWER)
        size = MESSAGE.size + len(message)
        call.room -= size
        self.room -= size
        self._out += (
            HEAD.pack(0, size, DATA, 0, stream),
            MESSAGE.pack(0, len(message)),
            message,
            HEAD.pack(0, len(_WELL), HEADERS, END_HEADERS | END_STREAM, stream),
            _WELL,
        )

    def forget(self, stream: int, *, told: bool) -> None:
        """Take in that a stream is ended from here.  A client that has more to say is told not to (section 8.1)."""
        self._calls.pop(stream, None)
        if not told:
            self.emit(RST_STREAM, 0, stream, NUMBER.pack(NO_ERROR))

    def wake(self) -> None:
        """Have what was emitted taken, unless it is anyway."""
        if not self._receiving:
            self._woken()


class _Refused:
    def receive(self, message: bytes) -> None:
        """Pass over it."""

    def finish(self) -> None:
        """Pass over it."""

    def abandon(self) -> None:
        """Pass over it."""


def _refuse(call: Call) -> Receiver:
    call.end(UNIMPLEMENTED, "not served here")
    return _Refused()
