"""What became of the requests of a run, and the figures that are compared."""

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.scheduling.traces import Slo


@dataclass(frozen=True, slots=True)
class Outcome:
    """One request: when it was to be sent and was, when its first and its last token came (seconds from the start).

    `prompt` and `cached` are the tokens that the server counted; `error` says what went wrong, and then the rest is
    nothing.
    """

    due: float
    sent: float = 0.0
    first: float = 0.0
    last: float = 0.0
    answer: int = 0
    prompt: int = 0
    cached: int = 0
    error: str = ""

    @property
    def ttft(self) -> float:
        """Seconds from when the request was sent to its first token: that it was late is no router's doing."""
        return self.first - self.sent

    @property
    def tpot(self) -> float:
        """Mean seconds from one token to the next."""
        return (self.last - self.first) / (self.answer - 1) if self.answer > 1 else 0.0

    def keeps(self, slo: Slo) -> bool:
        """Whether it was as fast as it has to be."""
        return not self.error and self.ttft <= slo.ttft and self.tpot <= slo.tpot


@dataclass(frozen=True, slots=True)
class Figures:
    """What is reported of one router with one trace; times in milliseconds, shares from 0 to 1.

    `goodput` is the share of requests that keep the objective, `hits` the share of prompt tokens found cached.
    """

    requests: int
    failed: int
    ttft_mean: float
    ttft_p50: float
    ttft_p90: float
    ttft_p99: float
    tpot_p50: float
    tpot_p99: float
    goodput: float
    hits: float


def figures(outcomes: Sequence[Outcome], slo: Slo) -> Figures:
    """Work the figures out; failed requests count against the goodput and in nothing else."""
    good = [outcome for outcome in outcomes if not outcome.error]
    ttft = sorted(outcome.ttft * 1e3 for outcome in good)
    tpot = sorted(outcome.tpot * 1e3 for outcome in good)
    prompt = sum(outcome.prompt for outcome in good)
    return Figures(
        requests=len(outcomes),
        failed=len(outcomes) - len(good),
        ttft_mean=sum(ttft) / len(ttft) if ttft else 0.0,
        ttft_p50=percentile(ttft, 0.5),
        ttft_p90=percentile(ttft, 0.9),
        ttft_p99=percentile(ttft, 0.99),
        tpot_p50=percentile(tpot, 0.5),
        tpot_p99=percentile(tpot, 0.99),
        goodput=sum(outcome.keeps(slo) for outcome in outcomes) / len(outcomes) if outcomes else 0.0,
        hits=sum(outcome.cached for outcome in good) / prompt if prompt else 0.0,
    )


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that so many of the sorted `values` do not exceed; 0 of none."""
    return values[min(len(values) - 1, int(share * len(values)))] if values else 0.0
