"""Asking the endpoint picker: ext_proc, off by default, on for a pool's share of a route.

The picker is asked with the request's headers alone, or with the whole body where it has to compare prompts, rename the
model or find a declared one. Never in FULL_DUPLEX_STREAMED mode, in which Envoy answers 500 to a POST when the picker
is dead whatever failure_mode_allow says. The response does not pass the picker: the access log tells it what became of
the request.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache

from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.extensions.filters.http.ext_proc import v3 as ext_proc
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager import v3 as hcm
from envoy_data_plane.envoy.type import v3 as envoy_type
from envoy_data_plane.envoy.type.matcher import v3 as matcher
from envoy_data_plane.google.protobuf import Any

from translators import ir
from translators.emit.packing import http_filter, milliseconds, pack
from translators.features import picked_only
from translators.headers import (
    BODY_KEY,
    LENGTH,
    LIST_KEY,
    LOAD_BALANCING,
    MIRRORS_KEY,
    MODEL,
    OBJECTIVES,
    POINTSMAN,
    POOL_KEY,
)
from translators.settings import PICKER_CLUSTER, Settings

NAME = "envoy.filters.http.ext_proc"

# How long the picker may take over one message. It answers in well under a millisecond, but on a machine that is busy
# the way of a 20 MiB body to it takes seconds. A picker that hangs costs each request this long.
MESSAGE_TIMEOUT = milliseconds(5000)

_SEND = ext_proc.ProcessingModeHeaderSendMode.SEND
_SKIP = ext_proc.ProcessingModeHeaderSendMode.SKIP
_SILENT = ext_proc.ProcessingMode(
    request_header_mode=_SKIP, response_header_mode=_SKIP, request_trailer_mode=_SKIP, response_trailer_mode=_SKIP
)


def filters(_settings: Settings) -> tuple[hcm.HttpFilter, ...]:
    """Return the filter. Enabled without more, it asks nobody."""
    config = ext_proc.ExternalProcessor(
        grpc_service=_grpc_service(),
        processing_mode=_SILENT,
        message_timeout=MESSAGE_TIMEOUT,
        metadata_options=ext_proc.MetadataOptions(
            receiving_namespaces=ext_proc.MetadataOptionsMetadataNamespaces(untyped=[LOAD_BALANCING, POINTSMAN])
        ),
        # Each header more is encoded, sent and decoded for nothing.
        forward_rules=ext_proc.HeaderForwardingRules(
            allowed_headers=matcher.ListStringMatcher(
                patterns=[matcher.StringMatcher(exact=name) for name in (MODEL, LENGTH, *OBJECTIVES)]
            )
        ),
        status_on_error=envoy_type.HttpStatus(code=envoy_type.StatusCode.ServiceUnavailable),
        disable_clear_route_cache=True,
    )
    return (http_filter(NAME, pack(config), disabled=True),)


@lru_cache(maxsize=1)
def silent() -> Mapping[str, Any]:
    """Return what puts the filter into a request's chain without asking the picker.

    Envoy builds the chain for the first route chosen: an examining route, and a route of several backends, need the
    filter there so that what is chosen later can turn it on.
    """
    nobody = ext_proc.ExtProcPerRoute(overrides=ext_proc.ExtProcOverrides(processing_mode=_SILENT))
    return {NAME: pack(nobody), **picked_only.silent()}


@lru_cache(maxsize=4096)
def on_share(pool: ir.Pool, *, body: bool, mirrors: tuple[str, ...] = ()) -> Mapping[str, Any]:
    """Return what makes a route, or a weighted cluster, ask the picker for an endpoint of this pool.

    mirrors: the names of the pools that copies of the request go to.
    """
    mode = ext_proc.ProcessingMode(
        request_header_mode=_SEND,
        response_header_mode=_SKIP,
        request_trailer_mode=_SKIP,
        response_trailer_mode=_SKIP,
        request_body_mode=(
            ext_proc.ProcessingModeBodySendMode.BUFFERED if body else ext_proc.ProcessingModeBodySendMode.NONE
        ),
    )
    said = [core.HeaderValue(key=POOL_KEY, value=pool.name)]
    if body:
        said.append(core.HeaderValue(key=BODY_KEY, value="1"))
    if mirrors:
        said.append(core.HeaderValue(key=MIRRORS_KEY, value=",".join(mirrors)))
    overrides = ext_proc.ExtProcOverrides(
        processing_mode=mode,
        grpc_initial_metadata=said,
        failure_mode_allow=pool.fail_open,
        grpc_service=_at(pool.seat) if pool.seat else None,
    )
    return {
        NAME: pack(ext_proc.ExtProcPerRoute(overrides=overrides)),
        **({} if pool.fail_open else picked_only.on_share()),
    }


@lru_cache(maxsize=1024)
def on_models_list(
    pools: tuple[tuple[str, str | None], ...], seat: ir.Picker | None, *, fail_open: bool
) -> Mapping[str, Any]:
    """Return what makes the answer of a route pass the picker, which completes the list of models in it.

    pools: names, each with an expression for its models. fail_open: whether the list may go without.
    """
    mode = ext_proc.ProcessingMode(
        request_header_mode=_SKIP,
        response_header_mode=_SEND,
        response_body_mode=ext_proc.ProcessingModeBodySendMode.BUFFERED,
        request_trailer_mode=_SKIP,
        response_trailer_mode=_SKIP,
    )
    overrides = ext_proc.ExtProcOverrides(
        processing_mode=mode,
        grpc_initial_metadata=[core.HeaderValue(key=LIST_KEY, value=json.dumps(pools, separators=(",", ":")))],
        failure_mode_allow=fail_open,
        grpc_service=_at(seat) if seat else None,
    )
    return {NAME: pack(ext_proc.ExtProcPerRoute(overrides=overrides))}


def retried() -> core.RetryPolicy:
    """Return how an exchange is begun anew: of several replicas of a picker one may be gone."""
    return core.RetryPolicy(
        retry_on="connect-failure",
        num_retries=3,
        retry_back_off=core.BackoffStrategy(base_interval=milliseconds(5), max_interval=milliseconds(50)),
    )


def _at(seat: ir.Picker) -> core.GrpcService:
    return core.GrpcService(
        envoy_grpc=core.GrpcServiceEnvoyGrpc(cluster_name=seat.cluster, authority=seat.authority),
        retry_policy=retried(),
    )


def _grpc_service() -> core.GrpcService:
    return core.GrpcService(envoy_grpc=core.GrpcServiceEnvoyGrpc(cluster_name=PICKER_CLUSTER))
