"""Backends as Envoy's clusters, and their endpoints.

A cluster stands for a backend with its policies and is shared by every route that uses it. Endpoints are resources of
their own (EDS), so that pods come and go without a change of anything else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache

from envoy_data_plane.envoy.config.cluster import v3 as cluster
from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.config.endpoint import v3 as endpoint
from envoy_data_plane.envoy.extensions.load_balancing_policies.least_request import v3 as least_request
from envoy_data_plane.envoy.extensions.load_balancing_policies.override_host import v3 as override_host
from envoy_data_plane.envoy.extensions.upstreams.http import v3 as http
from envoy_data_plane.envoy.type.metadata import v3 as metadata_type

from protos.pointsman.picker.v1 import pool_pb2
from translators import ir
from translators.emit.packing import extension, milliseconds, pack, struct
from translators.emit.route import retry_policy
from translators.features import disaggregation, mirror
from translators.headers import (
    DESTINATION,
    LOAD_BALANCING,
    MIRROR_DESTINATION,
    POINTSMAN,
    PREFILL_DESTINATION,
    SERVED,
    served_key,
)

# LLM requests last long, so that many run at once; the pods' own queues are the limit, not Envoy's default of 1024.
_UNLIMITED = 1_000_000_000
_HTTP = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_CONNECT_TIMEOUT = milliseconds(1000)
# After so many milliseconds of silence a pod is taken for gone: linux/tcp.h has the numbers.
_VANISHED = 20_000
_IPPROTO_TCP, _TCP_USER_TIMEOUT = 6, 18

PLAINTEXT = {"plaintext": True}
"""What an endpoint's metadata says where it has no TLS."""

_CRITICALITY = {
    "Critical": pool_pb2.CRITICALITY_CRITICAL,
    "Standard": pool_pb2.CRITICALITY_STANDARD,
    "Sheddable": pool_pb2.CRITICALITY_SHEDDABLE,
}

_RUNTIME = {
    "vllm": pool_pb2.RUNTIME_VLLM,
    "sglang": pool_pb2.RUNTIME_SGLANG,
    "tensorrt-llm": pool_pb2.RUNTIME_TENSORRT_LLM,
    "triton": pool_pb2.RUNTIME_TRITON,
    "tgi": pool_pb2.RUNTIME_TGI,
}
_STRATEGY = {"default": pool_pb2.STRATEGY_DEFAULT, "prefix cache": pool_pb2.STRATEGY_PREFIX_CACHE}
_UNLISTED = {
    "sheddable": pool_pb2.UNLISTED_SHEDDABLE,
    "standard": pool_pb2.UNLISTED_STANDARD,
    "refused": pool_pb2.UNLISTED_REFUSED,
}


def cluster_of(backend: ir.Backend, connection_buffer_limit: int, *, user_timeout: bool = True) -> cluster.Cluster:
    """Return the cluster of a backend; `connection_buffer_limit` is in bytes.

    user_timeout: whether Envoy's system knows TCP_USER_TIMEOUT.
    """
    made = eds_cluster(
        backend.cluster,
        backend.cluster,
        # On the cluster, since a rule may lead to a pool and to a Service, which is not retried unasked.
        _http_options(backend, retries=isinstance(backend, ir.Pool)),
        _balancing(backend),
        connection_buffer_limit,
    )
    if isinstance(backend, ir.Pool):
        _leave_the_vanished(made, user_timeout=user_timeout)
    return made


def _leave_the_vanished(made: cluster.Cluster, *, user_timeout: bool) -> None:
    """Have connections end whose other side is gone without a word, with its node.

    Their requests have hours to be answered in, and are tried elsewhere instead. Probes find a silent side where all
    that was sent has arrived; what has not is only given up in time where the system knows TCP_USER_TIMEOUT.
    """
    made.upstream_connection_options = cluster.UpstreamConnectionOptions(
        tcp_keepalive=core.TcpKeepalive(keepalive_time=10, keepalive_interval=5, keepalive_probes=2)
    )
    if user_timeout:
        option = core.SocketOption(
            description="TCP_USER_TIMEOUT", level=_IPPROTO_TCP, name=_TCP_USER_TIMEOUT, int_value=_VANISHED
        )
        made.upstream_bind_config = core.BindConfig(socket_options=[option])


def _balancing(backend: ir.Backend) -> cluster.LoadBalancingPolicy:
    if isinstance(backend, ir.Service):
        return balance_by_least_request()
    if backend.picker is not None:
        return _picked_by_others()
    return _picked(served_key(backend.seat.cluster) if backend.seat else SERVED)


