"""Which endpoint serves a request: a pure function over a plain table, apart from all I/O.

A `Profile` is a row of filters, a row of weighted scorers and one pick.  A filter narrows the candidates, and has a
reason to give when it leaves nobody.  A scorer gives every candidate a *cost*: lower is better, and 1.0 is what one
request that has to wait weighs.  Costs are absolute, never normalised over the candidates, so that a queue of one
against none does not count as much as a queue of a hundred against none.  The pick orders the candidates by the sums.

The callables themselves, and the profiles made of them, are in `picker.strategies`.

The second seat of the decision (inside Envoy) works from the same table; whatever is added here has to be a function
of the request and the table alone.  The dice are an argument: a callable that returns a float in [0, 1).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import add
from typing import TypeAlias

from msgspec import Struct

from picker.table import Endpoint, Table

Dice: TypeAlias = Callable[[], float]


class Request(Struct, frozen=True, gc=False):
    """What a decision may know of the request.

    `model` is the name under which servers know it.  `subset` holds the addresses to which the gateway confines the
    choice (Endpoint Picker Protocol, subset hint); None when it confines nothing.  `chain` is the prompt's prefix
    (`picker.prompt`), empty where it was not read.  `sheddable`: it may be refused when all are busy.
    """

    model: str = ""
    subset: frozenset[str] | None = None
    chain: Sequence[int] = ()
    sheddable: bool = False


Filter: TypeAlias = Callable[[Request, Table, Sequence[Endpoint]], Sequence[Endpoint]]
# A cost for each candidate; None where the scorer has nothing to say of this request.
Scorer: TypeAlias = Callable[[Request, Table, Sequence[Endpoint]], list[float] | None]
# The positions of the candidates to ask, in order, at least one; it may use up the costs.
Pick: TypeAlias = Callable[[list[float], Dice], list[int]]

NO_READY_ENDPOINT = "no_ready_endpoint"


class Drained(Struct, frozen=True, gc=False):
    """Nobody is left to choose from, and why: the reason of the filter that left nobody."""

    reason: str


class Trace(Struct, frozen=True):
    """A decision in full: for each candidate its costs by scorer, weights included, and their sum."""

    endpoints: tuple[Endpoint, ...]
    costs: tuple[tuple[str, list[float]], ...]
    totals: list[float]

    def rows(self) -> list[dict[str, object]]:
        """Write it out for the log, the cheapest first."""
        places = sorted(range(len(self.totals)), key=self.totals.__getitem__)
        return [
            {
                "pod": self.endpoints[place].pod,
                "address": self.endpoints[place].address,
                "cost": round(self.totals[place], 3),
                **{name: round(costs[place], 3) for name, costs in self.costs},
            }
            for place in places
        ]


class Decision(Struct, frozen=True, gc=False):
    """The endpoints in order, the picked one first, and the figures on which the choice rested.

    `reason` names what told the picked endpoint from the next one: the scorer that saw the greatest advantage in it;
    "draw" when they were equal; "only" when there was no other.
    """

    endpoints: tuple[Endpoint, ...]
    waiting: float
    running: float
    kv_usage: float
    unreported: int
    reported: bool
    avoided: bool
    candidates: int
    reason: str
    trace: Trace | None = None

    @property
    def picked(self) -> Endpoint:
        """The endpoint to ask first."""
        return self.endpoints[0]

    @property
    def basis(self) -> str:
        """The figures as a short text for the log: ``waiting=3 kv=0.41 running=8 in_flight=2 of=4 by=queue``."""
        seen = (
            f"waiting={self.waiting:.0f} kv={self.kv_usage:.2f} running={self.running:.0f} in_flight={self.unreported}"
            if self.reported
            else f"no metrics in_flight={self.unreported}"
        )
        return f"{seen} of={self.candidates} by={self.reason}{' all avoided' if self.avoided else ''}"


@dataclass(frozen=True, slots=True)
class Profile:
    """Filters in order, each with the reason why nobody may be left; scorers with their weights; and the pick.

    `reads_prompt` says that a scorer wants the request's chain.
    """

    filters: tuple[tuple[Filter, str], ...]
    scorers: tuple[tuple[Scorer, float], ...]
    pick: Pick
    reads_prompt: bool = False

    def decide(self, request: Request, table: Table, dice: Dice, *, explain: bool = False) -> Decision | Drained:
        """Choose endpoints for the request; `explain` keeps a trace."""
        candidates: Sequence[Endpoint] = table.endpoints
        if not candidates:
            return Drained(NO_READY_ENDPOINT)
        for narrow, reason in self.filters:
            candidates = narrow(request, table, candidates)
            if not candidates:
                return Drained(reason)
        totals: list[float] | None = None
        opinions: list[tuple[str, list[float]]] = []
        for scorer, weight in self.scorers:
            costs = scorer(request, table, candidates)
            if costs is not None:
                if weight != 1.0:
                    costs = [weight * cost for cost in costs]
                totals = costs if totals is None else list(map(add, totals, costs))
                opinions.append((scorer.__name__, costs))
        totals = [0.0] * len(candidates) if totals is None else list(totals)
        trace = Trace(tuple(candidates), tuple(opinions), list(totals)) if explain else None
        order = self.pick(totals, dice)
        picked = candidates[order[0]]
        return Decision(
            tuple([candidates[place] for place in order]),
            picked.waiting,
            picked.running,
            picked.kv_usage,
            picked.in_flight - picked.in_flight_at_scrape if picked.in_flight > picked.in_flight_at_scrape else 0,
            picked.reported,
            picked.avoided,
            len(candidates),
            _reason(opinions, order),
            trace,
        )


def _reason(opinions: list[tuple[str, list[float]]], order: list[int]) -> str:
    if len(order) == 1:
        return "only"
    first, second = order[0], order[1]
    greatest, reason = 0.0, "draw"
    for name, costs in opinions:
        advantage = costs[second] - costs[first]
        if advantage > greatest:
            greatest, reason = advantage, name
    return reason
