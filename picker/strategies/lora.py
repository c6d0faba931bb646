"""Where a LoRA adapter is loaded, or can be."""

from __future__ import annotations

from collections.abc import Sequence

from picker.decision import Request
from picker.table import Endpoint, Table

_LOADED, _ROOM, _WAITING, _FULL = 0.0, 0.2, 0.4, 1.0


def lora(request: Request, table: Table, endpoints: Sequence[Endpoint]) -> list[float] | None:
    """Work out what it takes to serve an adapter; nothing to say of a model that no pod has reported as one.

    cost = 0 where the adapter is loaded; 0.2 where there is room for one more, or the pod does not say; 0.4 where
    requests for it wait already; 1 where all places are taken by others
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