def mirror_cluster_of(backend: ir.Backend, connection_buffer_limit: int) -> cluster.Cluster:
    """Return the cluster by which a backend gets copies of requests."""
    options = _http_options(backend, retries=False)
    options.common_http_protocol_options = core.HttpProtocolOptions(max_stream_duration=mirror.LONGEST)
    return eds_cluster(
        ir.Mirror(backend).cluster,
        backend.cluster,
        options,
        _picked_by_header() if isinstance(backend, ir.Pool) else balance_by_least_request(),
        connection_buffer_limit,
    )


def prefill_cluster_of(pool: ir.Pool, connection_buffer_limit: int) -> cluster.Cluster:
    """Return the cluster of the pods that prefill; what they get are copies, of which nobody waits for an answer.

    Envoy goes to the very address that the picker put into the header, whatever endpoints it knows of: the body says
    that the servers meet there, so that a copy at any other pod is worth nothing, and the decode pod waits in vain.
    """
    options = _http_options(pool, retries=False)
    options.common_http_protocol_options = core.HttpProtocolOptions(max_stream_duration=disaggregation.LONGEST)
    made = bare_cluster(pool.prefill_cluster, options, connection_buffer_limit)
    made.type = cluster.ClusterDiscoveryType.ORIGINAL_DST
    made.lb_policy = cluster.ClusterLbPolicy.CLUSTER_PROVIDED
    made.original_dst_lb_config = cluster.ClusterOriginalDstLbConfig(
        use_http_header=True, http_header_name=PREFILL_DESTINATION
    )
    return made


def eds_cluster(
    name: str,
    endpoints: str,
    options: http.HttpProtocolOptions,
    balancing: cluster.LoadBalancingPolicy,
    connection_buffer_limit: int | None,
) -> cluster.Cluster:
    """Return a cluster whose endpoints come under the name `endpoints`; `connection_buffer_limit` is in bytes."""
    ads = core.ConfigSource(ads=core.AggregatedConfigSource(), resource_api_version=core.ApiVersion.V3)
    service = endpoints if endpoints != name else ""
    made = bare_cluster(name, options, connection_buffer_limit)
    made.type = cluster.ClusterDiscoveryType.EDS
    made.eds_cluster_config = cluster.ClusterEdsClusterConfig(eds_config=ads, service_name=service)
    made.load_balancing_policy = balancing
    made.ignore_health_on_host_removal = True
    return made


def bare_cluster(name: str, options: http.HttpProtocolOptions, connection_buffer_limit: int | None) -> cluster.Cluster:
    """Return what all clusters have in common."""
    return cluster.Cluster(
        name=name,
        connect_timeout=_CONNECT_TIMEOUT,
        typed_extension_protocol_options={_HTTP: pack(options)},
        circuit_breakers=cluster.CircuitBreakers(
            thresholds=[
                cluster.CircuitBreakersThresholds(
                    max_connections=_UNLIMITED,
                    max_pending_requests=_UNLIMITED,
                    max_requests=_UNLIMITED,
                    max_retries=_UNLIMITED,
                )
            ]
        ),
        per_connection_buffer_limit_bytes=connection_buffer_limit,
    )


def assignment_of(assignment: ir.Assignment) -> endpoint.ClusterLoadAssignment:
    """Return the endpoints of a cluster; each names its pod for the picker's log."""
    endpoints = [
        endpoint.LbEndpoint(
            endpoint=endpoint.Endpoint(
                address=core.Address(socket_address=core.SocketAddress(address=each.address, port_value=each.port))
            ),
            metadata=_about(each),
        )
        for each in assignment.endpoints
    ]
    localities = [endpoint.LocalityLbEndpoints(lb_endpoints=endpoints)] if endpoints else []
    return endpoint.ClusterLoadAssignment(cluster_name=assignment.cluster, endpoints=localities)


def _about(each: ir.Endpoint) -> core.Metadata | None:
    found: dict[str, Mapping[str, str | bool]] = {POINTSMAN: {"pod": each.pod}} if each.pod else {}
    if each.plaintext:
        found["envoy.transport_socket_match"] = PLAINTEXT
    return core.Metadata(filter_metadata={name: struct(value) for name, value in found.items()}) if found else None


def pool_of(pool: ir.Pool) -> pool_pb2.Pool:
    """Return what the picker is told of a pool."""
    return pool_pb2.Pool(
        name=pool.name,
        cluster=pool.cluster,
        models=[
            pool_pb2.Model(
                name=model.name,
                criticality=_CRITICALITY[model.criticality],
                targets=_targets(model.targets),
            )
            for model in pool.models
        ],
        runtime=_RUNTIME[pool.runtime],
        strategy=_STRATEGY[pool.split.decode if pool.split else pool.strategy],
        unlisted=_UNLISTED[pool.unlisted],
        thresholds=_thresholds(pool.thresholds),
        metric_names=dict(pool.metric_names),
        objectives=[pool_pb2.Objective(name=each.name, priority=each.priority) for each in pool.objectives],
        rewrites=[pool_pb2.Rewrite(models=each.models, targets=_targets(each.targets)) for each in pool.rewrites],
        disaggregation=_disaggregation(pool),
    )


