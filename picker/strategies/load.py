"""How busy a pod is, as it last reported and as our own count says since then.

Between two reports the choice leans on our own count: each request sent raises its pod's cost at once, which keeps a
burst from landing on the pod that looked best at the last scrape.  A pod that reports nothing counts as average.
"""

from __future__ import annotations

from collections.abc import Sequence

from picker.decision import Request
from picker.table import Endpoint, Table

WAIT = 1_024.0
"""How many tokens of prompts, to compute before an answer begins, weigh as much as one request that waits."""

_FEW, _ROOM = 10.0, 4.0


def queue(_request: Request, table: Table, endpoints: Sequence[Endpoint]) -> list[float]:
    """Count the requests that would be waiting before this one.

    cost = waiting + max(0, unreported - room), where unreported are those sent since the report, and room is what the
    pod can be expected to run at once beyond what it runs: peak - running, or nothing where somebody waits already.

    While a pod has room for more they wait for prompts to be computed, and no longer: that is `prefill`'s to count.
    """
    return _queue(table, endpoints, table.peak_running)


def line(_request: Request, table: Table, endpoints: Sequence[Endpoint]) -> list[float]:
    """Count the same, but that a pod where nobody waits can be expected to run a few at once, whatever others ran.

    cost = that of `queue`, with a room of at least 4 - running

    In a quiet pool nobody has run more than one yet: the next round of a conversation, sent before the pod told of the
    last one's end, would seem to wait.
    """
    return _queue(table, endpoints, max(_ROOM, table.peak_running))


def _queue(table: Table, endpoints: Sequence[Endpoint], most: float) -> list[float]:
    mean, peak = table.mean_waiting, table.peak_running
    costs = []
    for endpoint in endpoints:
        if not endpoint.reported:
            costs.append(mean)
            continue
        waiting = endpoint.waiting
        if waiting and endpoint.backlog.counted and endpoint.running < peak and endpoint.kv_usage <= table.kv_threshold:
            waiting = 0.0
        unreported = endpoint.in_flight - endpoint.in_flight_at_scrape
        if unreported > 0:
            # A pod that lets requests wait is full: whatever came since waits too.
            room = 0.0 if waiting else max(0.0, most - endpoint.running)
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

    Unreported are those sent since the report, less those that ended since: what has just served the only request of an
    idle pool is no full pod, and where that prompt's next round belongs. Of a pod that lets requests wait others run.
    """
    return _occupancy(endpoints, table.peak_running)


def company(_request: Request, table: Table, endpoints: Sequence[Endpoint]) -> list[float]:
    """Work out the same, but that a few requests are no load, whatever others run.

    cost = that of `occupancy` with a peak of at least 10

    Servers run dozens of requests at once. In a quiet pool one of them would outweigh what a short prompt has cached,
    and that one is likely the round before, of which the pod or the log has not told yet that it ended.
    """
    return _occupancy(endpoints, max(_FEW, table.peak_running))


def _occupancy(endpoints: Sequence[Endpoint], peak: float) -> list[float]:
    costs = []
    for endpoint in endpoints:
        if not endpoint.reported:
            costs.append(endpoint.in_flight / peak)
            continue
        running = endpoint.running
        unreported = endpoint.in_flight - endpoint.in_flight_at_scrape
        if unreported and not endpoint.waiting:
            running = max(0.0, min(peak, running + unreported))
        costs.append(running / peak)
    return costs


def prefill(_request: Request, table: Table, endpoints: Sequence[Endpoint]) -> list[float]:
    """Work out what there is to compute before the prompt's turn comes.

    cost = tokens of prompts that were sent there and are not computed yet (`picker.backlog`) / 1,024
    """
    now = table.used_at
    costs = []
    for endpoint in endpoints:
        backlog = endpoint.backlog
        left = backlog.left
        if left and now > backlog.at:
            left -= backlog.rate * (now - backlog.at)
        costs.append(left / WAIT if left > 0.0 else 0.0)
    return costs
