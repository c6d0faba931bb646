"""InferencePools: what they mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from resources import (
    RUNTIME_ANNOTATION,
    STRATEGY_ANNOTATION,
    UNLISTED_ANNOTATION,
    X_INFERENCE_GROUP,
    InferencePool,
)
from translators import ir
from translators.resolve.declared import models_of, objectives_of, rewrites_of
from translators.resolve.index import Index
from translators.resolve.pickers import H2C, RESOLVED, picker_of, seat_of
from translators.resolve.pool_kinds import AnyPool, picker_ref_of
from translators.resolve.traffic import RUNTIMES, traffic_of

T = TypeVar("T")


_STRATEGIES: Mapping[str, ir.Strategy] = {"default": "default", "prefix_cache": "prefix cache"}


def pool_of(index: Index, pool: AnyPool) -> ir.Pool | ir.Problem:
    """Return what an InferencePool means, or why it cannot be served."""
    namespace, name = pool.key.namespace, pool.key.name
    stable = isinstance(pool, InferencePool)
    # Both versions of the API may hold a pool of one name; the picker must tell them apart.
    shown = "" if stable or not index.world.get(InferencePool, namespace, name) else f"/{X_INFERENCE_GROUP}"
    if pool.unbuilt:
        return ir.Problem(RESOLVED, "UnsupportedValue", "is not built yet", pool.unbuilt[0])
    picker = picker_of(index, pool)
    if isinstance(picker, ir.Problem):
        return picker
    seat = seat_of(index, pool) if picker is None else None
    if isinstance(seat, ir.Problem):
        return seat
    ref = picker_ref_of(pool)
    traffic = traffic_of(index, pool)
    return ir.Pool(
        name=f"{namespace}/{name}{shown}",
        cluster=f"{'inferencepool' if stable else 'xinferencepool'}/{namespace}/{name}",
        origin=str(pool.key),
        # Without the picker the servers of a split pool would not know where to meet.
        fail_open=traffic.split is None and ref is not None and ref.failure_mode == "FailOpen",
        picker=picker,
        seat=seat,
        h2c=isinstance(pool, InferencePool) and pool.spec.app_protocol == H2C,
        runtime=traffic.runtime or _annotated(pool, RUNTIME_ANNOTATION, RUNTIMES, "vllm")[0],
        strategy=_annotated(pool, STRATEGY_ANNOTATION, _STRATEGIES, "default")[0],
        unlisted=_annotated(pool, UNLISTED_ANNOTATION, _unlisted(pool), _unlisted(pool)["serve"])[0],
        models=models_of(index, pool),
        objectives=objectives_of(index, pool),
        rewrites=rewrites_of(index, pool),
        split=traffic.split,
    )


def advice_on(pool: AnyPool) -> tuple[ir.Problem, ...]:
    """Return what is wrong with a pool that is served all the same: annotations whose defaults apply."""
    found = (
        _annotated(pool, RUNTIME_ANNOTATION, RUNTIMES, "vllm")[1],
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