def _thresholds(thresholds: ir.Thresholds) -> pool_pb2.Thresholds | None:
    if thresholds == ir.Thresholds():
        return None
    return pool_pb2.Thresholds(queue=thresholds.queue, kv_cache=thresholds.kv_cache)


def stand_in_of(pool: ir.Pool) -> pool_pb2.Pool:
    """Return what our own picker is told of a pool that it picks for while the pool's own cannot.

    It serves what can be served, by the names that models have there; it sheds and refuses nothing.
    """
    models = tuple(replace(model, criticality="Standard") for model in pool.models)
    made = pool_of(replace(pool, models=models, unlisted="standard", objectives=()))
    made.stand_in = True
    return made


def _disaggregation(pool: ir.Pool) -> pool_pb2.Disaggregation | None:
    if pool.split is None:
        return None
    return pool_pb2.Disaggregation(
        prefill_cluster=pool.prefill_cluster,
        bootstrap_port=pool.split.bootstrap_port,
        prefill_strategy=_STRATEGY[pool.split.prefill],
    )


def _targets(targets: tuple[ir.Target, ...]) -> list[pool_pb2.Target]:
    return [pool_pb2.Target(name=target.name, weight=target.weight) for target in targets]


def _http_options(backend: ir.Backend, *, retries: bool) -> http.HttpProtocolOptions:
    explicit = http.HttpProtocolOptionsExplicitHttpConfig(
        http2_protocol_options=core.Http2ProtocolOptions() if backend.h2c else None,
        http_protocol_options=None if backend.h2c else core.Http1ProtocolOptions(),
    )
    made = http.HttpProtocolOptions(explicit_http_config=explicit)
    if retries:
        split = isinstance(backend, ir.Pool) and backend.split is not None
        made.retry_policy = retry_policy(retries=True, unsent=split)
        if isinstance(backend, ir.Pool) and split:
            made.request_mirror_policies = disaggregation.policies(backend)
    return made


@lru_cache(maxsize=1)
def balance_by_least_request() -> cluster.LoadBalancingPolicy:
    """Return Envoy's own choice by least request."""
    policy = extension("envoy.load_balancing_policies.least_request", least_request.LeastRequest())
    return cluster.LoadBalancingPolicy(policies=[cluster.LoadBalancingPolicyPolicy(typed_extension_config=policy)])


def _key(name: str) -> metadata_type.MetadataKey:
    return metadata_type.MetadataKey(key=LOAD_BALANCING, path=[metadata_type.MetadataKeyPathSegment(key=name)])


@lru_cache(maxsize=1024)
def _picked(served: str) -> cluster.LoadBalancingPolicy:
    """Follow the picker's ordered list; without one (FailOpen), balance by least request.

    Only metadata is a source: a header could come from a client, and Envoy joins its sources, it does not choose one.
    """
    return _override_host(
        override_host.OverrideHost(
            override_host_sources=[override_host.OverrideHostOverrideHostSource(metadata=_key(DESTINATION))],
            selected_host_key=_key(served),
            fallback_policy=balance_by_least_request(),
        )
    )


@lru_cache(maxsize=1)
def _picked_by_others() -> cluster.LoadBalancingPolicy:
    """Follow the list of a picker that is not ours: in metadata, or in the header alone, which no client can set."""
    header = override_host.OverrideHostOverrideHostSource(header=DESTINATION)
    return _override_host(
        override_host.OverrideHost(
            override_host_sources=[override_host.OverrideHostOverrideHostSource(metadata=_key(DESTINATION)), header],
            selected_host_key=_key(SERVED),
            fallback_policy=balance_by_least_request(),
        )
    )


@lru_cache(maxsize=1)
def _picked_by_header() -> cluster.LoadBalancingPolicy:
    """Follow the list for copies, which see no metadata; without one, balance by least request."""
    return _override_host(
        override_host.OverrideHost(
            override_host_sources=[override_host.OverrideHostOverrideHostSource(header=MIRROR_DESTINATION)],
            fallback_policy=balance_by_least_request(),
        )
    )


def _override_host(policy: override_host.OverrideHost) -> cluster.LoadBalancingPolicy:
    wrapped = extension("envoy.load_balancing_policies.override_host", policy)
    return cluster.LoadBalancingPolicy(policies=[cluster.LoadBalancingPolicyPolicy(typed_extension_config=wrapped)])
