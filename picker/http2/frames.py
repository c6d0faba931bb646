"""Frames and their numbers (RFC 9113, sections 4, 6 and 7), and gRPC's status codes."""

from __future__ import annotations

import struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

HEAD = struct.Struct(">BHBBL")
"""A frame's head: the length's high byte and the rest of it, type, flags, stream."""
HEAD_SIZE = HEAD.size
MESSAGE = struct.Struct(">BL")
"""A gRPC message's head: whether it is compressed, and its length."""
NUMBER = struct.Struct(">L")
SETTING = struct.Struct(">HL")

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
ACK = END_STREAM = 0x1
END_HEADERS, PADDED, PRIORITIZED = 0x4, 0x8, 0x20
HEADER_TABLE_SIZE, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE = 1, 4, 5
NO_ERROR, PROTOCOL_ERROR, FLOW_CONTROL_ERROR, FRAME_SIZE_ERROR, COMPRESSION_ERROR, ENHANCE_YOUR_CALM = 0, 1, 3, 6, 9, 11

LARGEST_WINDOW = (1 << 31) - 1
DEFAULT_WINDOW = 65_535
SMALLEST_FRAME_LIMIT = 16_384
LARGEST_FRAME_LIMIT = (1 << 24) - 1

OK, RESOURCE_EXHAUSTED, UNIMPLEMENTED, INTERNAL = 0, 8, 12, 13


class ViolationError(Exception):
    """The client does what the protocol does not allow; `code` says of which kind."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """Write a frame."""
    size = len(payload)
    return HEAD.pack(size >> 16, size & 0xFFFF, kind, flags, stream) + payload


def unpad(payload: bytes) -> bytes:
    """Take the padding off a padded frame's payload.  Raises ViolationError."""
    padding = payload[0] if payload else 0
    if padding >= len(payload):
        raise ViolationError(PROTOCOL_ERROR, "nothing but padding")
    return payload[1 : len(payload) - padding]
