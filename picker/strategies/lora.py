"""Where a LoRA adapter is loaded, or can be."""

from __future__ import annotations

from collections.abc import Sequence

from picker.decision import Request
from picker.table import Endpoint, Table

_LOADED, _ROOM, _WAITING, _FULL = 0.0, 1.0, 10.0, 20.0


def lora(request: Request, table: Table, endpoints: Sequence[Endpoint]) -> list[float] | None:
    """Work out what it takes to serve an adapter; nothing to say of a model that no pod has reported as one.

    cost = 0 where the adapter is loaded; 1 where there is room for one more, or the pod does not say; 10 where requests
    for it wait already; 20 where all places are taken by others

    Room costs since each adapter that a pod takes leaves less to the others.  Where there is none a request waits until
    all requests of one of the others are done, which under load is never.
    """
    if request.model not in table.adapters:
        return None
    return [_cost(request.model, endpoint) for endpoint in endpoints]


def _cost(model: str, endpoint: Endpoint) -> float:
    if model in endpoint.adapters:
        return _LOADED
    if not endpoint.adapter_limit or len(endpoint.adapters | endpoint.adapters_waiting) < endpoint.adapter_limit:
        return _ROOM
    return _WAITING if model in endpoint.adapters_waiting else _FULL
