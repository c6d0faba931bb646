"""A histogram of durations, cheap to add to."""

from bisect import bisect_left
from collections.abc import Iterator
from itertools import accumulate

# Upper bounds in seconds; vLLM's own for the time to the first token and for the whole request, thinned out.
BOUNDS = (0.001, 0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.25, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 640.0)


class Histogram:
    """Counts of durations (in seconds) by upper bound."""

    __slots__ = ("_counts", "total")

    def __init__(self) -> None:
        self._counts = [0] * (len(BOUNDS) + 1)
        self.total = 0.0

    def observe(self, seconds: float) -> None:
        """Add one duration."""
        self._counts[bisect_left(BOUNDS, seconds)] += 1
        self.total += seconds

    def cumulative(self) -> Iterator[tuple[str, int]]:
        """Pair each bound, as Prometheus writes it, with the number of durations that do not exceed it."""
        labels = [*map(str, BOUNDS), "+Inf"]
        return zip(labels, accumulate(self._counts), strict=True)
