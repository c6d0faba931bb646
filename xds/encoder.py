"""Encode Envoy messages to bytes, field by field, from the metadata of their classes.

`bytes(message)` of betterproto2 validates every subtree again at every level, which costs fifty times the encoding.
Here each class has one plan, a tuple of the writers of its fields, and only fields that are set are written.

The bytes are those of `bytes(message)`, with one difference: the entries of a map come in the order of their keys, so
that equal messages have equal bytes and a content hash of them never changes without a change of meaning.

A message given to `encode` must not be changed afterwards: the bytes of an element of a repeated field are remembered
for as long as that very object lives, so that one changed route among 10,000 costs one route.
"""

import struct
import weakref
from collections.abc import Callable
from dataclasses import fields
from datetime import timedelta
from functools import cache
from typing import Any, Protocol

import betterproto2
from betterproto2 import FieldMetadata
from google.protobuf.message import Message as UpbMessage

Chunks = list[bytes]
Body = Callable[[Any], bytes]
Write = Callable[[Chunks, Any], None]
_Reference = weakref.KeyedRef[int, betterproto2.Message]
# Name of the attribute; whether the field has no presence (a zero is then not written); its writer.
Plan = tuple[tuple[str, bool, Write], ...]

# Shorter elements are encoded faster than they are remembered.
_WORTH_REMEMBERING = 96
_MICROSECOND = timedelta(microseconds=1)
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_WIRE_TYPES = {
    **dict.fromkeys(betterproto2.WIRE_VARINT_TYPES, _VARINT),
    **dict.fromkeys(betterproto2.WIRE_FIXED_64_TYPES, _FIXED64),
    **dict.fromkeys(betterproto2.WIRE_FIXED_32_TYPES, _FIXED32),
    **dict.fromkeys(betterproto2.WIRE_LEN_DELIM_TYPES, _LENGTH),
}
_FORMATS = {
    betterproto2.TYPE_DOUBLE: "<d",
    betterproto2.TYPE_FLOAT: "<f",
    betterproto2.TYPE_FIXED32: "<I",
    betterproto2.TYPE_FIXED64: "<Q",
    betterproto2.TYPE_SFIXED32: "<i",
    betterproto2.TYPE_SFIXED64: "<q",
}
_ONE_BYTE = tuple(bytes([value]) for value in range(0x80))


class _Wrapped(Protocol):
    """A class such as Duration or UInt32Value, that stands for a plain Python value."""

    @staticmethod
    def from_wrapped(wrapped: object, /) -> betterproto2.Message: ...


def encode(message: betterproto2.Message | UpbMessage) -> bytes:
    """Encode a message; equal messages have equal bytes."""
    if isinstance(message, betterproto2.Message):
        return _encode(message)
    return message.SerializeToString(deterministic=True)


def _encode(message: betterproto2.Message) -> bytes:
    values = message.__dict__
    chunks: Chunks = []
    for name, implicit, write in _plan(type(message)):
        value = values[name]
        if value is None or (implicit and not value):
            continue
        write(chunks, value)
    chunks.append(values["_unknown_fields"])
    return b"".join(chunks)


@cache
def _plan(message_class: type[betterproto2.Message]) -> Plan:
    # In the order of declaration, as bytes(message) writes them.
    metas = [(field.name, FieldMetadata.get(field)) for field in fields(message_class)]  # type: ignore[arg-type] # not declared as one
    return tuple((name, _is_implicit(meta), _writer(meta)) for name, meta in metas)


def _is_implicit(meta: FieldMetadata) -> bool:
    if meta.repeated or meta.map_meta:
        return True
    return not (meta.optional or meta.group or meta.proto_type == betterproto2.TYPE_MESSAGE)


def _writer(meta: FieldMetadata) -> Write:
    if meta.map_meta:
        return _map_writer(_tag(meta.number, _LENGTH), *meta.map_meta)
    body = _body(meta)
    if meta.repeated and meta.proto_type in betterproto2.PACKED_TYPES:
        return _packed_writer(_tag(meta.number, _LENGTH), body)
    if meta.repeated and meta.proto_type == betterproto2.TYPE_MESSAGE and meta.unwrap is None:
        return _elements_writer(_tag(meta.number, _LENGTH))
    write = _single_writer(meta, body)
    return _repeated_writer(write) if meta.repeated else write


