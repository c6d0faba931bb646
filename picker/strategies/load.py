"""How busy a pod is, as it last reported and as our own count says since then.

Between two reports the choice leans on our own count: each request sent raises its pod's cost at once, which keeps a
burst from landing on the pod that looked best at the last scrape.  A pod that reports nothing counts as average.
"""

from __future__ import annotations

from collections.abc import Sequence

from picker.decision import Request
from picker.table import Endpoint, Table

# About a second of prefill on one GPU, which is what a request that has to wait waits for at least.
_PREFILL = 16_384.0


def queue(_request: Request, table: Table, endpoints: Sequence[Endpoint]) -> list[float]:
    """Count the requests that would be waiting before this one.

    cost = waiting + max(0, unreported - room), where unreported are those sent since the report, and room is what the
    pod can be expected to run at once beyond what it runs: peak - running, or nothing where somebody waits already.
    """
    mean, peak = table.mean_waiting, table.peak_running
    costs = []
    for endpoint in endpoints:
        if not endpoint.reported:
            costs.append(mean)
            continue
        waiting = endpoint.waiting
        unreported = endpoint.in_flight - endpoint.in_flight_at_scrape
        if unreported > 0:
            # A pod that lets requests wait is full: whatever came since waits too.
            room = 0.0 if waiting else peak - endpoint.running
            if unreported > room:
                waiting += unreported - room if room > 0.0 else unreported
        costs.append(waiting)
    return costs


def kv_cache(_request: Request, table: Table, endpoints: Sequence[Endpoint]) -> list[float]:
    """Read the share of the KV cache in use.

    cost = share in use, 0..1
    """
    mean = table.mean_kv_usage
    return [endpoint.kv_usage if endpoint.reported else mean for endpoint in endpoints]


def occupancy(_request: Request, table: Table, endpoints: Sequence[Endpoint]) -> list[float]:
    """Work out how full the pod is beside the fullest of the pool.

    cost = min(peak, running + unreported) / peak, where peak is the most requests that any pod of the pool runs; for a
    pod that reports nothing, in flight / peak
    """
    peak = table.peak_running
    costs = []
    for endpoint in endpoints:
        if not endpoint.reported:
            costs.append(endpoint.in_flight / peak)
            continue
        running = endpoint.running
        unreported = endpoint.in_flight - endpoint.in_flight_at_scrape
        if unreported > 0 and not endpoint.waiting and running < peak:
            running = min(peak, running + unreported)
        costs.append(running / peak)
    return costs


def prefill(_request: Request, _table: Table, endpoints: Sequence[Endpoint]) -> list[float]:
    """Work out what there is to compute before an answer begins, of which the pod's report cannot know.

    cost = estimated tokens sent there since its report / 16,384
    """
    return [
        (endpoint.tokens - endpoint.tokens_at_scrape) / _PREFILL if endpoint.tokens > endpoint.tokens_at_scrape else 0.0
        for endpoint in endpoints
    ]
