"""InferencePools: what they mean."""

from __future__ import annotations

from dataclasses import replace

from resources import X_INFERENCE_GROUP, InferencePool
from translators import ir
from translators.resolve.annotations import annotations_of
from translators.resolve.declared import models_of, objectives_of, rewrites_of
from translators.resolve.index import Index, PoolKey
from translators.resolve.pickers import H2C, RESOLVED, leaving_seat_of, picker_of, seat_of, stand_in_of
from translators.resolve.pool_kinds import AnyPool, picker_ref_of
from translators.resolve.traffic import traffic_of


def pool_of(index: Index, pool: AnyPool) -> ir.Pool | ir.Problem:
    """Return what an InferencePool means, or why it cannot be served."""
    if pool.unbuilt:
        return _unbuilt(pool)
    picker = picker_of(index, pool)
    if isinstance(picker, ir.Problem):
        return picker
    ref = picker_ref_of(pool)
    made = _meaning_of(index, pool)
    # Without the picker the servers of a split pool would not know where to meet.
    fail_open = made.split is None and ref is not None and ref.failure_mode == "FailOpen"
    stood_in = picker is not None and fail_open
    seat = seat_of(index, pool) if picker is None else stand_in_of(index, pool) if stood_in else None
    if isinstance(seat, ir.Problem):
        return seat
    leaving = leaving_seat_of(index, pool, seat) if picker is None and seat is not None else None
    return replace(
        made,
        fail_open=fail_open,
        picker=picker,
        seat=leaving or seat,
        next_seat=seat if leaving is not None else None,
        # Where our pickers have Services, one that is in the way leaves no place for ours.
        stand_in=stood_in and (seat is not None or not index.picker_services),
    )


def may_move(index: Index, key: PoolKey, meaning: ir.Pool | ir.Problem) -> bool:
    """Whether what a pool means may hang on which of our pickers answer: another one knows it than the one to ask."""
    if isinstance(meaning, ir.Problem) or meaning.seat is None:
        return False
    asked = meaning.seat.service
    return meaning.next_seat is not None or any(each.key.name != asked for each in index.known_at.get(key, ()))


def pool_for_others(index: Index, pool: AnyPool) -> ir.Pool | ir.Problem:
    """Return what an InferencePool means to the picker that it names, or why it cannot be picked for.

    The gateway is another's: it sends no copies of requests to prefill, so that every pod has to do both.
    """
    return _unbuilt(pool) if pool.unbuilt else replace(_meaning_of(index, pool), split=None)


def _unbuilt(pool: AnyPool) -> ir.Problem:
    return ir.Problem(RESOLVED, "UnsupportedValue", "is not built yet", pool.unbuilt[0])


def _meaning_of(index: Index, pool: AnyPool) -> ir.Pool:
    namespace, name = pool.key.namespace, pool.key.name
    stable = isinstance(pool, InferencePool)
    # Both versions of the API may hold a pool of one name; the picker must tell them apart.
    shown = "" if stable or not index.world.get(InferencePool, namespace, name) else f"/{X_INFERENCE_GROUP}"
    traffic = traffic_of(index, pool)
    said = annotations_of(pool)
    return ir.Pool(
        name=f"{namespace}/{name}{shown}",
        cluster=f"{'inferencepool' if stable else 'xinferencepool'}/{namespace}/{name}",
        origin=str(pool.key),
        fail_open=False,
        h2c=isinstance(pool, InferencePool) and pool.spec.app_protocol == H2C,
        runtime=traffic.runtime or said.runtime,
        strategy=said.strategy,
        unlisted=said.unlisted,
        thresholds=said.thresholds,
        metric_names=said.metric_names,
        models=models_of(index, pool),
        objectives=objectives_of(index, pool),
        rewrites=rewrites_of(index, pool),
        split=traffic.split,
    )


def advice_on(pool: AnyPool) -> tuple[ir.Problem, ...]:
    """Return what is wrong with a pool that is served all the same."""
    return annotations_of(pool).problems
