"""What the picker knows of the endpoints of a pool: a plain table, one row for each endpoint.

Rows are written by the scraper, by the count of requests in flight and by the probes; `picker.decision` only reads
them. Nothing here awaits, reads a clock or draws a die.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import inf

from picker.backlog import Backlog
from picker.prefixes import Prefixes

# Names of adapters come and go with rollouts.
_ADAPTERS_LIMIT = 4096
# The last thirty requests or so make the mean.
_SETTLING = 1 / 32
# Until requests tell: English text in JSON has about 4 bytes to a token of the prompt, and bodies are about this long.
_BYTES_PER_TOKEN, _BODY = 4.0, 4096.0
# Whatever a server says of itself stays within these.
_FEWEST_BYTES, _MOST_BYTES = 0.5, 64.0


@dataclass(slots=True, eq=False)
class Endpoint:
    """One row: a model server, by the address under which Envoy knows it.

    `waiting`, `running` (requests) and `kv_usage` (0..1) are as the pod last reported them, all zero until `reported`.
    `in_flight` counts the requests that this picker sent there and that Envoy has not reported finished;
    `in_flight_at_scrape` is what that count was when the pod wrote its last report, so that the difference is what the
    report cannot know of.  `backlog` is what of their prompts the pod has not computed yet, `prefixes` what it has
    likely cached.

    `avoided` is one that fails; `passed_over` as well one that was never asked, of which nobody knows that it serves.

    `adapters` are the LoRA adapters that the pod runs requests of, `adapters_waiting` those that it lets wait, and
    `adapter_limit` how many fit at once (0: it does not say).  `served` are the models that it lists, adapters
    included, each with the time of its creation (seconds since the epoch).
    """

    address: str
    pod: str
    waiting: float = 0.0
    running: float = 0.0
    kv_usage: float = 0.0
    reported: bool = False
    in_flight: int = 0
    in_flight_at_scrape: int = 0
    reported_at: float = -inf
    adapters: frozenset[str] = frozenset()
    adapters_waiting: frozenset[str] = frozenset()
    adapter_limit: int = 0
    unreachable: bool = False
    failing: bool = False
    idle_since: float | None = None
    avoided: bool = field(default=False, init=False)
    passed_over: bool = field(default=True, init=False)
    backlog: Backlog = field(default_factory=Backlog, init=False)
    prefixes: Prefixes = field(default_factory=Prefixes, init=False)
    served: Mapping[str, int] = field(default_factory=dict, init=False)
    _asked: bool = field(default=False, init=False)

    @property
    def unreported(self) -> int:
        """Requests sent there since its last report.  Never negative: requests also finish between two reports."""
        return max(0, self.in_flight - self.in_flight_at_scrape)

    def begin(self, tokens: float = 0.0, now: float = 0.0) -> int:
        """Count a request sent to this endpoint, with the tokens that it has to compute; returns its ticket."""
        self.in_flight += 1
        return self.backlog.add(tokens, now)

    def end(self, ticket: int, *, answered: bool = True) -> None:
        """Count a request finished there, with an answer of this endpoint or without."""
        if self.in_flight > 0:
            self.in_flight -= 1
        self.backlog.end(ticket, answered=answered)

    def report(
        self,
        waiting: float,
        running: float,
        kv_usage: float,
        in_flight: int,
        now: float,
        *,
        firsts: float | None = None,
        sent: int | None = None,
    ) -> None:
        """Take over what the pod says of itself, `firsts` being how many first tokens it has made since it started.

        `in_flight` and `sent` (`Backlog.sent`, what it is now unless given) are our own counts when it was asked.
        """
        self.waiting = waiting
        self.running = running
        self.kv_usage = kv_usage
        self.in_flight_at_scrape = min(in_flight, self.in_flight)
        self.backlog.report(firsts, self.backlog.sent if sent is None else sent, waiting + running, now)
        self.reported = True
        self.reported_at = now
        if waiting or running:
            self.idle_since = None
        elif self.idle_since is None:
            self.idle_since = now

    def report_adapters(self, running: frozenset[str], waiting: frozenset[str], limit: int) -> None:
        """Take over what the pod says of its LoRA adapters."""
        self.adapters, self.adapters_waiting, self.adapter_limit = running, waiting, limit

    def unreport(self) -> None:
        """Forget the pod's figures: it has none that could be read or they are old, which is not about its health."""
        self.waiting = self.running = self.kv_usage = 0.0
        self.reported = False
        self.in_flight_at_scrape = 0
        self.adapters = self.adapters_waiting = frozenset()
        self.adapter_limit = 0
        self.idle_since = None

    def mark_reachable(self, *, reachable: bool) -> bool:
        """Note whether the pod answers at all; True when that makes or ends its being avoided."""
        self.unreachable = not reachable
        self._asked = True
        return self._settle()

    def mark_failing(self, *, failing: bool) -> bool:
        """Note whether our own probe fails there; True when that makes or ends its being avoided."""
        self.failing = failing
        return self._settle()

    def _settle(self) -> bool:
        before = self.avoided
        self.avoided = self.unreachable or self.failing
        self.passed_over = self.avoided or not self._asked
        return before != self.avoided


