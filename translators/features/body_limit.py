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

NAME = "envoy.filters.http.buffer"


def limit(port: ir.Port, settings: Settings) -> int:
    """How many bytes of a body may be held on this port: the bufferLimit, if a policy sets one."""
    # A limit of 0 is none to Envoy's connections, and one that its buffer filter refuses.
    return port.buffer_limit or settings.held_body_limit


def filters(settings: Settings) -> tuple[hcm.HttpFilter, ...]:
    """Return the filter, which runs only where a route asks for it."""
    return (http_filter(NAME, pack(buffer.Buffer(max_request_bytes=settings.held_body_limit)), disabled=True),)


@lru_cache(maxsize=64)
def on_route(limit: int) -> Mapping[str, Any]:
    """Return what makes a route hold bodies up to `limit` bytes and answer 413 to longer ones."""
    return {NAME: pack(buffer.BufferPerRoute(buffer=buffer.Buffer(max_request_bytes=limit)))}
