"""Header blocks: reading the client's, and writing ours without the compression's table (RFC 7541).

A block that changes nothing in the table means the same until the table changes.  A client that opens thousands of
streams alike writes their blocks alike, so that each is decoded once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

from hpack import Decoder, HPACKError
from hpack.hpack import decode_integer, encode_integer

from picker.http2.frames import COMPRESSION_ERROR, OK, ViolationError

T = TypeVar("T")

TABLE_SIZE = 4096
"""The table's size (bytes) unless the other side sets another."""

NO_TABLE = b"\x20"
"""Says that the writer keeps to a table of no size."""

_LIMIT = 1024


class Blocks(Generic[T]):
    """The client's blocks, and what was made of their headers."""

    def __init__(self, make: Callable[[Mapping[str, str]], T]) -> None:
        self._make = make
        self._decoder = Decoder()
        self._known: dict[bytes, T] = {}

    def __len__(self) -> int:
        return len(self._known)

    def read(self, block: bytes) -> T:
        """Return what is made of a block's headers.  Raises ViolationError."""
        known = self._known.get(block)
        if known is not None:
            return known
        made = self._make(self.decode(block))
        if keeps_table(block):
            if len(self._known) >= _LIMIT:
                self._known.clear()
            self._known[block] = made
        return made

    def decode(self, block: bytes) -> Mapping[str, str]:
        """Read a block for its headers alone.  Raises ViolationError."""
        try:
            headers = self._decoder.decode(block, raw=True)
        except HPACKError as error:
            raise ViolationError(COMPRESSION_ERROR, f"an unreadable header block: {error}") from error
        if not keeps_table(block):
            self._known.clear()
        return {str(name, "utf-8", "replace"): str(value, "utf-8", "replace") for name, value in headers}


def keeps_table(block: bytes) -> bool:
    """Whether a readable block leaves the table as it is (RFC 7541, section 6)."""
    position = 0
    while position < len(block):
        first = block[position]
        if first & 0x80:
            position += decode_integer(block[position:], 7)[1]
            continue
        if first & 0x60:
            # A header that enters the table, or another size of it.
            return False
        index, size = decode_integer(block[position:], 4)
        position += size
        for _ in range(1 if index else 2):
            length, size = decode_integer(block[position:], 7)
            position += size + length
    return True


def literal(name: bytes, value: bytes) -> bytes:
    """Write a header that enters no table."""
    return b"\x00" + _text(name) + _text(value)


def _text(text: bytes) -> bytes:
    return bytes(encode_integer(len(text), 7)) + text


# `:status: 200` is the eighth entry of the table that never changes.
ANSWER = b"\x88" + literal(b"content-type", b"application/grpc")
"""The block that an answer begins with."""


def outcome(status: int, text: str = "") -> bytes:
    """Write the block that an answer ends with."""
    block = literal(b"grpc-status", b"%d" % status)
    return block if status == OK else block + literal(b"grpc-message", _percent(text))


def _percent(text: str) -> bytes:
    """Encode a status's text (gRPC over HTTP/2, Percent-Encoded)."""
    return b"".join(
        b"%c" % byte if 0x20 <= byte <= 0x7E and byte != 0x25 else b"%%%02X" % byte  # noqa: PLR2004  (ASCII but "%")
        for byte in text.encode("utf-8", "replace")
    )
