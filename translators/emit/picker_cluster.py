"""The clusters of endpoint pickers behind Services: how Envoy notices that one is gone, and what comes next.

A dead picker must not be asked: where everything streams through it, Envoy cannot go on without it once it has sent a
byte of the body, whatever failure_mode_allow says. So Envoy itself watches each picker, with no control plane in
between, and a pool that may fail open goes on to our own picker, which then picks instead.
"""

from __future__ import annotations

from functools import lru_cache

import betterproto2
from envoy_data_plane.envoy.config.cluster import v3 as cluster
from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.config.route import v3 as route
from envoy_data_plane.envoy.extensions.clusters.aggregate import v3 as aggregate
from envoy_data_plane.envoy.extensions.retry.host.previous_hosts import v3 as previous_hosts
from envoy_data_plane.envoy.extensions.retry.priority.previous_priorities import v3 as previous_priorities
from envoy_data_plane.envoy.extensions.transport_sockets.raw_buffer import v3 as raw_buffer
from envoy_data_plane.envoy.extensions.transport_sockets.tls import v3 as tls
from envoy_data_plane.envoy.extensions.upstreams.http import v3 as http
from envoy_data_plane.envoy.type import v3 as envoy_type
from envoy_data_plane.envoy.type.matcher import v3 as matcher

from translators import ir
from translators.emit.cluster import PLAINTEXT, balance_by_least_request, bare_cluster, eds_cluster
from translators.emit.packing import milliseconds, pack, secret_over_ads, struct
from translators.identities import IDENTITY_SECRET, TRUST_SECRET, picker_name
from translators.settings import PICKER_CLUSTER

# A killed picker is out after two refused checks (half a second at most), one that hangs after two that wait in vain
# (one and a half), and one that is back is in again after the next check.
_CHECK_INTERVAL = milliseconds(250)
_CHECK_TIMEOUT = milliseconds(500)
_FAILED_CHECKS = 2
# An ejection ends earlier, with the next good check.
_EJECTION = milliseconds(1000)
_ATTEMPTS_BEFORE_STAND_IN = 2

_TLS = "envoy.transport_sockets.tls"
_RAW = "envoy.transport_sockets.raw_buffer"


def picker_cluster_of(picker: ir.Picker) -> cluster.Cluster:
    """Return the cluster of a picker behind a Service.

    Each of ours shows the certificate that it was given, and is shown the Envoy's own. That of another is not checked:
    they make their own (endpoint picker protocol). TLS is what an endpoint has that says nothing else.
    """
    # Ours is told of requests on streams that are not to be sent again; its routes say what is retried.
    options = _http_options(None if picker.ours else _retries(stand_in=False))
    made = eds_cluster(picker.cluster, picker.cluster, options, balance_by_least_request(), None)
    # With no picker that answers, the request is refused, or goes on, at once.
    made.common_lb_config = _no_panic()
    made.health_checks = [_health_check(picker.authority)]
    # A refused connection counts at once; nothing else does, since an answer is an answer.
    made.outlier_detection = cluster.OutlierDetection(
        split_external_local_origin_errors=True,
        consecutive_local_origin_failure=1,
        enforcing_consecutive_local_origin_failure=100,
        enforcing_consecutive_5xx=0,
        enforcing_consecutive_gateway_failure=0,
        enforcing_success_rate=0,
        enforcing_local_origin_success_rate=0,
        max_ejection_percent=100,
        base_ejection_time=_EJECTION,
        interval=_EJECTION,
    )
    if picker.ours:
        made.transport_socket = _socket(_TLS, _mutual(picker_name(picker.cluster)))
    elif not picker.plaintext:
        encrypted = tls.UpstreamTlsContext(common_tls_context=tls.CommonTlsContext(alpn_protocols=["h2"]))
        made.transport_socket = _socket(_TLS, encrypted)
        made.transport_socket_matches = [
            cluster.ClusterTransportSocketMatch(
                name="plaintext", match=struct(PLAINTEXT), transport_socket=_socket(_RAW, raw_buffer.RawBuffer())
            )
        ]
    return made


def _mutual(name: str) -> tls.UpstreamTlsContext:
    """Return a connection on which both sides show certificates, the picker one of this name."""
    expected = tls.SubjectAltNameMatcher(
        san_type=tls.SubjectAltNameMatcherSanType.URI, matcher=matcher.StringMatcher(exact=name)
    )
    trusted = tls.CommonTlsContextCombinedCertificateValidationContext(
        default_validation_context=tls.CertificateValidationContext(match_typed_subject_alt_names=[expected]),
        validation_context_sds_secret_config=secret_over_ads(TRUST_SECRET),
    )
    versions = tls.TlsParameters(
        tls_minimum_protocol_version=tls.TlsParametersTlsProtocol.TLSv1_3,
        tls_maximum_protocol_version=tls.TlsParametersTlsProtocol.TLSv1_3,
    )
    return tls.UpstreamTlsContext(
        common_tls_context=tls.CommonTlsContext(
            tls_params=versions,
            alpn_protocols=["h2"],
            tls_certificate_sds_secret_configs=[secret_over_ads(IDENTITY_SECRET)],
            combined_validation_context=trusted,
        )
    )


