"""Asking a pool's own endpoint picker, one that is not Pointsman's: ext_proc, off by default, on for the pool's share.

Such a picker is asked as the endpoint picker protocol says: everything streams through it, in both directions
(FULL_DUPLEX_STREAMED), and it sets the destination as header and as metadata. In this mode Envoy fails a POST when the
picker is dead, whatever failure_mode_allow says: behind one that may fail open stands our own, asked in the same way
(`translators/emit/picker_cluster.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.extensions.filters.http.ext_proc import v3 as ext_proc
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager import v3 as hcm
from envoy_data_plane.envoy.type import v3 as envoy_type
from envoy_data_plane.google.protobuf import Any

from translators import ir
from translators.emit.packing import http_filter, pack
from translators.features import picked_only, subset_hint
from translators.headers import BODY_KEY, LOAD_BALANCING, POINTSMAN, POOL_KEY, STREAMED
from translators.settings import PICKER_CLUSTER, Settings

NAME = "envoy.filters.http.ext_proc/foreign"

_SEND = ext_proc.ProcessingModeHeaderSendMode.SEND
_SKIP = ext_proc.ProcessingModeHeaderSendMode.SKIP
_STREAMED = ext_proc.ProcessingModeBodySendMode.FULL_DUPLEX_STREAMED
_SILENT = ext_proc.ProcessingMode(
    request_header_mode=_SKIP, response_header_mode=_SKIP, request_trailer_mode=_SKIP, response_trailer_mode=_SKIP
)
_ALL = ext_proc.ProcessingMode(
    request_header_mode=_SEND,
    response_header_mode=_SEND,
    request_body_mode=_STREAMED,
    response_body_mode=_STREAMED,
    request_trailer_mode=_SEND,
    response_trailer_mode=_SEND,
)


def filters(_settings: Settings) -> tuple[hcm.HttpFilter, ...]:
    """Return the filter. Enabled without more, it asks nobody."""
    config = ext_proc.ExternalProcessor(
        # Never asked: each route names the picker that it means.
        grpc_service=core.GrpcService(envoy_grpc=core.GrpcServiceEnvoyGrpc(cluster_name=PICKER_CLUSTER)),
        processing_mode=_SILENT,
        # No message_timeout: Envoy has none where everything streams, and pickers may hold requests back.
        metadata_options=ext_proc.MetadataOptions(
            # What was served, and what may be chosen (endpoint picker protocol).
            forwarding_namespaces=ext_proc.MetadataOptionsMetadataNamespaces(
                untyped=[LOAD_BALANCING, subset_hint.NAMESPACE]
            ),
            # What ties a log entry to its pick comes from our own picker, where it stands in.
            receiving_namespaces=ext_proc.MetadataOptionsMetadataNamespaces(untyped=[LOAD_BALANCING, POINTSMAN]),
        ),
        status_on_error=envoy_type.HttpStatus(code=envoy_type.StatusCode.ServiceUnavailable),
        # The route is chosen; a picker that clears it would have a weighted rule drawn again.
        disable_clear_route_cache=True,
    )
    return (http_filter(NAME, pack(config), disabled=True),)


@lru_cache(maxsize=1)
def silent() -> Mapping[str, Any]:
    """Return what puts the filter into a request's chain without asking anybody, as for our own picker's."""
    nobody = ext_proc.ExtProcPerRoute(overrides=ext_proc.ExtProcOverrides(processing_mode=_SILENT))
    return {NAME: pack(nobody), **picked_only.silent(), **subset_hint.silent()}


@lru_cache(maxsize=4096)
def on_share(pool: ir.Pool) -> Mapping[str, Any]:
    """Return what makes a route, or a weighted cluster, ask the pool's own picker for an endpoint."""
    asked = pool.asks_other
    if asked is None:
        return {}
    overrides = ext_proc.ExtProcOverrides(
        processing_mode=_ALL,
        grpc_service=core.GrpcService(
            envoy_grpc=core.GrpcServiceEnvoyGrpc(
                cluster_name=pool.with_stand_in if pool.stand_in else asked.cluster, authority=asked.authority
            )
        ),
        failure_mode_allow=pool.fail_open,
    )
    if pool.stand_in:
        said = {POOL_KEY: pool.name, BODY_KEY: STREAMED}
        overrides.grpc_initial_metadata = [core.HeaderValue(key=key, value=value) for key, value in said.items()]
    return {
        NAME: pack(ext_proc.ExtProcPerRoute(overrides=overrides)),
        **({} if pool.fail_open else picked_only.on_share()),
        **({} if pool.subset is None else subset_hint.on_share(pool.subset)),
    }
