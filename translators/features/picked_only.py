"""Refusing what no picker has picked for: where a pool fails closed, a picker that names no endpoint has failed.

Envoy takes neither a picker that ends its stream in good order without an answer nor one that lets a request pass
without an endpoint for a failure, and would balance by itself; of the former's requests it has even lost the body.
Off by default, on for the shares of pools that fail closed.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from envoy_data_plane.envoy.config.rbac import v3 as config
from envoy_data_plane.envoy.config.route import v3 as route
from envoy_data_plane.envoy.extensions.filters.http.rbac import v3 as rbac
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager import v3 as hcm
from envoy_data_plane.envoy.type.matcher import v3 as matcher
from envoy_data_plane.google.protobuf import Any

from translators.emit.packing import http_filter, pack
from translators.headers import DESTINATION, LOAD_BALANCING
from translators.settings import Settings

NAME = "envoy.filters.http.rbac/picked-only"

POLICY = "nobody-picked"
"""What the details of such a refusal name."""


def filters(_settings: Settings) -> tuple[hcm.HttpFilter, ...]:
    """Return the filter. Without rules it refuses nothing."""
    return (http_filter(NAME, pack(rbac.Rbac()), disabled=True),)


@lru_cache(maxsize=1)
def silent() -> Mapping[str, Any]:
    """Return what puts the filter into a request's chain without refusing anything."""
    return {NAME: pack(rbac.RbacPerRoute(rbac=rbac.Rbac()))}


@lru_cache(maxsize=1)
def on_share() -> Mapping[str, Any]:
    """Return what makes a route, or a weighted cluster, refuse a request for which no endpoint is named."""
    path = [matcher.MetadataMatcherPathSegment(key=DESTINATION)]
    metadata = matcher.MetadataMatcher(filter=LOAD_BALANCING, path=path, value=matcher.ValueMatcher(present_match=True))
    named = (
        config.Permission(sourced_metadata=config.SourcedMetadata(metadata_matcher=metadata)),
        config.Permission(header=route.HeaderMatcher(name=DESTINATION, present_match=True)),
    )
    nobody = config.Permission(
        and_rules=config.PermissionSet(rules=[config.Permission(not_rule=each) for each in named])
    )
    policy = config.Policy(permissions=[nobody], principals=[config.Principal(any=True)])
    rules = config.Rbac(action=config.RbacAction.DENY, policies={POLICY: policy})
    return {NAME: pack(rbac.RbacPerRoute(rbac=rbac.Rbac(rules=rules)))}
