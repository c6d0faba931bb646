"""Whom a request may go to at all."""

from __future__ import annotations

from collections.abc import Sequence

from picker.decision import Request
from picker.table import Endpoint, Table

SATURATED = "saturated"


def within_subset(request: Request, _table: Table, endpoints: Sequence[Endpoint]) -> Sequence[Endpoint]:
    """Keep those that the gateway allows for this request."""
    if request.subset is None:
        return endpoints
    return [endpoint for endpoint in endpoints if endpoint.address in request.subset]


def not_avoided(_request: Request, _table: Table, endpoints: Sequence[Endpoint]) -> Sequence[Endpoint]:
    """Keep those that are known to answer; where there are none, those not known to fail; else all of them.

    Avoidance is our opinion: where it would leave nobody, asking a suspected pod is better than a sure 503.
    """
    kept = [endpoint for endpoint in endpoints if not endpoint.passed_over]
    return kept or [endpoint for endpoint in endpoints if not endpoint.avoided] or endpoints


def room_for_sheddable(request: Request, table: Table, endpoints: Sequence[Endpoint]) -> Sequence[Endpoint]:
    """Leave nobody to a request that may be shed when all are saturated; everybody otherwise.

    saturated = waiting > queue threshold, or share of the KV cache > its threshold, both as reported: a request on its
    way into the batch is reported as waiting for a moment, so one that waits does not say that those sent since do too.
    A pod that reports nothing is not saturated: what is unknown is no reason to turn away.
    """
    if not request.sheddable:
        return endpoints
    queue, kv_cache = table.queue_threshold, table.kv_threshold
    for endpoint in endpoints:
        if not endpoint.reported or (endpoint.waiting <= queue and endpoint.kv_usage <= kv_cache):
            return endpoints
    return ()
