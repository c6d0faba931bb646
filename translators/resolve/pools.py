"""InferencePools: what they mean, who picks for them, and which endpoints stand behind them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from resources import (
    ACTIVE_PORTS_ANNOTATIONS,
    OWN_PICKER_LABEL,
    RUNTIME_ANNOTATION,
    STRATEGY_ANNOTATION,
    UNLISTED_ANNOTATION,
    X_INFERENCE_GROUP,
    InferencePool,
    Pod,
    Service,
    XInferencePool,
)
from translators import ir
from translators.resolve.declared import models_of, objectives_of, rewrites_of
from translators.resolve.index import Index
from translators.resolve.pool_kinds import AnyPickerRef, AnyPool, labels_of, picker_field_of, picker_ref_of, ports_of

T = TypeVar("T")

RESOLVED = "ResolvedRefs"
H2C = "kubernetes.io/h2c"
_BAD_PICKER = "InvalidExtensionRef"

_RUNTIMES: Mapping[str, ir.Runtime] = {
    "vllm": "vllm",
    "sglang": "sglang",
    "tensorrt-llm": "tensorrt-llm",
    "trt-llm": "tensorrt-llm",
    "trtllm": "tensorrt-llm",
    "triton": "triton",
    "triton-tensorrt-llm": "triton",
    "tgi": "tgi",
}
_STRATEGIES: Mapping[str, ir.Strategy] = {"default": "default", "prefix_cache": "prefix cache"}


def pool_of(index: Index, pool: AnyPool) -> ir.Pool | ir.Problem:
    """Return what an InferencePool means, or why it cannot be served."""
    namespace, name = pool.key.namespace, pool.key.name
    stable = isinstance(pool, InferencePool)
    # Both versions of the API may hold a pool of one name; the picker must tell them apart.
    shown = "" if stable or not index.world.get(InferencePool, namespace, name) else f"/{X_INFERENCE_GROUP}"
    if pool.unbuilt:
        return ir.Problem(RESOLVED, "UnsupportedValue", "is not built yet", pool.unbuilt[0])
    picker = picker_ref_of(pool)
    if picker is not None and (refused := _flaw_of_picker(index, pool, picker)) is not None:
        return refused
    return ir.Pool(
        name=f"{namespace}/{name}{shown}",
        cluster=f"{'inferencepool' if stable else 'xinferencepool'}/{namespace}/{name}",
        origin=str(pool.key),
        fail_open=picker is not None and picker.failure_mode == "FailOpen",
        h2c=isinstance(pool, InferencePool) and pool.spec.app_protocol == H2C,
        runtime=_annotated(pool, RUNTIME_ANNOTATION, _RUNTIMES, "vllm")[0],
        strategy=_annotated(pool, STRATEGY_ANNOTATION, _STRATEGIES, "default")[0],
        unlisted=_annotated(pool, UNLISTED_ANNOTATION, _unlisted(pool), _unlisted(pool)["serve"])[0],
        models=models_of(index, pool),
        objectives=objectives_of(index, pool),
        rewrites=rewrites_of(index, pool),
    )


def advice_on(pool: AnyPool) -> tuple[ir.Problem, ...]:
    """Return what is wrong with a pool that is served all the same: annotations whose defaults apply."""
    found = (
        _annotated(pool, RUNTIME_ANNOTATION, _RUNTIMES, "vllm")[1],
        _annotated(pool, STRATEGY_ANNOTATION, _STRATEGIES, "default")[1],
        _annotated(pool, UNLISTED_ANNOTATION, _unlisted(pool), "standard")[1],
    )
    return tuple(problem for problem in found if problem is not None)


def _unlisted(pool: AnyPool) -> Mapping[str, ir.Unlisted]:
    # v1alpha2 takes a model without InferenceModel for sheddable; v1 knows no InferenceModel, and priority 0 is kept.
    return {"serve": "standard" if isinstance(pool, InferencePool) else "sheddable", "refuse": "refused"}


def _annotated(pool: AnyPool, name: str, values: Mapping[str, T], default: T) -> tuple[T, ir.Problem | None]:
    """Return what an annotation says, and the problem if its value is unknown."""
    text = pool.metadata.annotations.get(name)
    if text is None:
        return default, None
    value = values.get(text.strip().lower())
    if value is not None:
        return value, None
    known = ", ".join(each.upper() if name == STRATEGY_ANNOTATION else each for each in values)
    message = f"{text!r} is none of {known}; the default applies"
    return default, ir.Problem(ir.ADVICE, "UnsupportedValue", message, f"metadata.annotations[{name}]")


def _flaw_of_picker(index: Index, pool: AnyPool, picker: AnyPickerRef) -> ir.Problem | None:
    """Return why the pool's picker cannot be asked, or None where our own picks.

    Ours picks where a Service with our label is named. A v1alpha2 pool is ours too when the Service does not exist:
    products of that version make the Service themselves from the pool. A v1 pool means the Service that it names.
    """
    namespace, field = pool.key.namespace, picker_field_of(pool)
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


def endpoints_of_pool(index: Index, pool: AnyPool) -> tuple[ir.Endpoint, ...]:
    """Return the ready pods that the pool selects, once for each of its ports that is active."""
    wanted, ports = labels_of(pool).items(), ports_of(pool)
    return tuple(
        sorted(
            (
                ir.Endpoint(pod.addresses[0], pod.listening(port), f"{pod.key.namespace}/{pod.key.name}")
                for pod in index.pods.get(pool.key.namespace, ())
                if pod.ready and pod.addresses and wanted <= pod.metadata.labels.items()
                for port in _active(pod, ports)
            ),
            key=lambda endpoint: (endpoint.address, endpoint.port),
        )
    )


def _active(pod: Pod, ports: list[int]) -> list[int]:
    """Return the ports that a pod serves on at present: all, unless an annotation lists them."""
    annotations = pod.metadata.annotations
    listed = next((annotations[name] for name in ACTIVE_PORTS_ANNOTATIONS if name in annotations), None)
    if listed is None:
        return ports
    active = {word.strip() for word in listed.split(",")}
    return [port for port in ports if str(port) in active]
