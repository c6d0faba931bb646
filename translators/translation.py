"""translate: World to Envoy's resources and Kubernetes' statuses.

It is total, returning for every World that decodes, and pure: the memory only saves work. A translation with a warm
memory equals one with a cold memory, and the order in which objects arrived does not matter.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

import betterproto2
from envoy_data_plane.envoy.config.route import v3 as route
from google.protobuf.message import Message

from resources import World
from translators import ir, statuses
from translators.emit.cluster import (
    assignment_of,
    cluster_of,
    mirror_cluster_of,
    pool_of,
    prefill_cluster_of,
    stand_in_of,
)
from translators.emit.listener import listener_of
from translators.emit.packing import TYPE_PREFIX
from translators.emit.picker_cluster import picker_cluster_of, stand_in_cluster_of
from translators.emit.route_table import RouteTable
from translators.features.body_limit import limit
from translators.features.models_list import routable
from translators.features.tls_termination import secret_of
from translators.infrastructure.needs import gateway_needs, picker_needs
from translators.infrastructure.provision import GatewayNeeds, PickerNeeds
from translators.memo import Memo
from translators.resolve.gateways import resolve
from translators.resolve.meaning import Meaning, SeatedPool
from translators.settings import Settings

CLUSTER = TYPE_PREFIX + "envoy.config.cluster.v3.Cluster"
ENDPOINTS = TYPE_PREFIX + "envoy.config.endpoint.v3.ClusterLoadAssignment"
LISTENER = TYPE_PREFIX + "envoy.config.listener.v3.Listener"
ROUTES = TYPE_PREFIX + "envoy.config.route.v3.RouteConfiguration"
SECRET = TYPE_PREFIX + "envoy.extensions.transport_sockets.tls.v3.Secret"
POOL = TYPE_PREFIX + "pointsman.picker.v1.Pool"
FOREIGN_POOL = TYPE_PREFIX + "pointsman.picker.v1.ForeignPool"

T = TypeVar("T")


@dataclass(frozen=True, slots=True, eq=False)
class Resource:
    """A resource to serve. What has not changed is the same object from one translation to the next.

    origin: the Kubernetes object to name when Envoy rejects it. pulls: type and name of the resource that Envoy must be
    sent again after it took in a change of this one, as a cluster waits for its endpoints.
    """

    type_url: str
    name: str
    # May hold a private key.
    message: betterproto2.Message | Message = field(repr=False)
    origin: str
    pulls: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class ListenerSummary:
    """A listener for people: where it can be reached, with TLS or without, and for which hostnames."""

    name: str
    address: str
    port: int
    moved_from: int | None
    hostnames: tuple[str, ...]
    tls: bool


@dataclass(frozen=True, slots=True)
class PoolSummary:
    """A pool for people: the models that are routable to it, and its pods with their addresses."""

    name: str
    models: tuple[str, ...]
    pods: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class HostSummary:
    """A hostname for people: the bound port that serves it, and what a request to it can name."""

    hostname: str
    port: int
    models: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class GatewaySummary:
    """A Gateway for people. models: what a request can name on any of its hostnames. hosts: those with models."""

    gateway: str
    listeners: tuple[ListenerSummary, ...]
    pools: tuple[PoolSummary, ...]
    models: tuple[str, ...]
    hosts: tuple[HostSummary, ...]


@dataclass(frozen=True, slots=True)
class Translation:
    """What a World means for Envoy, for our pickers and for its owners.

    gateways: resources by Gateway, "namespace/name", or by the part that Gateways share; parts: of each Gateway that
    shares one. pickers: those of our pickers that have Services, by the clusters
    in which Envoy has them. needs: what is to be made in a cluster for the Gateways and for our pickers.
    """

    gateways: Mapping[str, tuple[Resource, ...]]
    pickers: Mapping[str, tuple[Resource, ...]]
    needs: tuple[tuple[GatewayNeeds, ...], tuple[PickerNeeds, ...]]
    statuses: tuple[statuses.Status, ...]
    problems: tuple[str, ...]
    notices: tuple[str, ...]
    # Has private keys.
    meaning: Meaning = field(repr=False)
    parts: Mapping[str, str] = field(default_factory=dict)

    @property
    def summary(self) -> tuple[GatewaySummary, ...]:
        """The Gateways for people, worked out when somebody asks."""
        return tuple(_summary(gateway, self.meaning) for gateway in self.meaning.gateways)


def translate(world: World, settings: Settings, memo: Memo) -> Translation:
    """Translate a World."""
    try:
        return _translate(world, settings, memo)
    except BaseException:
        memo.forget()
        raise


def needs_of_gateways(world: World, settings: Settings) -> tuple[GatewayNeeds, ...]:
    """Return what has to be made for the Gateways of a World, which may lack what no Gateway's Envoys depend on."""
    return tuple(gateway_needs(resolve(world, settings, Memo()), settings))