def _socket(name: str, config: betterproto2.Message) -> core.TransportSocket:
    return core.TransportSocket(name=name, typed_config=pack(config))


def stand_in_cluster_of(name: str, picker: ir.Picker, seat: ir.Picker | None) -> cluster.Cluster:
    """Return the cluster of a picker and, behind it, our own, which is asked where none of its endpoints answers."""
    ours = seat.cluster if seat else PICKER_CLUSTER
    made = bare_cluster(name, _http_options(_retries(stand_in=True)), None)
    made.lb_policy = cluster.ClusterLbPolicy.CLUSTER_PROVIDED
    made.cluster_type = cluster.ClusterCustomClusterType(
        name="envoy.clusters.aggregate",
        typed_config=pack(aggregate.ClusterConfig(clusters=[picker.cluster, ours])),
    )
    made.common_lb_config = _no_panic()
    return made


def _no_panic() -> cluster.ClusterCommonLbConfig:
    return cluster.ClusterCommonLbConfig(
        healthy_panic_threshold=envoy_type.Percent(value=0.0),
        # Envoy's default holds news of health back for up to a second.
        update_merge_window=milliseconds(0),
    )


def _health_check(authority: str) -> core.HealthCheck:
    """Return a question that every gRPC server answers with status 200, whether or not it knows the health service.

    Most pickers do not serve it on this port: Envoy's own gRPC check would take UNIMPLEMENTED for a failure. What a
    picker says of its readiness is Kubernetes' business, which drops one that is not ready from the EndpointSlices.
    """
    said = {"content-type": "application/grpc", "te": "trailers"}
    return core.HealthCheck(
        timeout=_CHECK_TIMEOUT,
        interval=_CHECK_INTERVAL,
        # The default, for a cluster that no request has used yet, is a minute.
        no_traffic_interval=_CHECK_INTERVAL,
        unhealthy_threshold=_FAILED_CHECKS,
        healthy_threshold=1,
        http_health_check=core.HealthCheckHttpHealthCheck(
            host=authority,
            path="/grpc.health.v1.Health/Check",
            method=core.RequestMethod.POST,
            # An empty HealthCheckRequest in gRPC's framing: not compressed, no bytes.
            send=core.HealthCheckPayload(text="0000000000"),
            request_headers_to_add=[
                core.HeaderValueOption(header=core.HeaderValue(key=key, value=value)) for key, value in said.items()
            ],
            codec_client_type=envoy_type.CodecClientType.HTTP2,
        ),
    )


def _http_options(retries: route.RetryPolicy | None) -> http.HttpProtocolOptions:
    explicit = http.HttpProtocolOptionsExplicitHttpConfig(http2_protocol_options=core.Http2ProtocolOptions())
    return http.HttpProtocolOptions(explicit_http_config=explicit, retry_policy=retries)


@lru_cache(maxsize=2)
def _retries(*, stand_in: bool) -> route.RetryPolicy:
    """Return how another picker is tried where one ends an exchange before its first answer.

    On the cluster, since gRPC's own retry policy (core.v3.RetryPolicy) cannot look at headers. Envoy keeps 64 KiB of an
    exchange for this, so that one with a longer body is lost. A stream that is answered has no grpc-status among its
    first headers: with one, it ended without an answer, be it for an error or for none.
    """
    policy = route.RetryPolicy(
        retry_on="connect-failure,refused-stream,reset,retriable-headers",
        retriable_headers=[
            route.HeaderMatcher(name="grpc-status", present_match=True),
            route.HeaderMatcher(name=":status", string_match=matcher.StringMatcher(exact="200"), invert_match=True),
        ],
        num_retries=3,
        retry_host_predicate=[
            route.RetryPolicyRetryHostPredicate(
                name="envoy.retry_host_predicates.previous_hosts",
                typed_config=pack(previous_hosts.PreviousHostsPredicate()),
            )
        ],
        host_selection_retry_max_attempts=3,
        retry_back_off=route.RetryPolicyRetryBackOff(base_interval=milliseconds(5), max_interval=milliseconds(50)),
    )
    if stand_in:
        policy.retry_priority = route.RetryPolicyRetryPriority(
            name="envoy.retry_priorities.previous_priorities",
            typed_config=pack(previous_priorities.PreviousPrioritiesConfig(update_frequency=_ATTEMPTS_BEFORE_STAND_IN)),
        )
    return policy
