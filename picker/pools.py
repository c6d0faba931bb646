"""The pools and endpoints that the control plane has told, as a delta ADS client's state without I/O.

`Directory.receive` takes each response and returns the requests to send; what was told last stays in force whatever
becomes of the stream.  A response that cannot be read is refused (NACK) as a whole and changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from google.protobuf.message import DecodeError

from picker.exchange import NAMESPACE, Pool, Split
from picker.metrics_text import Dialect, dialect_of
from picker.rules import Rules
from picker.strategies import DEFAULT, PROFILES
from picker.table import Endpoint, Table
from protos.pointsman.envoy.v1.base_pb2 import Address, ClusterLoadAssignment, LbEndpoint
from protos.pointsman.envoy.v1.discovery_pb2 import DeltaDiscoveryRequest, DeltaDiscoveryResponse
from protos.pointsman.picker.v1 import identity_pb2, pool_pb2

POOL_TYPE = "type.googleapis.com/pointsman.picker.v1.Pool"
# Pools that name a picker of their own: only that one, should it be Pointsman's, asks for its pool.
FOREIGN_POOL_TYPE = "type.googleapis.com/pointsman.picker.v1.ForeignPool"
# Who the picker is to Envoys, where they meet over a network.
IDENTITY_TYPE = "type.googleapis.com/pointsman.picker.v1.Identity"
ENDPOINTS_TYPE = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"

# envoy.config.core.v3.HealthStatus: UNKNOWN and HEALTHY take traffic.
_TAKES_TRAFFIC = (0, 1)
# google.rpc.Code.INVALID_ARGUMENT
_INVALID_ARGUMENT = 3
_QUEUE_THRESHOLD, _KV_THRESHOLD = 5, 0.8


@dataclass(slots=True, eq=False)
class Member:
    """An endpoint with the pools that it belongs to, and the dialect of its metrics, which is that of the first."""

    endpoint: Endpoint
    dialect: Dialect
    tables: tuple[Table, ...]


@dataclass(slots=True)
class _Assignment:
    version: str
    rows: Mapping[str, str]


@dataclass(slots=True)
class Directory:
    """All that the control plane has told.

    `pools` is by "namespace/name", `pool_of_cluster` by the cluster's name, `members` by address; `complete` once the
    pools are known and the endpoints of each were told.  With `only`, all is that one pool, whose own picker this is.
    With `identified`, the control plane has to tell who the picker is, too.
    """

    group: str
    only: str = ""
    identified: bool = False
    identity: identity_pb2.Identity | None = field(default=None, repr=False)
    pools: dict[str, Pool] = field(default_factory=dict)
    pool_of_cluster: dict[str, Pool] = field(default_factory=dict)
    members: dict[str, Member] = field(default_factory=dict)
    _told: dict[str, tuple[str, pool_pb2.Pool]] = field(default_factory=dict)
    _assignments: dict[str, _Assignment] = field(default_factory=dict)
    _subscribed: set[str] = field(default_factory=set)
    _heard: bool = False
    _identity_version: str = ""

    @property
    def complete(self) -> bool:
        """Whether every pool's endpoints are known: from then on, none is the truth and not ignorance."""
        known = self._heard and all(pool.table is not None for pool in self.pools.values())
        return known and (self.identity is not None or not self.identified)

    @property
    def pool_type(self) -> str:
        """The type under which it is told of pools."""
        return FOREIGN_POOL_TYPE if self.only else POOL_TYPE

    def connect(self) -> list[DeltaDiscoveryRequest]:
        """Open a stream: subscribe to everything, naming the versions held, so that only what changed is sent."""
        pools = DeltaDiscoveryRequest(
            type_url=self.pool_type,
            # No names at all on a type's first request subscribes to all of it.
            resource_names_subscribe=[self.only] if self.only else [],
            initial_resource_versions={name: version for name, (version, _) in self._told.items()},
        )
        # The first request of a stream carries the node (xDS protocol).
        pools.node.id = f"picker/{self.only}" if self.only else "picker"
        pools.node.cluster = self.group
        pools.node.metadata.fields["role"].string_value = "picker"
        requests = [pools]
        if self.identified:
            held = {self.group: self._identity_version} if self._identity_version else {}
            requests.append(DeltaDiscoveryRequest(type_url=IDENTITY_TYPE, initial_resource_versions=held))
        self._subscribed = self._wanted()
        if not self._subscribed:
            return requests
        held = {
            name: assignment.version
            for name, assignment in self._assignments.items()
            if name in self._subscribed and assignment.version
        }
        endpoints = DeltaDiscoveryRequest(
            type_url=ENDPOINTS_TYPE,
            resource_names_subscribe=sorted(self._subscribed),
            initial_resource_versions=held,
        )
        return [*requests, endpoints]

    def receive(self, response: DeltaDiscoveryResponse) -> list[DeltaDiscoveryRequest]:
        """Take over a response; the first request returned acknowledges or refuses it."""
        answer = DeltaDiscoveryRequest(type_url=response.type_url, response_nonce=response.nonce)
        try:
            if response.type_url == self.pool_type:
                self._receive_pools(response)
            elif response.type_url == ENDPOINTS_TYPE:
                self._receive_assignments(response)
            elif response.type_url == IDENTITY_TYPE:
                self._receive_identity(response)
        except (DecodeError, ValueError) as error:
            answer.error_detail.code = _INVALID_ARGUMENT
            answer.error_detail.message = str(error)
            return [answer]
        self._rebuild()
        return [answer, *self._subscribe()]

    def _receive_pools(self, response: DeltaDiscoveryResponse) -> None:
        fresh = {
            resource.name: (resource.version, pool_pb2.Pool.FromString(resource.resource.value))
            for resource in response.resources
        }
        for _, message in fresh.values():
            dialect_of(message.runtime, message.metric_names)
        self._heard = True
        self._told.update(fresh)
        for name in response.removed_resources:
            self._told.pop(name, None)

    def _receive_assignments(self, response: DeltaDiscoveryResponse) -> None:
        fresh = {
            resource.name: _Assignment(
                resource.version, dict(_rows(ClusterLoadAssignment.FromString(resource.resource.value)))
            )
            for resource in response.resources
        }
        self._assignments.update(fresh)
        for name in response.removed_resources:
            # A cluster that has no assignment (any more) has no endpoints; that is an answer too.
            self._assignments[name] = _Assignment("", {})

    def _receive_identity(self, response: DeltaDiscoveryResponse) -> None:
        # One that is taken back is used on: it expires by itself.
        for resource in response.resources:
            self.identity = identity_pb2.Identity.FromString(resource.resource.value)
            self._identity_version = resource.version

    def _subscribe(self) -> Iterable[DeltaDiscoveryRequest]:
        wanted = self._wanted()
        added, dropped = wanted - self._subscribed, self._subscribed - wanted
        self._subscribed = wanted
        for name in dropped:
            self._assignments.pop(name, None)
        if added or dropped:
            yield DeltaDiscoveryRequest(
                type_url=ENDPOINTS_TYPE,
                resource_names_subscribe=sorted(added),
                resource_names_unsubscribe=sorted(dropped),
            )

    def _wanted(self) -> set[str]:
        return {cluster for _, message in self._told.values() for cluster in _clusters(message)}

    def _rebuild(self) -> None:
        before, self.members = self.members, {}
        pools: dict[str, Pool] = {}
        for _, message in self._told.values():
            pool = pools[message.name] = self.pools.get(message.name) or Pool(message.name, message.cluster)
            pool.cluster = message.cluster
            pool.profile = PROFILES.get(message.strategy, DEFAULT)
            pool.rules = Rules.of(message)
            pool.apart = message.HasField("disaggregation")
            pool.stand_in = message.stand_in
            if any(cluster not in self._assignments for cluster in _clusters(message)):
                pool.table = pool.split = None
                continue
            pool.table = self._fill(pool.table, message, message.cluster, before)
            if not pool.apart:
                pool.split = None
                continue
            apart = message.disaggregation
            prefill = self._fill(pool.split.table if pool.split else None, message, apart.prefill_cluster, before)
            pool.split = Split(prefill, PROFILES.get(apart.prefill_strategy, DEFAULT), apart.bootstrap_port)
        self.pools = pools
        self.pool_of_cluster = {pool.cluster: pool for pool in pools.values()}

    def _fill(self, table: Table | None, message: pool_pb2.Pool, cluster: str, before: Mapping[str, Member]) -> Table:
        filled = table or Table()
        said = message.thresholds
        filled.queue_threshold = said.queue if said.HasField("queue") else _QUEUE_THRESHOLD
        filled.kv_threshold = said.kv_cache if said.HasField("kv_cache") else _KV_THRESHOLD
        dialect = dialect_of(message.runtime, message.metric_names)
        filled.replace(
            self._enlist(address, pod, filled, dialect, before)
            for address, pod in self._assignments[cluster].rows.items()
        )
        return filled

    def _enlist(self, address: str, pod: str, table: Table, dialect: Dialect, before: Mapping[str, Member]) -> Endpoint:
        member = self.members.get(address)
        if member is not None:
            member.tables = (*member.tables, table)
            return member.endpoint
        known = before.get(address)
        # Another pod at the same address starts from nothing.
        endpoint = known.endpoint if known is not None and known.endpoint.pod == pod else Endpoint(address, pod)
        self.members[address] = Member(endpoint, dialect, (table,))
        return endpoint


def _clusters(message: pool_pb2.Pool) -> tuple[str, ...]:
    if not message.HasField("disaggregation"):
        return (message.cluster,)
    return (message.cluster, message.disaggregation.prefill_cluster)


def _rows(assignment: ClusterLoadAssignment) -> Iterator[tuple[str, str]]:
    for locality in assignment.endpoints:
        for row in locality.lb_endpoints:
            address = address_text(row.endpoint.address)
            if address and row.health_status in _TAKES_TRAFFIC:
                yield address, _pod(row)


def address_text(address: Address) -> str:
    """Write an address as Envoy's load balancer reads it: ``ip:port``, ``[ip]:port`` for IPv6; "" for none."""
    socket = address.socket_address
    if not socket.address:
        return ""
    return (
        f"[{socket.address}]:{socket.port_value}" if ":" in socket.address else f"{socket.address}:{socket.port_value}"
    )


def _pod(row: LbEndpoint) -> str:
    if NAMESPACE not in row.metadata.filter_metadata:
        return ""
    return str(row.metadata.filter_metadata[NAMESPACE].fields["pod"].string_value)
