"""Backend references: what an HTTPBackendRef means, and which endpoints stand behind it."""

from __future__ import annotations

from dataclasses import dataclass

from resources import (
    INFERENCE_GROUP,
    X_INFERENCE_GROUP,
    EndpointPickerRef,
    ExtensionRef,
    HTTPBackendRef,
    InferenceModel,
    InferencePool,
    Pod,
    Service,
    ServicePort,
    XInferencePool,
)
from translators import ir
from translators.resolve.index import Index

RESOLVED = "ResolvedRefs"
_POOLS: dict[str, type[InferencePool | XInferencePool]] = {
    INFERENCE_GROUP: InferencePool,
    X_INFERENCE_GROUP: XInferencePool,
}
_H2C = "kubernetes.io/h2c"


@dataclass(frozen=True, slots=True)
class Reference:
    """A backend reference with what is needed to follow it. `where` is its field in the route."""

    namespace: str
    ref: HTTPBackendRef
    where: str

    @property
    def target_namespace(self) -> str:
        """The namespace that the backend is in: the route's own unless the reference says otherwise."""
        return self.ref.namespace or self.namespace

    def problem(self, reason: str, message: str) -> ir.Problem:
        """Return a problem of this reference."""
        return ir.Problem(RESOLVED, reason, message, self.where)


