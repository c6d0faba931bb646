import dataclasses
import enum
import gc
import types
import typing
import weakref
from datetime import UTC, timedelta
from datetime import datetime as moment
from functools import cache
from typing import Any

import betterproto2
import pytest
from betterproto2 import FieldMetadata, Message
from envoy_data_plane.envoy.config.accesslog.v3 import AccessLog
from envoy_data_plane.envoy.config.cluster.v3 import Cluster, OutlierDetection
from envoy_data_plane.envoy.config.core.v3 import DataSource, HeaderValueOption, HealthCheck, Metadata
from envoy_data_plane.envoy.config.endpoint.v3 import ClusterLoadAssignment
from envoy_data_plane.envoy.config.listener.v3 import Listener
from envoy_data_plane.envoy.config.route.v3 import (
    HeaderMatcher,
    RetryPolicy,
    Route,
    RouteConfiguration,
    RouteMatch,
    VirtualHost,
    WeightedCluster,
)
from envoy_data_plane.envoy.extensions.filters.http.ext_proc.v3 import ExternalProcessor, ExtProcOverrides
from envoy_data_plane.envoy.extensions.filters.http.lua.v3 import Lua
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import HttpConnectionManager
from envoy_data_plane.envoy.type.matcher.v3 import StringMatcher
from envoy_data_plane.google.protobuf import (
    Any as PackedMessage,
)
from envoy_data_plane.google.protobuf import (
    BoolValue,
    Duration,
    Int64Value,
    Struct,
    UInt32Value,
    Value,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from protos.pointsman.picker.v1.pool_pb2 import Model, Pool
from xds.encoder import encode

CLASSES: tuple[type[Message], ...] = (
    AccessLog,
    Cluster,
    ClusterLoadAssignment,
    DataSource,
    ExtProcOverrides,
    ExternalProcessor,
    HeaderMatcher,
    HeaderValueOption,
    HealthCheck,
    HttpConnectionManager,
    Lua,
    Listener,
    Metadata,
    OutlierDetection,
    PackedMessage,
    RetryPolicy,
    Route,
    RouteConfiguration,
    RouteMatch,
    StringMatcher,
    Struct,
    Value,
    VirtualHost,
    WeightedCluster,
)

INTEGERS = {
    betterproto2.TYPE_INT32: st.integers(-(2**31), 2**31 - 1),
    betterproto2.TYPE_INT64: st.integers(-(2**63), 2**63 - 1),
    betterproto2.TYPE_SINT32: st.integers(-(2**31), 2**31 - 1),
    betterproto2.TYPE_SINT64: st.integers(-(2**63), 2**63 - 1),
    betterproto2.TYPE_SFIXED32: st.integers(-(2**31), 2**31 - 1),
    betterproto2.TYPE_SFIXED64: st.integers(-(2**63), 2**63 - 1),
    betterproto2.TYPE_UINT32: st.integers(0, 2**32 - 1),
    betterproto2.TYPE_UINT64: st.integers(0, 2**64 - 1),
    betterproto2.TYPE_FIXED32: st.integers(0, 2**32 - 1),
    betterproto2.TYPE_FIXED64: st.integers(0, 2**64 - 1),
}
SCALARS: dict[str, st.SearchStrategy[Any]] = {
    **{kind: st.one_of(st.integers(0, 200), values) for kind, values in INTEGERS.items()},
    betterproto2.TYPE_BOOL: st.booleans(),
    betterproto2.TYPE_STRING: st.text(max_size=20),
    betterproto2.TYPE_BYTES: st.binary(max_size=200),
    betterproto2.TYPE_FLOAT: st.floats(width=32),
    betterproto2.TYPE_DOUBLE: st.floats(),
}
# datetime.timedelta is exact in betterproto2 for spans of this size; negative ones are left to it.
DURATIONS = st.timedeltas(timedelta(0), timedelta(days=36_500))
MOMENTS = st.datetimes(moment(1970, 1, 1), moment(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - hypothesis adds it
DEPTH = 4


@cache
def hints(message_class: type[Message]) -> dict[str, Any]:
    return message_class._type_hints()  # noqa: SLF001 - the names in the annotations are private to their modules


def bare(hint: Any) -> Any:
    """Strip Optional and Annotated."""
    while True:
        if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
            hint = next(each for each in typing.get_args(hint) if each is not type(None))
        elif hasattr(hint, "__metadata__"):
            hint = hint.__origin__
        else:
            return hint


def values(meta: FieldMetadata, hint: Any, depth: int) -> st.SearchStrategy[Any] | None:
    """Return what a field of this kind may hold, or None where messages are nested deep enough."""
    if meta.unwrap is not None:
        wrapper = meta.unwrap()
        if wrapper.__name__ == "Duration":
            return DURATIONS
        if wrapper.__name__ == "Timestamp":
            return MOMENTS
        return SCALARS[FieldMetadata.get(dataclasses.fields(wrapper)[0]).proto_type]
    if meta.proto_type == betterproto2.TYPE_MESSAGE:
        return messages(bare(hint), depth - 1) if depth else None
    if meta.proto_type == betterproto2.TYPE_ENUM:
        enumeration = bare(hint)
        assert issubclass(enumeration, enum.IntEnum)
        return st.sampled_from(list(enumeration))
    return SCALARS[meta.proto_type]


def in_order(entries: dict[Any, Any]) -> dict[Any, Any]:
    return dict(sorted(entries.items()))


@cache
def fields_of(message_class: type[Message], depth: int) -> tuple[tuple[str, str | None, st.SearchStrategy[Any]], ...]:
    found = []
    for field in dataclasses.fields(message_class):  # type: ignore[arg-type]  # betterproto2 does not say that it is one
        name, meta, hint = field.name, FieldMetadata.get(field), bare(hints(message_class)[field.name])
        strategy: st.SearchStrategy[Any] | None
        if meta.map_meta:
            key_hint, value_hint = typing.get_args(hint)
            strategy = values(meta.map_meta[1], value_hint, depth)
            if strategy is not None:
                keys = values(meta.map_meta[0], key_hint, depth)
                assert keys is not None
                # In the order of their keys, so that bytes(message) writes them in that order.
                strategy = st.dictionaries(keys, strategy, max_size=3).map(
                    lambda entries: dict(sorted(entries.items()))
                )
        else:
            strategy = values(meta, typing.get_args(hint)[0] if meta.repeated else hint, depth)
            if strategy is not None and meta.repeated:
                strategy = st.lists(strategy, max_size=3)
        if strategy is not None:
            found.append((name, meta.group, strategy))
    return tuple(found)


@cache
def messages(message_class: type[Message], depth: int = DEPTH) -> st.SearchStrategy[Message]:
    @st.composite
    def build(draw: st.DrawFn) -> Message:
        chosen, groups = {}, set()
        fields = fields_of(message_class, depth)
        for name, group, strategy in draw(st.lists(st.sampled_from(fields), max_size=4)) if fields else ():
            if name in chosen or group in groups:
                continue
            if group is not None:
                groups.add(group)
            chosen[name] = draw(strategy)
        return message_class(**chosen)

    return st.deferred(build)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@settings(max_examples=400, deadline=None)
@given(st.sampled_from(CLASSES).flatmap(messages))
def test_encodes_as_betterproto_does(message: Message) -> None:
    assert encode(message) == bytes(message)
    assert encode(message) == bytes(message)  # From memory.


def test_a_map_is_in_the_order_of_its_keys() -> None:
    one = Struct(fields={"a": Value(bool_value=True), "b": Value(number_value=1.5), "": Value(string_value="")})
    other = Struct(fields=dict(sorted(one.fields.items())))
    assert encode(one) == encode(other) == bytes(other)
    assert Struct.parse(encode(one)) == one


@pytest.mark.parametrize(
    "message",
    [
        UInt32Value(value=0),
        UInt32Value(value=300),
        BoolValue(value=True),
        Int64Value(value=-1),
        Duration(seconds=-1, nanos=-1),
        Cluster(connect_timeout=timedelta(0)),
        Cluster(connect_timeout=timedelta(seconds=-1, microseconds=7)),
        Cluster(connect_timeout=timedelta(days=1, microseconds=1)),
        OutlierDetection(consecutive_5xx=0, enforcing_success_rate=100),
        Value(number_value=0.0),
        Value(number_value=-0.0),
        PackedMessage.pack(Struct(fields={"a": Value(bool_value=False)})),
        RouteConfiguration.parse(bytes(RouteConfiguration(name="a")) + b"\xf8\x7f\x07"),
    ],
    ids=repr,
)
def test_encodes_special_values(message: Message) -> None:
    assert encode(message) == bytes(message)


def test_encodes_protobufs_own_messages() -> None:
    pool = Pool(name="default/pool", cluster="pool", models=[Model(name="llama")])
    assert Pool.FromString(encode(pool)) == pool


def route(name: str) -> Route:
    return Route(name=name * 200, match=RouteMatch(prefix="/"))


def test_an_unchanged_element_is_not_encoded_again(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = [route("a"), route("b")]
    first = encode(VirtualHost(routes=kept))
    # Whoever looks into a message that was encoded before finds nothing.
    for each in kept:
        monkeypatch.setattr(each, "name", None)
        monkeypatch.setattr(each, "match", None)
    again = encode(VirtualHost(routes=[*kept, route("c")]))
    assert again.startswith(first)
    assert len(again) > len(first)


def test_a_dead_element_is_forgotten(request: pytest.FixtureRequest) -> None:
    # The first message of a class has its plan made, which may leave the message in a cycle of garbage.
    warm = VirtualHost(routes=[route("warm")])
    assert encode(warm) == bytes(warm)
    gc.disable()
    request.addfinalizer(gc.enable)
    ids: set[int] = set()
    for number in range(1000):
        element = route(chr(0x100 + number))
        ids.add(id(element))
        host = VirtualHost(routes=[element])
        assert encode(host) == bytes(host)
        reference = weakref.ref(element)
        del element, host
        assert reference() is None
    assert len(ids) < 1000, "no identity was used again, so nothing was shown"
