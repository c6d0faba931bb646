"""Where a prefill and a decode server meet for a request, as SGLang's servers read it from the request's body.

Three keys are put at the end of the body's object, and nothing else of it is touched: of a key that a client wrote too,
the last one counts (RFC 8259 leaves that open; Python's readers, SGLang's among them, take the last).  A batch of
prompts needs no more: SGLang counts on from the room for each.
"""

from __future__ import annotations

import orjson

from picker.decision import Dice

_SPACE = b" \t\r\n"
# A room's number is signed in SGLang; the rest is for batches, which count on from it.
_HIGH_BITS, _LOW_BITS = 31, 31


def is_object(body: bytes) -> bool:
    """Whether a body that is JSON at all is an object; one that is none, the model server refuses."""
    return body.lstrip(_SPACE)[:1] == b"{" and body.rstrip(_SPACE)[-1:] == b"}"


def draw_room(dice: Dice) -> int:
    """Draw a room's number, of 62 bits: the two servers know their meeting by it alone."""
    return int(dice() * (1 << _HIGH_BITS)) << _LOW_BITS | int(dice() * (1 << _LOW_BITS))


def arrange(body: bytes, address: str, port: int, room: int) -> bytes:
    """Put into an object's body that the prefill server at `address` (``ip:port``) is met, at its bootstrap port."""
    head = body.rstrip(_SPACE)[:-1].rstrip(_SPACE)
    host = address.rpartition(":")[0].strip("[]")
    keys = orjson.dumps({"bootstrap_host": host, "bootstrap_port": port, "bootstrap_room": room})
    return head + (b"" if head.endswith(b"{") else b",") + keys[1:]
