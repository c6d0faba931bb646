"""InferencePools: what they mean, who picks for them, and which endpoints stand behind them."""

from __future__ import annotations

from resources import (
    INFERENCE_GROUP,
    OWN_PICKER_LABEL,
    X_INFERENCE_GROUP,
    EndpointPickerRef,
    ExtensionRef,
    InferenceModel,
    InferencePool,
    Pod,
    Service,
    World,
    XInferencePool,
)
from translators import ir
from translators.resolve.index import Index

AnyPool = InferencePool | XInferencePool

RESOLVED = "ResolvedRefs"
KINDS: dict[str, type[AnyPool]] = {INFERENCE_GROUP: InferencePool, X_INFERENCE_GROUP: XInferencePool}
H2C = "kubernetes.io/h2c"
_BAD_PICKER = "InvalidExtensionRef"


def all_pools(world: World) -> list[AnyPool]:
    """Return the pools of both versions of the API."""
    return [*world.all(InferencePool).values(), *world.all(XInferencePool).values()]


def pool_of(index: Index, pool: AnyPool) -> ir.Pool | ir.Problem:
    """Return what an InferencePool means, or why it cannot be served."""
    namespace, name = pool.key.namespace, pool.key.name
    picker: EndpointPickerRef | ExtensionRef | None
    if isinstance(pool, InferencePool):
        picker, prefix, shown = pool.spec.endpoint_picker_ref, "inferencepool", ""
        if pool.spec.app_protocol == H2C:
            return ir.Problem(RESOLVED, "UnsupportedValue", "kubernetes.io/h2c is not built yet", "spec.appProtocol")
    else:
        picker, prefix = pool.spec.extension_ref, "xinferencepool"
        # Both versions of the API may hold a pool of one name; the picker must tell them apart.
        shown = f"/{X_INFERENCE_GROUP}" if index.world.get(InferencePool, namespace, name) else ""
    if pool.unbuilt:
        return ir.Problem(RESOLVED, "UnsupportedValue", "is not built yet", pool.unbuilt[0])
    if picker is not None and (refused := _flaw_of_picker(index, pool, picker)) is not None:
        return refused
    return ir.Pool(
        name=f"{namespace}/{name}{shown}",
        cluster=f"{prefix}/{namespace}/{name}",
        origin=str(pool.key),
        fail_open=picker is not None and picker.failure_mode == "FailOpen",
        models=tuple(model for model, problem in models_of(index, pool) if problem is None),
    )


def _flaw_of_picker(index: Index, pool: AnyPool, picker: EndpointPickerRef | ExtensionRef) -> ir.Problem | None:
    """Return why the pool's picker cannot be asked, or None where our own picks.

    Ours picks where a Service with our label is named. A v1alpha2 pool is ours too when the Service does not exist:
    products of that version make the Service themselves from the pool. A v1 pool means the Service that it names.
    """
    namespace = pool.key.namespace
    field = "spec.endpointPickerRef" if isinstance(pool, InferencePool) else "spec.extensionRef"
    if picker.kind != "Service" or picker.group != "":
        return ir.Problem(RESOLVED, _BAD_PICKER, f"kind {picker.kind} is not supported, only Service", field)
    service = index.world.get(Service, namespace, picker.name)
    if service is None:
        if isinstance(pool, XInferencePool):
            return None
        return ir.Problem(RESOLVED, _BAD_PICKER, f"Service {namespace}/{picker.name} does not exist", field)
    if service.metadata.labels.get(OWN_PICKER_LABEL) == "true":
        return None
    text = f"{service.key} exists: pickers other than Pointsman's own are not built yet"
    return ir.Problem(RESOLVED, _BAD_PICKER, text, field)


def models_of(index: Index, pool: AnyPool) -> list[tuple[ir.Model, tuple[InferenceModel, str] | None]]:
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


def endpoints_of_pool(index: Index, pool: AnyPool) -> tuple[ir.Endpoint, ...]:
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


def _name(pod: Pod) -> str:
    return f"{pod.key.namespace}/{pod.key.name}"