def _translate(world: World, settings: Settings, memo: Memo) -> Translation:
    meaning = resolve(world, settings, memo)
    gateways = {gateway.name: tuple(_resources(gateway, settings, memo)) for gateway in meaning.parts}
    pickers = {seat: tuple(found.values()) for seat, found in _seats(meaning, memo).items()}
    written = tuple(statuses.of(meaning, settings, memo))
    memo.turn()
    return Translation(
        gateways=gateways,
        pickers=pickers,
        needs=(tuple(gateway_needs(meaning, settings)), tuple(picker_needs(meaning))),
        statuses=written,
        problems=tuple(statuses.problems(meaning)),
        notices=meaning.notices,
        meaning=meaning,
        parts=_parts(meaning),
    )


def _parts(meaning: Meaning) -> Mapping[str, str]:
    parts = {shared.of.item.key.name: shared.part for shared in meaning.shared}
    return {
        f"{each.gateway.key.namespace}/{each.gateway.key.name}": parts[each.gateway.spec.gateway_class_name]
        for each in meaning.gateway_states
        if each.gateway.spec.gateway_class_name in parts
    }


def _resources(gateway: ir.Gateway, settings: Settings, memo: Memo) -> Iterator[Resource]:
    for backend in gateway.backends:
        yield memo(_cluster, backend, settings.connection_buffer_limit, user_timeout=settings.user_timeout)
        if isinstance(backend, ir.Pool):
            yield memo(pool_resource, backend)
            if backend.split is not None:
                yield memo(_prefill_cluster, backend, settings.connection_buffer_limit)
    for backend in gateway.mirrored:
        yield memo(_mirror_cluster, backend, settings.connection_buffer_limit)
    for picker in gateway.pickers:
        yield memo(_picker_cluster, picker)
    yield from _stand_ins(gateway, memo)
    for assignment in gateway.assignments:
        yield memo(assignment_resource, assignment)
    for certificate in gateway.certificates:
        yield memo(_secret, certificate)
    for port in gateway.ports:
        bare = replace(port, chains=tuple(replace(chain, hosts=()) for chain in port.chains))
        yield memo(_listener, gateway.name, bare, _Same(settings))
        for chain in port.chains:
            table = memo.place(RouteTable, chain.name)
            message = table.of(chain, settings.model_finder, limit(port, settings))
            yield memo(_routes, chain.name, port.origin, _Same(message))


def _stand_ins(gateway: ir.Gateway, memo: Memo) -> Iterator[Resource]:
    pools = [each for each in gateway.backends if isinstance(each, ir.Pool) and each.stand_in]
    for pool in pools:
        yield memo(_stand_in, pool)
    for name, picker, seat in dict.fromkeys((each.with_stand_in, each.picker, each.seat) for each in pools):
        if picker is not None:
            yield memo(_stand_in_cluster, name, picker, seat)


def _seats(meaning: Meaning, memo: Memo) -> Mapping[str, dict[str, Resource]]:
    """Return what our pickers have to know: their pools, the pools that get copies, and the endpoints of all.

    A picker knows its pool before a route leads to it, so that it is there when the first request comes.
    """
    seated = {each.meaning.cluster: each for each in meaning.seated}
    found: dict[str, dict[str, Resource]] = {}

    def add(seat: ir.Picker, pool: SeatedPool) -> None:
        known = found.setdefault(seat.cluster, {})
        told = _stand_in if pool.meaning.stand_in else pool_resource
        known[f"pool {pool.meaning.cluster}"] = memo(told, pool.meaning)
        known.update({each.cluster: memo(assignment_resource, each) for each in pool.assignments})

    for each in meaning.seated:
        for seat in each.meaning.seats:
            add(seat, each)
    if not seated:
        return found
    for gateway in meaning.gateways:
        for rule in (rule for port in gateway.ports for host in port.hosts for rule in host.routes if rule.mirrors):
            copied = [mirror.backend.cluster for mirror in rule.mirrors if mirror.backend.cluster in seated]
            for seat in (seat for pool in rule.pools if copied for seat in pool.seats):
                for cluster in copied:
                    add(seat, seated[cluster])
    return found


class _Same(Generic[T]):
    """A key by identity, for what is known to stay the same object while it is equal: Envoy's messages have no hash."""

    __slots__ = ("value",)

    def __init__(self, value: T) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.value is other.value

    def __hash__(self) -> int:
        return id(self.value)


