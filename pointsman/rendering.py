"""Envoy messages as plain dicts in protobuf's JSON form, every Any expanded.

Fields have their .proto names, as in Envoy's documentation and its config dump, in declaration order; unset fields are
left out.  What is rendered here Envoy reads back (`envoy --mode validate`), and equal messages render equally.
Private keys and the like are not shown.
Both kinds of message are taken: envoy_data_plane's (betterproto2) and protobuf's own.
"""

import base64
import importlib
import math
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Final, TypeAlias

import translators  # noqa: F401 - before any of Envoy's messages

# isort: split

import betterproto2
from envoy_data_plane.envoy.extensions.transport_sockets.tls import v3 as tls
from envoy_data_plane.google import protobuf as well_known
from envoy_data_plane.message_pool import default_message_pool
from google.protobuf import any_pb2, json_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from protos.pointsman.envoy.v1 import ai_protocol_manager_pb2
from protos.pointsman.picker.v1 import pool_pb2

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
AnyMessage: TypeAlias = betterproto2.Message | Message

_PREFIX = "type.googleapis.com/"

# The messages that envoy_data_plane does not have, or has without their fields.
_OURS: Final[Mapping[str, type[Message]]] = {
    _PREFIX + "envoy.extensions.filters.http.ai_protocol_manager.v3.AiProtocolManager": (
        ai_protocol_manager_pb2.AiProtocolManager
    ),
    _PREFIX + "envoy.extensions.filters.http.ai_protocol_manager.v3.AiProtocolManagerPerRoute": (
        ai_protocol_manager_pb2.AiProtocolManagerPerRoute
    ),
    _PREFIX + "envoy.extensions.http.ai_filters.request_info.v3.RequestInfo": ai_protocol_manager_pb2.RequestInfo,
    _PREFIX + "pointsman.picker.v1.Pool": pool_pb2.Pool,
    _PREFIX + "pointsman.picker.v1.ForeignPool": pool_pb2.Pool,
}

# What nobody may read who reads configuration.
_SECRET: Final = frozenset(
    {
        (tls.TlsCertificate, "private_key"),
        (tls.TlsCertificate, "pkcs12"),
        (tls.TlsCertificate, "password"),
        (tls.TlsSessionTicketKeys, "keys"),
        (tls.GenericSecret, "secret"),
    }
)
_REDACTED: Final[Json] = {"inline_string": "[redacted]"}

_INT64 = {
    betterproto2.TYPE_INT64,
    betterproto2.TYPE_UINT64,
    betterproto2.TYPE_SINT64,
    betterproto2.TYPE_FIXED64,
    betterproto2.TYPE_SFIXED64,
}
_PB_INT64 = {
    FieldDescriptor.TYPE_INT64,
    FieldDescriptor.TYPE_UINT64,
    FieldDescriptor.TYPE_SINT64,
    FieldDescriptor.TYPE_FIXED64,
    FieldDescriptor.TYPE_SFIXED64,
}


def render(message: object) -> Json:
    """Return `message` in JSON form: a dict, unless it is one of protobuf's own types (a Duration is "1.500s").

    TypeError when it is no protobuf message of either kind.
    """
    if isinstance(message, betterproto2.Message):
        return _betterproto(message)
    if isinstance(message, Message):
        return _protobuf(message)
    raise TypeError(f"no protobuf message: {type(message).__name__}")


def render_resource(type_url: str, message: object) -> dict[str, Json]:
    """Return `message` as an Any of type `type_url` in JSON form: its fields beside "@type"."""
    body = render(message)
    if isinstance(body, dict) and not _is_special(message):
        return {"@type": type_url, **body}
    return {"@type": type_url, "value": body}


def expand(type_url: str, value: bytes) -> dict[str, Json]:
    """Return the contents of an Any in JSON form; bytes of a type that nobody knows stay base64."""
    message = _parse(type_url, value)
    if message is None:
        return {"@type": type_url, "value": base64.b64encode(value).decode()}
    return render_resource(type_url, message)


def _parse(type_url: str, value: bytes) -> AnyMessage | None:
    if type_url in _OURS:
        return _OURS[type_url].FromString(value)
    if type_url not in default_message_pool.url_to_type:
        # A message registers itself when its module is imported, and the module is named after its package.
        package = type_url.removeprefix(_PREFIX).rpartition(".")[0]
        try:
            importlib.import_module(f"envoy_data_plane.{package}")
        except ModuleNotFoundError:
            return None
    known = default_message_pool.url_to_type.get(type_url)
    return None if known is None else known.parse(value)


def _is_special(message: object) -> bool:
    """Tell whether the JSON form of the message's type is protobuf's own and not a dict of its fields."""
    if isinstance(message, Message):
        return message.DESCRIPTOR.file.package == "google.protobuf" and message.DESCRIPTOR.name != "Empty"
    return isinstance(message, betterproto2.Message) and type(message).to_dict is not betterproto2.Message.to_dict


# -- betterproto2 ------------------------------------------------------------------------------------------------------