def _single_writer(meta: FieldMetadata, body: Body) -> Write:
    wire_type = _WIRE_TYPES[meta.proto_type]
    tag = _tag(meta.number, wire_type)

    def write(chunks: Chunks, value: object) -> None:
        chunks.append(tag + body(value))

    def write_with_length(chunks: Chunks, value: object) -> None:
        chunks.append(_framed(tag, body(value)))

    return write_with_length if wire_type == _LENGTH else write


def _repeated_writer(write: Write) -> Write:
    def write_all(chunks: Chunks, values: list[object]) -> None:
        for value in values:
            write(chunks, value)

    return write_all


def _packed_writer(tag: bytes, body: Body) -> Write:
    def write(chunks: Chunks, values: list[object]) -> None:
        chunks.append(_framed(tag, b"".join(map(body, values))))

    return write


def _elements_writer(tag: bytes) -> Write:
    # By id, since messages cannot be hashed.  An entry goes when its message dies, before the id can be used again;
    # the reference is compared all the same.
    remembered: dict[int, tuple[_Reference, bytes]] = {}

    def forget(reference: _Reference) -> None:
        remembered.pop(reference.key, None)

    def write(chunks: Chunks, messages: list[betterproto2.Message]) -> None:
        known = zip(messages, map(remembered.get, map(id, messages)), strict=True)
        chunks += [
            entry[1] if entry is not None and entry[0]() is message else encoded(message) for message, entry in known
        ]

    def encoded(message: betterproto2.Message) -> bytes:
        framed = _framed(tag, _encode(message))
        if len(framed) >= _WORTH_REMEMBERING:
            remembered[id(message)] = (_Reference(message, forget, id(message)), framed)
        return framed

    return write


def _map_writer(tag: bytes, key_meta: FieldMetadata, value_meta: FieldMetadata) -> Write:
    write_key = _single_writer(key_meta, _body(key_meta))
    write_value = _single_writer(value_meta, _body(value_meta))

    def write(chunks: Chunks, entries: dict[Any, object]) -> None:
        for key in sorted(entries):
            entry: Chunks = []
            write_key(entry, key)
            write_value(entry, entries[key])
            chunks.append(_framed(tag, b"".join(entry)))

    return write


def _body(meta: FieldMetadata) -> Body:
    """Return what turns one value of a field into bytes, without its tag and length."""
    if meta.unwrap is not None:
        return _unwrapped_body(meta.unwrap())
    if meta.proto_type in _FORMATS:
        return struct.Struct(_FORMATS[meta.proto_type]).pack
    bodies: dict[str, Body] = {
        betterproto2.TYPE_MESSAGE: _encode,
        betterproto2.TYPE_STRING: str.encode,
        betterproto2.TYPE_BYTES: bytes,
        betterproto2.TYPE_SINT32: _zigzag,
        betterproto2.TYPE_SINT64: _zigzag,
    }
    return bodies.get(meta.proto_type, _varint)


def _unwrapped_body(wrapper: type) -> Body:
    if wrapper.__name__ == "Duration":
        return _duration(wrapper)
    wrapped = fields(wrapper)
    if len(wrapped) == 1 and wrapped[0].name == "value":
        # BoolValue, UInt32Value and their like: one field, not written when it is zero.
        write = _writer(FieldMetadata.get(wrapped[0]))

        def body(value: object) -> bytes:
            chunks: Chunks = []
            if value:
                write(chunks, value)
            return b"".join(chunks)

        return body
    return _through_message(wrapper)


def _through_message(wrapper: type[_Wrapped]) -> Body:
    return lambda value: _encode(wrapper.from_wrapped(value))


def _duration(wrapper: type[_Wrapped]) -> Body:
    through_message = _through_message(wrapper)

    def body(value: timedelta) -> bytes:
        if value.days < 0:
            return through_message(value)
        seconds, microseconds = divmod(value // _MICROSECOND, 1_000_000)
        chunks = (
            b"\x08" + _varint(seconds) if seconds else b"",
            b"\x10" + _varint(microseconds * 1000) if microseconds else b"",
        )
        return b"".join(chunks)

    return body


def _tag(number: int, wire_type: int) -> bytes:
    return _varint(number << 3 | wire_type)


def _framed(tag: bytes, body: bytes) -> bytes:
    return b"".join((tag, _varint(len(body)), body))


def _zigzag(value: int) -> bytes:
    return _varint(value << 1 if value >= 0 else (value << 1) ^ -1)


def _varint(value: int) -> bytes:
    if 0 <= value < len(_ONE_BYTE):
        return _ONE_BYTE[value]
    if value < 0:
        value += 1 << 64
    encoded = bytearray()
    while value >= len(_ONE_BYTE):
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
