"""Which endpoint serves a request: a pure function over a plain table, apart from all I/O.

A `Profile` is a row of filters, a row of weighted scorers and one pick.  A scorer gives every candidate a *cost*:
lower is better, and 1.0 is what one request that has to wait weighs.  Costs are absolute, never normalised over the
candidates, so that a queue of one against none does not count as much as a queue of a hundred against none.

The default profile adds up three:

- `queue`: requests waiting, as reported, and of those sent since then as many as the pod cannot be expected to run at
  once;
- `kv_cache`: the share of the KV cache in use, as reported;
- `occupancy`: requests running, reported or expected to run, as a share of the most that any pod of the pool runs.

So a pod with nobody waiting comes before one with somebody waiting; among those, the emptier one.  Between two reports
the choice leans on our own count: each request sent raises its pod's cost at once, which keeps a burst from landing on
the pod that looked best at the last scrape.

The second seat of the decision (inside Envoy) works from the same table; whatever is added here has to be a function
of the request and the table alone.  The dice are an argument: a callable that returns a float in [0, 1).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf
from typing import TypeAlias

from msgspec import Struct

from picker.table import Endpoint, Table

Dice: TypeAlias = Callable[[], float]


class Request(Struct, frozen=True, gc=False):
    """What a decision may know of the request.

    `subset` holds the addresses to which the gateway confines the choice (Endpoint Picker Protocol, subset hint);
    None when it confines nothing.
    """

    model: str = ""
    subset: frozenset[str] | None = None


Filter: TypeAlias = Callable[[Request, Sequence[Endpoint]], Sequence[Endpoint]]
Scorer: TypeAlias = Callable[[Request, Table, Sequence[Endpoint]], list[float]]
Pick: TypeAlias = Callable[[Sequence[Endpoint], list[float], Dice], tuple[Endpoint, ...]]

# Envoy walks the list when an attempt fails; its retry policy makes two further attempts.
ALTERNATIVES = 2


class Decision(Struct, frozen=True, gc=False):
    """The endpoints in order, the picked one first, and the figures on which the choice rested."""

    endpoints: tuple[Endpoint, ...]
    waiting: float
    running: float
    kv_usage: float
    unreported: int
    reported: bool
    avoided: bool
    candidates: int

    @property
    def picked(self) -> Endpoint:
        """The endpoint to ask first."""
        return self.endpoints[0]

    @property
    def basis(self) -> str:
        """The figures as a short text for the log, such as ``waiting=3 kv=0.41 running=8 in_flight=2 of=4``."""
        seen = (
            f"waiting={self.waiting:.0f} kv={self.kv_usage:.2f} running={self.running:.0f} in_flight={self.unreported}"
            if self.reported
            else f"no metrics in_flight={self.unreported}"
        )
        return f"{seen} of={self.candidates}{' all avoided' if self.avoided else ''}"


@dataclass(frozen=True, slots=True)
class Profile:
    """Filters in order, scorers with their weights, and the pick that turns costs into an order."""

    filters: tuple[Filter, ...]
    scorers: tuple[tuple[Scorer, float], ...]
    pick: Pick

    def decide(self, request: Request, table: Table, dice: Dice) -> Decision | None:
        """Choose endpoints for the request; None when there is none to choose from."""
        candidates: Sequence[Endpoint] = table.endpoints
        for narrow in self.filters:
            candidates = narrow(request, candidates)
        if not candidates:
            return None
        costs = [0.0] * len(candidates)
        for scorer, weight in self.scorers:
            costs = [cost + weight * more for cost, more in zip(costs, scorer(request, table, candidates), strict=True)]
        endpoints = self.pick(candidates, costs, dice)
        picked = endpoints[0]
        return Decision(
            endpoints,
            picked.waiting,
            picked.running,
            picked.kv_usage,
            picked.in_flight - picked.in_flight_at_scrape if picked.in_flight > picked.in_flight_at_scrape else 0,
            picked.reported,
            picked.avoided,
            len(candidates),
        )


def within_subset(request: Request, endpoints: Sequence[Endpoint]) -> Sequence[Endpoint]:
    """Keep those that the gateway allows for this request."""
    if request.subset is None:
        return endpoints
    return [endpoint for endpoint in endpoints if endpoint.address in request.subset]


def not_avoided(_request: Request, endpoints: Sequence[Endpoint]) -> Sequence[Endpoint]:
    """Keep those that are not avoided; all of them when every one is avoided.

    Avoidance is our opinion: where it would leave nobody, asking a suspected pod is better than a sure 503.
    """
    kept = [endpoint for endpoint in endpoints if not endpoint.avoided]
    return kept or endpoints


def queue(_request: Request, table: Table, endpoints: Sequence[Endpoint]) -> list[float]:
    """Count the requests that would be waiting before this one."""
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
    """Read the share of the KV cache in use, 0..1."""
    mean = table.mean_kv_usage
    return [endpoint.kv_usage if endpoint.reported else mean for endpoint in endpoints]


def occupancy(_request: Request, table: Table, endpoints: Sequence[Endpoint]) -> list[float]:
    """Work out the requests running (for a pod that reports nothing: sent there) as a share of the pool's peak."""
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


def cheapest(endpoints: Sequence[Endpoint], costs: list[float], dice: Dice) -> tuple[Endpoint, ...]:
    """Order the cheapest endpoint and its alternatives; equals are drawn at random.  Uses up `costs`."""
    if len(endpoints) == 1:
        return (endpoints[0],)
    chosen = []
    for _ in range(min(len(costs), 1 + ALTERNATIVES)):
        lowest = min(costs)
        index = costs.index(lowest)
        ties = costs.count(lowest)
        if ties > 1:
            for _ in range(int(dice() * ties)):
                index = costs.index(lowest, index + 1)
        chosen.append(endpoints[index])
        costs[index] = inf
    return tuple(chosen)


DEFAULT_PROFILE = Profile(
    filters=(within_subset, not_avoided),
    scorers=((queue, 1.0), (kv_cache, 1.0), (occupancy, 1.0)),
    pick=cheapest,
)