class Backends:
    """The backends that routes refer to, each resolved once, with their endpoints."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._services: dict[tuple[str, str, int | None], ir.Service | ir.Problem] = {}
        self._pools: dict[tuple[str, str, str], ir.Pool | ir.Problem] = {}
        self.assignments: dict[str, ir.Assignment] = {}

    def find(self, reference: Reference) -> ir.Backend | ir.Problem:
        """Follow a reference from an HTTPRoute."""
        ref, namespace = reference.ref, reference.target_namespace
        is_service = (ref.group, ref.kind) == ("", "Service")
        if not is_service and not (ref.group in _POOLS and ref.kind == "InferencePool"):
            return reference.problem(
                "InvalidKind", f"backends of kind {ref.group or 'core'}/{ref.kind} are not supported"
            )
        if namespace != reference.namespace and not self._index.permits(
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
        found = self._service(namespace, ref) if is_service else self._pool(namespace, ref)
        return reference.problem(found.reason, str(found)) if isinstance(found, ir.Problem) else found

    def pool(self, pool: InferencePool | XInferencePool) -> ir.Pool | ir.Problem:
        """Return what an InferencePool means, or why it cannot be served."""
        key = (pool.key.group, pool.key.namespace, pool.key.name)
        if key not in self._pools:
            found = pool_of(self._index, pool)
            self._pools[key] = found
            if isinstance(found, ir.Pool):
                self._assign(found, endpoints_of_pool(self._index, pool))
        return self._pools[key]

    def _pool(self, namespace: str, ref: HTTPBackendRef) -> ir.Pool | ir.Problem:
        pool = self._index.world.get(_POOLS[ref.group], namespace, ref.name)
        if pool is None:
            return ir.Problem(RESOLVED, "BackendNotFound", f"InferencePool {namespace}/{ref.name} does not exist")
        found = self.pool(pool)
        if isinstance(found, ir.Problem):
            return ir.Problem(RESOLVED, found.reason, f"{pool.key}: {found}")
        return found

    def _service(self, namespace: str, ref: HTTPBackendRef) -> ir.Service | ir.Problem:
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
        found = ir.Service(
            name=f"{namespace}/{name}:{number}",
            cluster=f"service/{namespace}/{name}/{number}",
            origin=str(service.key),
            h2c=port.app_protocol == _H2C,
        )
        self._assign(found, endpoints_of_service(self._index, service, port))
        return found

    def _assign(self, backend: ir.Backend, endpoints: tuple[ir.Endpoint, ...]) -> None:
        self.assignments[backend.cluster] = ir.Assignment(backend.cluster, backend.origin, endpoints)


def pool_of(index: Index, pool: InferencePool | XInferencePool) -> ir.Pool | ir.Problem:
    """Return what an InferencePool means, or why it cannot be served."""
    namespace, name = pool.key.namespace, pool.key.name
    picker: EndpointPickerRef | ExtensionRef | None
    if isinstance(pool, InferencePool):
        picker, field, prefix, shown = pool.spec.endpoint_picker_ref, "endpointPickerRef", "inferencepool", ""
        if pool.spec.app_protocol == _H2C:
            return ir.Problem(RESOLVED, "UnsupportedValue", "kubernetes.io/h2c is not built yet", "spec.appProtocol")
    else:
        picker, field, prefix = pool.spec.extension_ref, "extensionRef", "xinferencepool"
        # Both versions of the API may hold a pool of one name; the picker must tell them apart.
        shown = f"/{X_INFERENCE_GROUP}" if index.world.get(InferencePool, namespace, name) else ""
    if pool.unbuilt:
        return ir.Problem(RESOLVED, "UnsupportedValue", "is not built yet", pool.unbuilt[0])
    if picker is not None:
        if picker.kind != "Service" or picker.group != "":
            return ir.Problem(
                RESOLVED, "InvalidExtensionRef", f"kind {picker.kind} is not supported, only Service", f"spec.{field}"
            )
        if index.world.get(Service, namespace, picker.name) is not None:
            return ir.Problem(
                RESOLVED,
                "InvalidExtensionRef",
                f"Service {namespace}/{picker.name} exists: pickers other than Pointsman's own are not built yet",
                f"spec.{field}",
            )
    return ir.Pool(
        name=f"{namespace}/{name}{shown}",
        cluster=f"{prefix}/{namespace}/{name}",
        origin=str(pool.key),
        fail_open=picker is not None and picker.failure_mode == "FailOpen",
        models=tuple(model for model, problem in models_of(index, pool) if problem is None),
    )


def models_of(
    index: Index, pool: InferencePool | XInferencePool
) -> list[tuple[ir.Model, tuple[InferenceModel, str] | None]]:
    """Return the models declared for a pool, each with the object and reason that refuse it, or None.

    A name belongs to the oldest InferenceModel that claims it (v1alpha2, InferenceModel).
    """
    result: list[tuple[ir.Model, tuple[InferenceModel, str] | None]] = []
    seen: dict[str, InferenceModel] = {}
    for declared in index.models.get((pool.key.group, pool.key.namespace, pool.key.name), ()):
        spec = declared.spec
        targets = tuple(ir.Target(target.name, target.weight or 1) for target in spec.target_models)
        created = declared.metadata.creation_timestamp
        model = ir.Model(
            spec.model_name, spec.criticality or "Standard", targets, int(created.timestamp()) if created else 0
        )
        owner = seen.setdefault(spec.model_name, declared)
        result.append((model, None if owner is declared else (declared, f"{owner.key} has this modelName already")))
    return result


def endpoints_of_pool(index: Index, pool: InferencePool | XInferencePool) -> tuple[ir.Endpoint, ...]:
    """Return the ready pods that the pool selects, once for each of its ports."""
    if isinstance(pool, InferencePool):
        labels, ports = pool.spec.selector.match_labels, [port.number for port in pool.spec.target_ports]
    else:
        labels, ports = pool.spec.selector, [pool.spec.target_port_number]
    wanted = labels.items()
    return tuple(
        sorted(
            (
                ir.Endpoint(pod.addresses[0], pod.listening(port), _name(pod))
                for pod in index.pods.get(pool.key.namespace, ())
                if pod.ready and pod.addresses and wanted <= pod.metadata.labels.items()
                for port in ports
            ),
            key=lambda endpoint: (endpoint.address, endpoint.port),
        )
    )


def endpoints_of_service(index: Index, service: Service, port: ServicePort) -> tuple[ir.Endpoint, ...]:
    """Return the ready endpoints of a Service's port, from its EndpointSlices."""
    found: dict[tuple[str, int], ir.Endpoint] = {}
    for each in index.slices.get((service.key.namespace, service.key.name), ()):
        numbers = [own.port for own in each.ports if own.name == port.name and own.port is not None]
        for endpoint in each.endpoints:
            # Unknown counts as ready (discovery/v1, EndpointConditions.ready).
            if endpoint.conditions.ready is False or each.address_type == "FQDN":
                continue
            ref = endpoint.target_ref
            pod = f"{ref.namespace or service.key.namespace}/{ref.name}" if ref and ref.kind == "Pod" else ""
            for number in numbers:
                found[endpoint.addresses[0], number] = ir.Endpoint(endpoint.addresses[0], number, pod)
    return tuple(found[key] for key in sorted(found))


def _name(pod: Pod) -> str:
    return f"{pod.key.namespace}/{pod.key.name}"
