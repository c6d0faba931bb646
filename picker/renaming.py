"""Renaming the model in a body that passes in pieces, none of which is kept: a reader of JSON by its brackets.

Of a piece all goes on at once but the value of a top-level `model`, from its quotation mark to the closing one, which
goes on under the new name.  A key that is repeated is renamed each time.  What is no JSON object passes as it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import orjson

# What matters within a string, and what matters outside of one.
_STOPS = re.compile(rb'["\\]')
_MARKS = re.compile(rb'["\[\]{}:,]')
_SPACE = b" \t\r\n"
_QUOTE, _BACKSLASH = ord('"'), ord("\\")
# Bytes of a key that may still be `model`, each of its letters written as an escape, and of a name that is kept.
_LONGEST_KEY, _LONGEST_NAME = 64, 65_536


class Renamer:
    """Takes in the pieces of one body.  `rename` gives the new name of a model, or the same."""

    __slots__ = ("_depth", "_escaped", "_in_string", "_is_key", "_is_object", "_kept", "_key", "_rename", "_renames")

    def __init__(self, rename: Callable[[str], str]) -> None:
        self._rename = rename
        # Whether the document is an object: None until its first byte.
        self._is_object: bool | None = None
        self._depth = 0
        self._in_string = False
        self._escaped = False
        # At the top level: whether a string is a key, the last key, and the value that is kept with its opening mark.
        self._is_key = True
        self._key: bytearray | None = None
        self._kept: bytearray | None = None
        self._renames = False

    def feed(self, piece: bytes) -> bytes:
        """Take in a piece; return what goes on."""
        if self._is_object is None:
            stripped = piece.lstrip(_SPACE)
            if not stripped:
                return piece
            self._is_object = stripped.startswith(b"{")
        if not self._is_object:
            return piece
        out: list[bytes] = []
        position = 0
        while position < len(piece):
            step = self._read_string if self._in_string else self._read_marks
            position = step(piece, position, out)
        return b"".join(out)

    def finish(self) -> bytes:
        """Return what is kept yet: the document broke off in a name."""
        kept, self._kept = self._kept, None
        return bytes(kept or b"")

    def _read_marks(self, piece: bytes, start: int, out: list[bytes]) -> int:
        """Go on to the next string, whose opening mark is passed or kept; return where that ends."""
        for mark in _MARKS.finditer(piece, start):
            byte = mark.group()
            if byte == b'"':
                self._in_string = True
                return self._open_string(piece, start, mark.start(), out)
            if byte in b"{[":
                self._depth += 1
                self._is_key = self._depth == 1
            elif byte in b"}]":
                self._depth -= 1
            elif self._depth == 1:
                self._is_key = byte == b","
                self._renames = byte == b":" and _is_model(self._key)
        out.append(piece[start:])
        return len(piece)

    def _open_string(self, piece: bytes, start: int, mark: int, out: list[bytes]) -> int:
        self._key = None
        if self._depth == 1 and not self._is_key and self._renames:
            out.append(piece[start:mark])
            self._kept = bytearray(b'"')
        else:
            out.append(piece[start : mark + 1])
            if self._depth == 1 and self._is_key:
                self._key = bytearray()
        self._renames = False
        return mark + 1

    def _read_string(self, piece: bytes, start: int, out: list[bytes]) -> int:
        """Go on to the end of a string, or of the piece; return where that is."""
        position = start
        if self._escaped:
            self._escaped = False
            position += 1
        while (stop := _STOPS.search(piece, position)) is not None:
            position = stop.end()
            if piece[stop.start()] == _QUOTE:
                self._in_string = False
                self._pass(piece[start:position], out)
                self._close_string(out)
                return position
            if position == len(piece):
                self._escaped = True
            position += 1
        self._pass(piece[start:], out)
        return len(piece)

    def _pass(self, part: bytes, out: list[bytes]) -> None:
        """Pass a part of a string on, or keep it."""
        if self._kept is None:
            out.append(part)
            if self._key is not None:
                self._key += part[: _LONGEST_KEY - len(self._key)]
            return
        self._kept += part
        if len(self._kept) > _LONGEST_NAME:
            out.append(bytes(self._kept))
            self._kept = None

    def _close_string(self, out: list[bytes]) -> None:
        if self._kept is None:
            return
        raw, self._kept = bytes(self._kept), None
        try:
            model = str(orjson.loads(raw))
        except orjson.JSONDecodeError:
            out.append(raw)
            return
        target = self._rename(model)
        out.append(raw if target == model else orjson.dumps(target))


def _is_model(key: bytearray | None) -> bool:
    """Tell whether a key, without its opening mark, means `model`."""
    if key is None or not key.endswith(b'"'):
        return False
    try:
        return bool(orjson.loads(b'"' + key) == "model")
    except orjson.JSONDecodeError:
        return False
