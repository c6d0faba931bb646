"""The model that a request names, and the name under which the model server knows it.

`name` reads the top-level `model` of a JSON body without building the document.  `locate` finds its place: where the
key's spelling occurs just once in the body, it is there; else one regular expression walks over all strings and
brackets.  `replace` then changes those bytes alone; everything else of the body, spacing and escapes included, reaches
the server as the client wrote it.

A body that is no JSON object, or whose `model` is missing or no string, is passed on untouched: the gateway has its own
refusals, and a rule without a model match must not refuse.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple

import orjson
from msgspec import DecodeError, Struct, ValidationError
from msgspec.json import Decoder

# A string with what follows it when it is a key, or a bracket.  Possessive: an unclosed string costs one pass, not
# many.
_TOKEN = re.compile(rb'"([^"\\]*+(?:\\.[^"\\]*+)*+)"(\s*+:\s*+)?|[\[\]{}]', re.DOTALL)
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_KEY = b'"model"'
_BACKSLASH = ord("\\")


class _Document(Struct, gc=False):
    model: str | None = None


_decode = Decoder(_Document).decode


class Found(NamedTuple):
    """The model a body names, and where: byte ranges of the values, quotes included.

    A key that is repeated has several.
    """

    model: str
    spans: tuple[tuple[int, int], ...]


class Targets(Struct, frozen=True):
    """The names under which servers know a model, with the running sums of their weights (positive integers)."""

    names: tuple[str, ...]
    sums: tuple[int, ...]

    @classmethod
    def of(cls, weighted: Sequence[tuple[str, int]]) -> Targets:
        """Make targets from (name, weight) pairs.  A weight of 0, which Pool does not allow, counts as 1."""
        return cls(
            tuple(name for name, _ in weighted),
            tuple(accumulate(max(1, weight) for _, weight in weighted)),
        )

    def draw(self, dice: Callable[[], float]) -> str | None:
        """Draw a name by weight; None when there are no targets, and the model is served under its own name."""
        if not self.names:
            return None
        if len(self.names) == 1:
            return self.names[0]
        return self.names[bisect_right(self.sums, int(dice() * self.sums[-1]))]


def name(body: bytes) -> str | None:
    """Read the top-level `model`; None where there is no string.

    Of a repeated key the last value counts, as in Python's and most other readers.
    """
    try:
        return _decode(body).model
    except ValidationError:
        # No object, or some `model` in it is no string: one repeated after that may be.
        found = _scan(body)
        return None if found is None else found.model
    except (DecodeError, UnicodeDecodeError):
        return None


def locate(body: bytes, model: str) -> Found | None:
    """Find where the top-level `model` stands, which is known to have this value.

    All string values of a repeated key are located, so that after a rewrite it does not matter which one a reader
    takes.
    """
    key = body.find(_KEY)
    value = _value_after(body, key) if key >= 0 else None
    if value is None or body.find(_KEY, key + 1) >= 0 or (b"\\" in body and b"\\u00" in body):
        # Written with escapes, or one of several that look like it.
        return _scan(body)
    return Found(model, (value,))


def _value_after(body: bytes, key: int) -> tuple[int, int] | None:
    """Return where the string stands that is the value of the key at this place, if both are what they seem.

    In a valid document a quotation mark without a backslash before it opens or closes a string, and a string that a
    colon follows is a key.
    """
    if body[key - 1] == _BACKSLASH:
        return None
    token = _TOKEN.match(body, key)
    if token is None or token.end(2) < 0:
        return None
    value = _STRING.match(body, token.end(2))
    return None if value is None else value.span()


def _scan(body: bytes) -> Found | None:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    model = document.get("model") if isinstance(document, dict) else None
    return Found(model, tuple(_spans(body))) if isinstance(model, str) else None


def _spans(body: bytes) -> Iterator[tuple[int, int]]:
    """Walk over a valid document's strings and brackets, to the string values of its top-level `model` keys."""
    depth = 0
    for token in _TOKEN.finditer(body):
        byte = body[token.start()]
        if byte in b"{[":
            depth += 1
        elif byte in b"}]":
            depth -= 1
        elif depth == 1 and token.end(2) >= 0 and _is_model(token.group(1)):
            value = _STRING.match(body, token.end(2))
            if value is not None:
                yield value.span()


def _is_model(key: bytes) -> bool:
    if b"\\" not in key:
        return key == b"model"
    try:
        return bool(orjson.loads(b'"' + key + b'"') == "model")
    except orjson.JSONDecodeError:
        return False


def replace(body: bytes, found: Found, target: str) -> bytes:
    """Put the target's name where the model stands; all other bytes stay."""
    name = orjson.dumps(target)
    parts: list[bytes] = []
    position = 0
    for start, end in found.spans:
        parts += body[position:start], name
        position = end
    parts.append(body[position:])
    return b"".join(parts)
