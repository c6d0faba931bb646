"""Backend references: what an HTTPBackendRef means, and which endpoints stand behind it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from resources import BackendObjectReference, HTTPRoute, Key, Pod, Service
from translators import ir
from translators.resolve.annotations import Annotations, annotations_of
from translators.resolve.declared import key_of
from translators.resolve.endpoints import endpoints_of_pool, endpoints_of_service
from translators.resolve.grants import permits
from translators.resolve.index import Index, PoolKey
from translators.resolve.pickers import H2C, RESOLVED, endpoints_of_picker
from translators.resolve.pool_kinds import KINDS, AnyPool, labels_of
from translators.resolve.pools import may_move, pool_of
from translators.resolve.traffic import traffic_of

# What a port's appProtocol says (KEP-3726); any other is taken for HTTP/1.1, in which WebSockets begin too.
_HTTP2 = frozenset({H2C, "grpc"})
_ENCRYPTED = frozenset({"https", "wss", "kubernetes.io/wss"})
# What a pod's role label says (SGLang, --disaggregation-mode).
_PREFILL, _DECODE = "prefill", "decode"


@dataclass(frozen=True, slots=True)
class Reference:
    """A backend reference with what is needed to follow it. `where` is its field in the route."""

    namespace: str
    ref: BackendObjectReference
    where: str

    @property
    def target_namespace(self) -> str:
        """The namespace that the backend is in: the route's own unless the reference says otherwise."""
        return self.ref.namespace or self.namespace

    @property
    def target(self) -> Key:
        """The object that is referred to."""
        return Key(self.ref.group, self.ref.kind, self.target_namespace, self.ref.name)

    @property
    def to_service(self) -> bool:
        """Whether a Service is referred to."""
        return (self.ref.group, self.ref.kind) == ("", "Service")

    def problem(self, reason: str, message: str) -> ir.Problem:
        """Return a problem of this reference."""
        return ir.Problem(RESOLVED, reason, message, self.where)


def references_of(route: HTTPRoute) -> Iterator[Reference]:
    """Yield everything that a route refers to for backends, mirrors among them."""
    for rule in route.spec.rules:
        mirrors = (each.request_mirror.backend_ref for each in rule.filters if each.request_mirror)
        for ref in (*rule.backend_refs, *mirrors):
            yield Reference(route.key.namespace, ref, "")