@dataclass(slots=True, eq=False)
class Table:
    """The rows of one pool and what all of them together say.

    `used_at` (seconds of the rim's clock) is when a request last asked for the pool.
    `peak_running` is the most requests that any of them runs at once: as much as a pod of this pool is known to hold
    without queueing.  The means stand in for a pod that reports nothing.  Beyond `queue_threshold` (requests waiting)
    or `kv_threshold` (0..1) a pod is saturated.  `adapters` are all names of LoRA adapters that pods reported.
    `mean_tokens` is how many tokens a prompt has, as far as the access log tells, for those whose length is not known,
    and `bytes_per_token` how many bytes of a body make one.  `served` are all models that pods list, with their times.
    """

    endpoints: tuple[Endpoint, ...] = ()
    used_at: float = -inf
    peak_running: float = 1.0
    mean_waiting: float = 0.0
    mean_kv_usage: float = 0.0
    queue_threshold: float = 5.0
    kv_threshold: float = 0.8
    adapters: set[str] = field(default_factory=set)
    mean_tokens: float = 0.0
    bytes_per_token: float = _BYTES_PER_TOKEN
    served: Mapping[str, int] = field(default_factory=dict, init=False)
    _mean_body: float = field(default=_BODY, init=False)
    _mean_prompt: float = field(default=_BODY / _BYTES_PER_TOKEN, init=False)

    def replace(self, endpoints: Iterable[Endpoint]) -> None:
        """Take other rows; those that stay keep what is known of them, being the same objects."""
        self.endpoints = tuple(endpoints)
        self.list_served()
        self.refresh()

    def refresh(self) -> None:
        """Work out the figures over all rows again, after a row's report."""
        if len(self.adapters) > _ADAPTERS_LIMIT:
            self.adapters.clear()
        waiting = kv_usage = 0.0
        peak = 1.0
        reporting = 0
        for endpoint in self.endpoints:
            if endpoint.reported:
                reporting += 1
                waiting += endpoint.waiting
                kv_usage += endpoint.kv_usage
                peak = max(peak, endpoint.running)
                if endpoint.adapter_limit:
                    self.adapters |= endpoint.adapters | endpoint.adapters_waiting
        self.peak_running = peak
        self.mean_waiting = waiting / reporting if reporting else 0.0
        self.mean_kv_usage = kv_usage / reporting if reporting else 0.0

    def list_served(self) -> None:
        """Add up again what the rows' pods serve."""
        self.served = {name: created for endpoint in self.endpoints for name, created in endpoint.served.items()}

    def settle(self, body: float, prompt: float | None = None) -> None:
        """Take in how long a finished request's body was (bytes), and how many tokens its prompt had, if that is told.

        The rate is that of sums, so that long prompts, which matter, count for more than short ones.
        """
        if prompt:
            self._mean_body += (body - self._mean_body) * _SETTLING
            self._mean_prompt += (prompt - self._mean_prompt) * _SETTLING
            self.bytes_per_token = min(_MOST_BYTES, max(_FEWEST_BYTES, self._mean_body / self._mean_prompt))
        tokens = prompt or body / self.bytes_per_token
        self.mean_tokens += (tokens - self.mean_tokens) * _SETTLING
