"""How much of a prompt a pod has cached, and when that is no reason any more to go there."""

from __future__ import annotations

from collections.abc import Sequence

from picker.decision import Request
from picker.prompt import ENDS
from picker.strategies.load import WAIT
from picker.table import Endpoint, Table

# How many requests a pod may have beyond its share without a word, and how far beyond the mean its share goes.
_SLACK = 8.0
_SHARE = 1.5


def prefix_cache(request: Request, table: Table, endpoints: Sequence[Endpoint]) -> list[float] | None:
    """Work out what of the prompt the pod would have to compute anew.

    cost = tokens of whole blocks that the pod has not cached / 1,024; nothing to say of a request without a prompt
    """
    chain = request.chain
    if not chain:
        return None
    length, unit = ENDS[len(chain)], table.bytes_per_token * WAIT
    costs, near = [], 0
    for endpoint in endpoints:
        blocks = endpoint.prefixes.match(chain, near)
        near = blocks or near
        costs.append((length - ENDS[blocks]) / unit)
    return costs


def overload(request: Request, _table: Table, endpoints: Sequence[Endpoint]) -> list[float] | None:
    """Count the requests that a pod has beyond what it may for the sake of its cache.

    cost = max(0, load - 1.5 * mean - 8), where load is waiting, running and unreported requests together, and mean is
    that of the candidates.

    Queues alone would not do: model servers run hundreds of requests at once before one waits, and slow down
    meanwhile.
    """
    if not request.chain:
        return None
    loads = []
    for endpoint in endpoints:
        unreported = endpoint.in_flight - endpoint.in_flight_at_scrape if endpoint.reported else endpoint.in_flight
        loads.append(endpoint.waiting + endpoint.running + max(0, unreported))
    allowed = _SHARE * sum(loads) / len(loads) + _SLACK
    return [load - allowed if load > allowed else 0.0 for load in loads]
