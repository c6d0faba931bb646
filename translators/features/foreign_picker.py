"""Asking a pool's own endpoint picker, one that is not Pointsman's: ext_proc, off by default, on for the pool's share.

Such a picker is asked as the endpoint picker protocol says: everything streams through it, in both directions
(FULL_DUPLEX_STREAMED), and it sets the destination as header and as metadata. In this mode Envoy answers 500 to a POST
when the picker is dead, whatever failure_mode_allow says: one that may fail open is left out while it has no ready
endpoint.
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
from translators.emit.packing import http_filter, milliseconds, pack
from translators.features.picker import retried
from translators.headers import LOAD_BALANCING
from translators.settings import PICKER_CLUSTER, Settings

NAME = "envoy.filters.http.ext_proc/foreign"

# Such a picker may hold requests back while all pods are busy.
MESSAGE_TIMEOUT = milliseconds(300_000)

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
    load_balancing = ext_proc.MetadataOptionsMetadataNamespaces(untyped=[LOAD_BALANCING])
    config = ext_proc.ExternalProcessor(
        # Never asked: each route names the picker that it means.
        grpc_service=core.GrpcService(envoy_grpc=core.GrpcServiceEnvoyGrpc(cluster_name=PICKER_CLUSTER)),
        processing_mode=_SILENT,
        message_timeout=MESSAGE_TIMEOUT,
        metadata_options=ext_proc.MetadataOptions(
            # What was served, and what is chosen (endpoint picker protocol).
            forwarding_namespaces=load_balancing,
            receiving_namespaces=load_balancing,
        ),
        status_on_error=envoy_type.HttpStatus(code=envoy_type.StatusCode.ServiceUnavailable),
        # The route is chosen; a picker that clears it would have a weighted rule drawn again.
        disable_clear_route_cache=True,
    )
    return (http_filter(NAME, pack(config), disabled=True),)


@lru_cache(maxsize=1)
def silent() -> Mapping[str, Any]:
    """Return what puts the filter into a request's chain without asking anybody, as for our own picker's."""
    return {NAME: pack(ext_proc.ExtProcPerRoute(overrides=ext_proc.ExtProcOverrides(processing_mode=_SILENT)))}


@lru_cache(maxsize=4096)
def on_share(picker: ir.Picker, *, fail_open: bool) -> Mapping[str, Any]:
    """Return what makes a route, or a weighted cluster, ask this picker for an endpoint."""
    service = core.GrpcService(
        envoy_grpc=core.GrpcServiceEnvoyGrpc(cluster_name=picker.cluster, authority=picker.authority),
        retry_policy=retried(),
    )
    overrides = ext_proc.ExtProcOverrides(processing_mode=_ALL, grpc_service=service, failure_mode_allow=fail_open)
    return {NAME: pack(ext_proc.ExtProcPerRoute(overrides=overrides))}
