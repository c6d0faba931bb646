"""Telling another's picker which endpoints it may choose from (endpoint picker protocol: the subset hint).

The list is metadata of each request, which a route or a share of it carries: so every pod that comes or goes changes
the routes of the pools that ask for it, and only of those.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from envoy_data_plane.envoy.extensions.filters.http.set_metadata import v3 as set_metadata
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager import v3 as hcm
from envoy_data_plane.google.protobuf import Any

from translators.emit.packing import http_filter, pack, struct
from translators.settings import Settings

NAME = "envoy.filters.http.set_metadata/subset-hint"

NAMESPACE = "envoy.lb.subset_hint"
"""The metadata namespace of the hint (endpoint picker protocol)."""

_SUBSET = "x-gateway-destination-endpoint-subset"


def filters(_settings: Settings) -> tuple[hcm.HttpFilter, ...]:
    """Return the filter. By itself it says nothing."""
    return (http_filter(NAME, pack(set_metadata.Config()), disabled=True),)


@lru_cache(maxsize=1)
def silent() -> Mapping[str, Any]:
    """Return what puts the filter into a request's chain without saying anything."""
    return {NAME: pack(set_metadata.Config())}


@lru_cache(maxsize=256)
def on_share(endpoints: tuple[str, ...]) -> Mapping[str, Any]:
    """Return what makes a route, or a weighted cluster, name these endpoints, each "ip:port"."""
    said = set_metadata.Metadata(metadata_namespace=NAMESPACE, value=struct({_SUBSET: list(endpoints)}))
    return {NAME: pack(set_metadata.Config(metadata=[said]))}
