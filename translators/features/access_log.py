"""Telling the picker what became of each request that went to a pool: Envoy's gRPC access log."""

from __future__ import annotations

from collections.abc import Sequence

from envoy_data_plane.envoy.config.accesslog import v3 as accesslog
from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.extensions.access_loggers.grpc import v3 as grpc_log
from envoy_data_plane.envoy.type.matcher import v3 as matcher
from envoy_data_plane.envoy.type.tracing import v3 as tracing

from translators import ir
from translators.emit.packing import milliseconds, pack
from translators.headers import FIRST_BYTE, LOAD_BALANCING, MODEL, POINTSMAN, SERVED, served_key
from translators.settings import MEBIBYTE, PICKER_CLUSTER

# Until the entry arrives the picker counts the request as running, so entries are held back only for as long as
# batching pays.
FLUSH_INTERVAL = milliseconds(10)
# Bytes. While long bodies are on their way to the picker, on the same connection, nothing is flushed, and what is more
# than this is dropped: the picker would count these requests as running. There are a thousand entries in it.
_BUFFER = MEBIBYTE

# Servers that stream send their headers at once, long before the first token: the entry's own times do not tell it.
_FIRST_BYTE = tracing.CustomTag(tag=FIRST_BYTE, value="%COMMON_DURATION(DS_RX_BEG:US_RX_BODY_BEG:us)%")


def access_logs(gateway: str, seats: Sequence[ir.Picker]) -> list[accesslog.AccessLog]:
    """Return the logs of requests that were picked for, or that went to a pool while its picker was away.

    gateway: "namespace/name"; it names the log, since one Envoy may serve several. seats: our pickers, each of which is
    told of its own requests; where there are none, there is but one picker.
    """
    if not seats:
        return [_log(gateway, PICKER_CLUSTER, _has(POINTSMAN, "id"), _has(LOAD_BALANCING, SERVED))]
    return [
        _log(
            gateway,
            seat.cluster,
            _has(POINTSMAN, "id", matcher.StringMatcher(prefix=f"{seat.cluster}/")),
            _has(LOAD_BALANCING, served_key(seat.cluster)),
        )
        for seat in seats
    ]


def _log(gateway: str, cluster: str, *filters: accesslog.AccessLogFilter) -> accesslog.AccessLog:
    return accesslog.AccessLog(
        name="envoy.access_loggers.http_grpc",
        filter=accesslog.AccessLogFilter(or_filter=accesslog.OrFilter(filters=list(filters))),
        typed_config=pack(
            grpc_log.HttpGrpcAccessLogConfig(
                common_config=grpc_log.CommonGrpcAccessLogConfig(
                    log_name=gateway,
                    grpc_service=core.GrpcService(envoy_grpc=core.GrpcServiceEnvoyGrpc(cluster_name=cluster)),
                    transport_api_version=core.ApiVersion.V3,
                    buffer_flush_interval=FLUSH_INTERVAL,
                    buffer_size_bytes=_BUFFER,
                    custom_tags=[_FIRST_BYTE],
                ),
                additional_request_headers_to_log=[MODEL],
                additional_response_headers_to_log=["content-type"],
            )
        ),
    )


def _has(namespace: str, key: str, text: matcher.StringMatcher | None = None) -> accesslog.AccessLogFilter:
    path = [matcher.MetadataMatcherPathSegment(key=key)]
    value = matcher.ValueMatcher(string_match=text) if text else matcher.ValueMatcher(present_match=True)
    present = matcher.MetadataMatcher(filter=namespace, path=path, value=value)
    return accesslog.AccessLogFilter(
        metadata_filter=accesslog.MetadataFilter(matcher=present, match_if_key_not_found=False)
    )
