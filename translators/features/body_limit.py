"""The limit on a request's body where the gateway holds the body: to find the model, to rewrite it, to pick.

The buffer filter is the one limit that is exact to the byte in front of both ways to find the model and in front of
ext_proc; it also gives a chunked request a content-length. It stands first, since what follows holds the body too. A
connection's buffer limit stays flow control: it refuses nothing where the body streams through.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from envoy_data_plane.envoy.extensions.filters.http.buffer import v3 as buffer
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager import v3 as hcm
from envoy_data_plane.google.protobuf import Any

from translators import ir
from translators.emit.packing import http_filter, pack
from translators.settings import Settings

_UINT32_MAX = (1 << 32) - 1

NAME = "envoy.filters.http.buffer"
ROOM = "envoy.filters.http.buffer/room"
"""The filter's second instance. The first one makes its limit Envoy's own for all that follows; this one adds room."""

ROOM_TO_RENAME = 4096
"""How many bytes a body of any allowed length may grow by when the picker renames its model.

A name has 253 characters at most (v1alpha2, TargetModel.name), each of at most 12 bytes in JSON.
"""


def limit(port: ir.Port, settings: Settings) -> int:
    """How many bytes of a body may be held on this port: the bufferLimit, if a policy sets one."""
    # A limit of 0 is none to Envoy's connections, and one that its buffer filter refuses.
    return port.buffer_limit or settings.held_body_limit


def filters(settings: Settings) -> tuple[hcm.HttpFilter, ...]:
    """Return the filter's instances, which run only where a route asks for them."""
    config = pack(buffer.Buffer(max_request_bytes=settings.held_body_limit))
    return (http_filter(NAME, config, disabled=True), http_filter(ROOM, config, disabled=True))


@lru_cache(maxsize=64)
def on_route(limit: int) -> Mapping[str, Any]:
    """Return what makes a route hold bodies up to `limit` bytes and answer 413 to longer ones."""
    return {NAME: _limit(limit)}


@lru_cache(maxsize=64)
def on_picking_route(limit: int) -> Mapping[str, Any]:
    """Return the same for a route on which the picker may send back a body that is a little longer."""
    return {NAME: _limit(limit), ROOM: _limit(limit + ROOM_TO_RENAME)}


def _limit(limit: int) -> Any:
    # Envoy counts in 32 bits here.
    return pack(buffer.BufferPerRoute(buffer=buffer.Buffer(max_request_bytes=min(limit, _UINT32_MAX))))