def _cluster(backend: ir.Backend, connection_buffer_limit: int, *, user_timeout: bool) -> Resource:
    message = cluster_of(backend, connection_buffer_limit, user_timeout=user_timeout)
    return Resource(CLUSTER, backend.cluster, message, backend.origin, pulls=(ENDPOINTS, backend.cluster))


def _prefill_cluster(pool: ir.Pool, connection_buffer_limit: int) -> Resource:
    message = prefill_cluster_of(pool, connection_buffer_limit)
    # Its endpoints are for the picker alone.
    return Resource(CLUSTER, message.name, message, pool.origin)


def _mirror_cluster(backend: ir.Backend, connection_buffer_limit: int) -> Resource:
    message = mirror_cluster_of(backend, connection_buffer_limit)
    return Resource(CLUSTER, message.name, message, backend.origin, pulls=(ENDPOINTS, backend.cluster))


def _picker_cluster(picker: ir.Picker) -> Resource:
    message = picker_cluster_of(picker)
    return Resource(CLUSTER, message.name, message, picker.origin, pulls=(ENDPOINTS, message.name))


def _stand_in_cluster(name: str, picker: ir.Picker, seat: ir.Picker | None) -> Resource:
    message = stand_in_cluster_of(name, picker, seat)
    return Resource(CLUSTER, message.name, message, picker.origin)


def _stand_in(pool: ir.Pool) -> Resource:
    return Resource(POOL, pool.name, stand_in_of(pool), pool.origin)


def pool_resource(pool: ir.Pool) -> Resource:
    """Return what a picker is told of its pool."""
    # Pointsman's own picker serves all pools of the one type, and another one its own pool of the other.
    return Resource(POOL if pool.picker is None else FOREIGN_POOL, pool.name, pool_of(pool), pool.origin)


def assignment_resource(assignment: ir.Assignment) -> Resource:
    """Return the endpoints of a cluster."""
    return Resource(ENDPOINTS, assignment.cluster, assignment_of(assignment), assignment.origin)


def _secret(certificate: ir.Certificate) -> Resource:
    return Resource(SECRET, certificate.name, secret_of(certificate), certificate.origin)


def _listener(gateway: str, port: ir.Port, settings: _Same[Settings]) -> Resource:
    message = listener_of(port, gateway, settings.value)
    return Resource(LISTENER, message.name, message, port.origin)


def _routes(name: str, origin: str, table: _Same[route.RouteConfiguration]) -> Resource:
    return Resource(ROUTES, name, table.value, origin)


def _summary(gateway: ir.Gateway, meaning: Meaning) -> GatewaySummary:
    state = next(each for each in meaning.gateway_states if str(each.gateway.key) == gateway.origin)
    ports = {port.number: port for port in gateway.ports}
    listeners = []
    for each in state.listeners:
        if each.served and (port := ports.get(each.listener.port)):
            moved = each.listener.port if port.placement.port != each.listener.port else None
            hostnames = (each.listener.hostname,) if each.listener.hostname else ()
            place = port.placement
            listeners.append(ListenerSummary(each.listener.name, place.address, place.port, moved, hostnames, port.tls))
    endpoints = {each.cluster: each.endpoints for each in gateway.assignments}
    hosts = [host for port in gateway.ports for host in port.hosts if any(map(_is_inference, host.routes))]
    return GatewaySummary(
        gateway=gateway.name,
        listeners=tuple(listeners),
        pools=tuple(
            PoolSummary(
                backend.name,
                _models_of(backend, hosts),
                tuple((each.pod, str(each)) for cluster in _clusters_of(backend) for each in endpoints[cluster]),
            )
            for backend in gateway.backends
            if isinstance(backend, ir.Pool)
        ),
        models=tuple(sorted({model for host in hosts for model in routable(host)})),
        hosts=tuple(
            HostSummary(host.hostname, port.placement.port, models)
            for port in gateway.ports
            for host in port.hosts
            if any(map(_is_inference, host.routes)) and (models := tuple(routable(host)))
        ),
    )


def _is_inference(rule: ir.Route) -> bool:
    return rule.model is not None or bool(rule.pools)


def _clusters_of(pool: ir.Pool) -> tuple[str, ...]:
    return (pool.cluster,) if pool.split is None else (pool.prefill_cluster, pool.cluster)


def _models_of(pool: ir.Pool, hosts: list[ir.VirtualHost]) -> tuple[str, ...]:
    models: set[str] = set()
    for host in hosts:
        leading = tuple(rule for rule in host.routes if pool in rule.pools)
        models |= routable(replace(host, routes=leading)).keys()
    return tuple(sorted(models))