def _betterproto(message: betterproto2.Message) -> Json:
    if isinstance(message, well_known.Any):
        return expand(message.type_url, message.value) if message.type_url else {}
    if _is_special(message):
        return _special(message)
    fields: dict[str, Json] = {}
    reflection = _reflection(type(message))
    for name, meta in reflection.meta_by_field_name.items():
        value = getattr(message, name)
        if value is None or (not meta.optional and _is_default(value)):
            continue
        # A field named like a Python keyword has an underscore behind it.
        shown = name.rstrip("_")
        if (type(message), name) in _SECRET:
            fields[shown] = [_REDACTED] * len(value) if isinstance(value, list) else _REDACTED
        else:
            fields[shown] = _field(value, meta, reflection.cls_by_field[name])
    return fields


def _reflection(kind: type[betterproto2.Message]) -> betterproto2.ProtoClassMetadata:
    # The package has no public reflection, and its descriptor's type knows no subclass of Message.
    return kind._betterproto  # type: ignore[arg-type] # noqa: SLF001


def _is_default(value: object) -> bool:
    """Tell whether a field without presence has its default value: 0, "", false, an empty list or map, enum 0."""
    return not isinstance(value, betterproto2.Message) and not value


def _field(value: object, meta: betterproto2.FieldMetadata, enum: type) -> Json:
    if isinstance(value, dict) and meta.map_meta is not None:
        _, value_meta = meta.map_meta
        # Maps have no order of their own.
        return {_key(key): _scalar(value[key], value_meta, enum) for key in sorted(value)}
    if isinstance(value, list):
        return [_scalar(each, meta, enum) for each in value]
    return _scalar(value, meta, enum)


def _key(key: object) -> str:
    return str(key).lower() if isinstance(key, bool) else str(key)


def _scalar(value: object, meta: betterproto2.FieldMetadata, enum: type) -> Json:
    if isinstance(value, betterproto2.Message):
        return _betterproto(value)
    if meta.unwrap is not None:
        return _unwrapped(value, meta.unwrap())
    if meta.proto_type == betterproto2.TYPE_ENUM and isinstance(value, int):
        member = enum(value)
        return str(member.proto_name or member.name) if member.name else int(value)
    return _plain(value, is_int64=meta.proto_type in _INT64)


def _unwrapped(value: object, wrapper: type) -> Json:
    """Render what a message of class `wrapper` holds: betterproto2 keeps a BoolValue as a bool."""
    return _plain(value, is_int64=wrapper in {well_known.Int64Value, well_known.UInt64Value})


def _special(message: betterproto2.Message) -> Json:
    if isinstance(message, well_known.Duration | well_known.Timestamp):
        return _plain(message.to_wrapped(), is_int64=False)
    if hasattr(message, "to_wrapped"):
        return _unwrapped(message.to_wrapped(), type(message))
    rendered: Json = message.to_dict()
    return rendered


# -- protobuf ----------------------------------------------------------------------------------------------------------


def _protobuf(message: Message) -> Json:
    if isinstance(message, any_pb2.Any):
        return expand(message.type_url, message.value) if message.type_url else {}
    if _is_special(message):
        rendered: Json = json_format.MessageToDict(message)
        return rendered
    return {field.name: _pb_field(field, value) for field, value in message.ListFields()}


def _pb_field(field: FieldDescriptor, value: object) -> Json:
    if isinstance(value, Mapping) and field.message_type is not None:
        item = field.message_type.fields_by_name["value"]
        return {_key(key): _pb_scalar(item, value[key]) for key in sorted(value)}
    if field.is_repeated and isinstance(value, Iterable):
        return [_pb_scalar(field, each) for each in value]
    return _pb_scalar(field, value)


def _pb_scalar(field: FieldDescriptor, value: object) -> Json:
    if isinstance(value, Message):
        return _protobuf(value)
    if field.enum_type is not None and isinstance(value, int):
        known = field.enum_type.values_by_number.get(value)
        return value if known is None else str(known.name)
    return _plain(value, is_int64=field.type in _PB_INT64)


# -- both --------------------------------------------------------------------------------------------------------------


def _plain(value: object, *, is_int64: bool) -> Json:
    match value:
        case bool() | str():
            return value
        case int():
            return str(value) if is_int64 else value
        case float():
            return value if math.isfinite(value) else {math.inf: "Infinity", -math.inf: "-Infinity"}.get(value, "NaN")
        case bytes():
            return base64.b64encode(value).decode()
        case timedelta():
            return _seconds(value)
        case datetime():
            return value.isoformat().replace("+00:00", "Z")
        case _:
            raise TypeError(f"no protobuf value: {type(value).__name__}")


def _seconds(value: timedelta) -> str:
    """Write a Duration: seconds with no, three or six digits behind the point, as protobuf's JSON mapping has it."""
    micros = value // timedelta(microseconds=1)
    sign, (whole, rest) = ("-" if micros < 0 else ""), divmod(abs(micros), 1_000_000)
    if rest == 0:
        return f"{sign}{whole}s"
    return f"{sign}{whole}.{rest // 1000:03}s" if rest % 1000 == 0 else f"{sign}{whole}.{rest:06}s"
