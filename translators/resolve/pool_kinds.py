"""InferencePool in both versions of its API, read alike."""

from __future__ import annotations

from resources import (
    INFERENCE_GROUP,
    X_INFERENCE_GROUP,
    EndpointPickerRef,
    ExtensionRef,
    InferencePool,
    World,
    XInferencePool,
)

AnyPool = InferencePool | XInferencePool
AnyPickerRef = EndpointPickerRef | ExtensionRef

KINDS: dict[str, type[AnyPool]] = {INFERENCE_GROUP: InferencePool, X_INFERENCE_GROUP: XInferencePool}


def all_pools(world: World) -> list[AnyPool]:
    """Return the pools of both versions."""
    return [*world.all(InferencePool).values(), *world.all(XInferencePool).values()]


def picker_ref_of(pool: AnyPool) -> AnyPickerRef | None:
    """Return the reference to the picker."""
    return pool.spec.endpoint_picker_ref if isinstance(pool, InferencePool) else pool.spec.extension_ref


def picker_field_of(pool: AnyPool) -> str:
    """Return the field of that reference."""
    return "spec.endpointPickerRef" if isinstance(pool, InferencePool) else "spec.extensionRef"


def labels_of(pool: AnyPool) -> dict[str, str]:
    """Return the labels of the pool's pods."""
    return dict(pool.spec.selector.match_labels if isinstance(pool, InferencePool) else pool.spec.selector)


def ports_of(pool: AnyPool) -> list[int]:
    """Return the ports of each of the pool's pods."""
    if isinstance(pool, InferencePool):
        return [port.number for port in pool.spec.target_ports]
    return [pool.spec.target_port_number]
