"""What the access log tells of finished requests, added up: once for each, whatever names it is shown under.

A tally belongs to one combination of gateway, route, pool, model, target model and status.  All of these are the
configuration's own words or few by nature, save the models' names, which clients choose: those that the pool does not
list are "other", requests without one "none".  Beyond `LIMIT` combinations everything is "other".
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, TypeAlias

LIMIT = 4096
OTHER = "other"

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)
DECISION_SECONDS = (25e-6, 50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 50e-3)
BYTES = tuple(float(64 * 4**power) for power in range(11))
SHARES = (0.0, 0.25, 0.5, 0.75, 0.9, 0.99)
# OpenTelemetry's (gen_ai.client.token.usage, gen_ai.server.time_per_output_token), the latter with finer steps below.
TOKENS = tuple(float(4**power) for power in range(14))
TOKEN_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)


class Key(NamedTuple):
    """What a tally belongs to.  `status` is the code of the answer, 0 for none."""

    gateway: str
    route: str
    pool: str
    model: str
    target: str
    status: int


class Spread:
    """A histogram: how many values there are up to each bound, beyond the last, and their sum."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def merge(self, other: Spread) -> None:
        """Count the values of another with the same bounds."""
        self.counts = [one + two for one, two in zip(self.counts, other.counts, strict=True)]
        self.total += other.total

    def cumulated(self) -> list[tuple[str, float]]:
        """Write the counts as Prometheus does."""
        rows, below = [], 0
        for bound, count in zip((*map(str, map(float, self.bounds)), "+Inf"), self.counts, strict=True):
            below += count
            rows.append((bound, float(below)))
        return rows


class Tally:
    """Of the requests of one key: times in seconds, sizes in bytes, counts of tokens.

    `cached` is the share of the prompt that the picker took for cached, and `cached_tokens` what the server said.
    Answers that stream have a `first_token` and, from then on, a time `per_token`; `overall_per_token` is the whole
    time over the tokens of the answer.
    """

    __slots__ = (
        "answers",
        "bodies",
        "cached",
        "cached_tokens",
        "completion_tokens",
        "count",
        "decision",
        "duration",
        "first_byte",
        "first_token",
        "overall_per_token",
        "per_token",
        "prompt_tokens",
    )

    def __init__(self) -> None:
        self.count = 0
        self.decision = Spread(DECISION_SECONDS)
        self.duration = Spread(SECONDS)
        self.first_byte = Spread(SECONDS)
        self.bodies = Spread(BYTES)
        self.answers = Spread(BYTES)
        self.cached = Spread(SHARES)
        self.first_token = Spread(SECONDS)
        self.per_token = Spread(TOKEN_SECONDS)
        self.overall_per_token = Spread(TOKEN_SECONDS)
        self.prompt_tokens = Spread(TOKENS)
        self.cached_tokens = Spread(TOKENS)
        self.completion_tokens = Spread(TOKENS)


class Tallies:
    """All tallies, by key."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._tallies: dict[Key, Tally] = {}

    def __iter__(self) -> Iterator[tuple[Key, Tally]]:
        return iter(list(self._tallies.items()))

    def of(self, key: Key) -> Tally:
        """Return the tally of a key."""
        tally = self._tallies.get(key)
        if tally is None:
            if len(self._tallies) >= self._limit:
                key = Key(OTHER, OTHER, OTHER, OTHER, OTHER, key.status // 100 * 100)
            tally = self._tallies.setdefault(key, Tally())
        return tally


Labels: TypeAlias = tuple[str, ...]


def merged(
    tallies: Iterable[tuple[Key, Tally]], labels: Callable[[Key], Labels | None], figure: Callable[[Tally], Spread]
) -> dict[Labels, Spread]:
    """Add one figure up over all keys with the same labels; None leaves a key out."""
    found: dict[Labels, Spread] = {}
    for key, tally in tallies:
        group = labels(key)
        if group is not None:
            spread = figure(tally)
            found.setdefault(group, Spread(spread.bounds)).merge(spread)
    return found


def counted(tallies: Iterable[tuple[Key, Tally]], labels: Callable[[Key], Labels | None]) -> dict[Labels, int]:
    """Count the requests of all keys with the same labels; None leaves a key out."""
    found: dict[Labels, int] = {}
    for key, tally in tallies:
        group = labels(key)
        if group is not None:
            found[group] = found.get(group, 0) + tally.count
    return found
