"""A stream's end at the server: what is sent there, and the messages that come from there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeAlias

from picker.http2.compression import ANSWER, outcome
from picker.http2.frames import (
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    INTERNAL,
    MESSAGE,
    OK,
    RESOURCE_EXHAUSTED,
    SMALLEST_FRAME_LIMIT,
    UNIMPLEMENTED,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from picker.http2.connection import Connection

# A body of the largest limit that anybody sets, several times.
_LONGEST_MESSAGE = 1 << 28
_COMPRESSED = 1


class Receiver(Protocol):
    """Takes in what the client sends on a stream."""

    def receive(self, message: bytes) -> None:
        """Take in a message."""

    def finish(self) -> None:
        """Take in that no more messages come."""

    def abandon(self) -> None:
        """Take in that the client is no longer interested; nothing more can be sent."""


Opener: TypeAlias = "Callable[[Call], Receiver]"


class Call:
    """What is sent on a stream.  After `finish` and `end`, or once it is abandoned, sending does nothing.

    For the connection: `room` is how many bytes the client takes here, `consumed` how many came since it was told to go
    on, and `told` whether it has said that it sends no more.
    """

    __slots__ = ("_answered", "_arrived", "_connection", "_number", "_waiting", "consumed", "receiver", "room", "told")

    def __init__(self, connection: Connection, number: int, room: int) -> None:
        self._connection: Connection | None = connection
        self._number = number
        self._answered = False
        self._arrived = bytearray()
        self._waiting: list[tuple[int, bytes]] = []
        self.receiver: Receiver | None = None
        self.consumed = 0
        self.room = room
        self.told = False

    @property
    def ended(self) -> bool:
        """Whether nothing more can be sent."""
        return self._connection is None

    def send(self, message: bytes) -> None:
        """Send a message."""
        if self._connection is not None:
            self._send(self._connection, DATA, MESSAGE.pack(0, len(message)) + message)

    def end(self, status: int = OK, text: str = "") -> None:
        """Say that all is sent, and how it went: a gRPC status with a text."""
        if self._connection is not None:
            self._send(self._connection, HEADERS, outcome(status, text))

    def finish(self, message: bytes) -> None:
        """Send the last message, and say that all went well."""
        connection = self._connection
        if connection is None:
            return
        size = MESSAGE.size + len(message)
        if self._answered or self._waiting or size > min(self.room, connection.room, SMALLEST_FRAME_LIMIT):
            self.send(message)
            self.end()
            return
        self._connection = None
        connection.emit_answer(self, self._number, message)
        connection.forget(self._number, told=self.told)
        connection.wake()

    def fail(self, error: Exception) -> None:
        """End for an error of our own."""
        if self._connection is not None:
            self._connection.failed(error)
            self.end(INTERNAL, "the picker failed")

    def _send(self, connection: Connection, kind: int, payload: bytes) -> None:
        self._waiting.append((kind, payload))
        self.release(connection)
        connection.wake()

    def release(self, connection: Connection) -> None:
        """Send what waits, as far as the client has room for it."""
        while self._waiting and self._connection is not None:
            kind, payload = self._waiting[0]
            room = min(self.room, connection.room)
            if kind == HEADERS or room >= len(payload):
                del self._waiting[0]
                self._emit(connection, kind, payload)
                continue
            if room > 0:
                self._waiting[0] = (kind, payload[room:])
                self._emit(connection, kind, payload[:room])
            return

    def _emit(self, connection: Connection, kind: int, payload: bytes) -> None:
        if not self._answered:
            self._answered = True
            if kind == HEADERS:
                # Trailers only (gRPC over HTTP/2): one block is the whole answer.
                payload = ANSWER + payload
            else:
                connection.emit(HEADERS, END_HEADERS, self._number, ANSWER)
        if kind == DATA:
            connection.emit_data(self, self._number, payload)
            return
        connection.emit(HEADERS, END_HEADERS | END_STREAM, self._number, payload)
        self._connection = None
        connection.forget(self._number, told=self.told)

    def take(self, payload: bytes) -> None:
        """Take in a piece of the stream; whole messages go to the receiver."""
        arrived = self._arrived
        if not arrived and not payload[0] and len(payload) == _message_end(payload):
            self._hand(payload[MESSAGE.size :])
            return
        arrived += payload
        while self._connection is not None and (end := _message_end(arrived)):
            if arrived[0] == _COMPRESSED:
                self.end(UNIMPLEMENTED, "no compression was offered")
            elif end > _LONGEST_MESSAGE:
                self.end(RESOURCE_EXHAUSTED, f"a message of more than {_LONGEST_MESSAGE} bytes")
            elif len(arrived) < end:
                return
            else:
                message = bytes(memoryview(arrived)[MESSAGE.size : end])
                del arrived[:end]
                self._hand(message)

    def _hand(self, message: bytes) -> None:
        if self.receiver is None:
            return
        try:
            self.receiver.receive(message)
        except Exception as error:  # noqa: BLE001  (one stream's failure must not end the others')
            self.fail(error)

    def close(self) -> None:
        """Take in that the client sends no more."""
        self.told = True
        if self._connection is not None and self.receiver is not None:
            self.receiver.finish()

    def abandon(self) -> None:
        """Take in that the client has left."""
        if self._connection is not None:
            self._connection = None
            if self.receiver is not None:
                self.receiver.abandon()


def _message_end(arrived: bytes | bytearray) -> int:
    """Tell where the first message ends; 0 where its length is not known yet."""
    return MESSAGE.size + int.from_bytes(arrived[1 : MESSAGE.size], "big") if len(arrived) >= MESSAGE.size else 0