class Backends:
    """The backends that routes refer to, each resolved once, with their endpoints.

    before: those of a World that differs in nothing but Pods, EndpointSlices and HTTPRoutes. What pools mean apart from
    their endpoints is the same, and so are the endpoints of those whose pods are.
    """

    def __init__(self, index: Index, before: Backends | None = None) -> None:
        self._index = index
        self._meant: dict[PoolKey, ir.Pool | ir.Problem] = {} if before is None else before._meant  # noqa: SLF001 - of this class
        self._said: dict[PoolKey, Annotations] = {} if before is None else before._said  # noqa: SLF001 - idem
        self._there_before = {} if before is None else before._there  # noqa: SLF001 - idem
        self._there: dict[tuple[PoolKey, str], tuple[Sequence[Pod], ir.Assignment]] = {}
        self._services: dict[tuple[str, str, int | None], ir.Service | ir.Problem] = {}
        self._pools: dict[PoolKey, ir.Pool | ir.Problem] = {}
        self.assignments: dict[str, ir.Assignment] = {}

    def endpoints_of(self, backend: ir.Backend) -> ir.Assignment:
        """Return the endpoints of a backend that a route of this World leads to."""
        if backend.cluster not in self.assignments and isinstance(backend, ir.Service):
            self._services[backend.namespace, backend.service, backend.port] = self._resolve_service(
                backend.namespace, backend.service, backend.port
            )
        return self.assignments[backend.cluster]

    def find(self, reference: Reference) -> ir.Backend | ir.Problem:
        """Follow a reference from an HTTPRoute."""
        ref, namespace = reference.ref, reference.target_namespace
        if (refused := self._refused(reference)) is not None:
            return refused
        found = self._service(namespace, ref) if reference.to_service else self._pool(namespace, ref)
        return reference.problem(found.reason, str(found)) if isinstance(found, ir.Problem) else found

    def pools_meant(self, route: HTTPRoute) -> Iterator[Key]:
        """Yield the InferencePools that a route refers to and may refer to, whether or not they can be served."""
        for reference in references_of(route):
            if not reference.to_service and self._refused(reference) is None:
                yield reference.target

    def _refused(self, reference: Reference) -> ir.Problem | None:
        ref, namespace = reference.ref, reference.target_namespace
        if not reference.to_service and not (ref.group in KINDS and ref.kind == "InferencePool"):
            return reference.problem(
                "InvalidKind", f"backends of kind {ref.group or 'core'}/{ref.kind} are not supported"
            )
        if namespace != reference.namespace and not permits(
            self._index.grants,
            kind="HTTPRoute",
            namespace=reference.namespace,
            to_group=ref.group,
            to_kind=ref.kind,
            to_namespace=namespace,
            to_name=ref.name,
        ):
            wanted = f"{ref.kind} {namespace}/{ref.name}"
            return reference.problem(
                "RefNotPermitted", f"no ReferenceGrant in {namespace} permits a reference to {wanted}"
            )
        return None

    def pool(self, pool: AnyPool) -> ir.Pool | ir.Problem:
        """Return what an InferencePool means, or why it cannot be served."""
        key = key_of(pool)
        if key not in self._pools:
            if key not in self._meant or may_move(self._index, key, self._meant[key]):
                self._meant[key] = pool_of(self._index, pool)
            found = self._meant[key]
            if isinstance(found, ir.Pool):
                self._assign_pool(found, pool, key)
                if found.picker is not None:
                    there = endpoints_of_picker(self._index, found.picker)
                    self._assign(found.picker, there)
                    away, subset = found.fail_open and not there, self._subset(found, pool)
                    if away or subset is not None:
                        found = replace(found, picker_away=away, subset=subset)
                if found.seat is not None:
                    self._assign(found.seat, endpoints_of_picker(self._index, found.seat))
            self._pools[key] = found
        return self._pools[key]

    def annotations_of(self, pool: AnyPool) -> Annotations:
        """Return what a pool's annotations say."""
        key = key_of(pool)
        if key not in self._said:
            self._said[key] = annotations_of(pool)
        return self._said[key]

    def _subset(self, found: ir.Pool, pool: AnyPool) -> tuple[str, ...] | None:
        """Return the pool's endpoints, where its annotation asks for its picker to be told of them."""
        if not self.annotations_of(pool).subset_hint:
            return None
        return tuple(str(each) for each in self.assignments[found.cluster].endpoints)

    def _assign_pool(self, found: ir.Pool, pool: AnyPool, key: PoolKey) -> None:
        if found.split is None:
            self._assign_pods(found.cluster, found, pool, key)
            return
        label = traffic_of(self._index, pool).role_label
        self._assign_pods(found.cluster, found, pool, key, (label, _DECODE))
        self._assign_pods(found.prefill_cluster, found, pool, key, (label, _PREFILL))

    def _assign_pods(
        self, cluster: str, found: ir.Pool, pool: AnyPool, key: PoolKey, role: tuple[str, str] | None = None
    ) -> None:
        pods = self._index.pods_with(pool.key.namespace, labels_of(pool))
        known = self._there_before.get((key, cluster))
        if known is None or known[0] is not pods:
            known = pods, ir.Assignment(cluster, found.origin, endpoints_of_pool(self._index, pool, role))
        self._there[key, cluster] = known
        self.assignments[cluster] = known[1]

    def _pool(self, namespace: str, ref: BackendObjectReference) -> ir.Pool | ir.Problem:
        pool = self._index.world.get(KINDS[ref.group], namespace, ref.name)
        if pool is None:
            return ir.Problem(RESOLVED, "BackendNotFound", f"InferencePool {namespace}/{ref.name} does not exist")
        found = self.pool(pool)
        if isinstance(found, ir.Problem):
            return ir.Problem(RESOLVED, found.reason, f"{pool.key}: {found}")
        return found

    def _service(self, namespace: str, ref: BackendObjectReference) -> ir.Service | ir.Problem:
        key = (namespace, ref.name, ref.port)
        if key not in self._services:
            self._services[key] = self._resolve_service(*key)
        return self._services[key]

    def _resolve_service(self, namespace: str, name: str, number: int | None) -> ir.Service | ir.Problem:
        service = self._index.world.get(Service, namespace, name)
        if service is None:
            return ir.Problem(RESOLVED, "BackendNotFound", f"Service {namespace}/{name} does not exist")
        if service.spec.type == "ExternalName":
            return ir.Problem(RESOLVED, "UnsupportedValue", f"Service {namespace}/{name} is of type ExternalName")
        port = next((each for each in service.spec.ports if each.port == number and each.protocol == "TCP"), None)
        if port is None:
            return ir.Problem(RESOLVED, "BackendNotFound", f"Service {namespace}/{name} has no TCP port {number}")
        if port.app_protocol in _ENCRYPTED:
            text = f"Service {namespace}/{name}: TLS to backends (appProtocol {port.app_protocol}) is not built yet"
            return ir.Problem(RESOLVED, "UnsupportedProtocol", text)
        found = ir.Service(namespace, name, port.port, str(service.key), h2c=port.app_protocol in _HTTP2)
        self._assign(found, endpoints_of_service(self._index, service, port))
        return found

    def _assign(self, backend: ir.Backend | ir.Picker, endpoints: tuple[ir.Endpoint, ...]) -> None:
        self.assignments[backend.cluster] = ir.Assignment(backend.cluster, backend.origin, endpoints)
