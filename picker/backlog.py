"""What a pod was sent and has not computed yet: tokens of prompts, as far as can be told from outside.

A pod that has a long prompt before it says that it runs one request and lets none wait, like one that has nothing to
do.  But it counts the first tokens that it made, and computes prompts in the order in which they came (vLLM's and
SGLang's default).  So:

1. A prompt is *open* from when it is sent until its first token, its end, or a report that excludes it.
2. A report closes as many, the oldest first, as there are new first tokens, less those of requests whose end was heard
   before; and more until there are no more open than the pod runs and lets wait.
3. Of the oldest open prompt a part is computed already.  What is `left` therefore sinks with time, by the pod's `rate`,
   within what the reports allow: no more than all open prompts, no less than all but the oldest.
4. The rate (tokens a second) is learnt: what was closed while something was open all the time, by that time.

A pod that does not count first tokens is believed to have computed by its report whatever was sent before it.
Nothing here awaits or reads a clock; times are seconds of the rim's.
"""

from __future__ import annotations

from collections import OrderedDict
from itertools import takewhile

# An episode's length is known to one interval between reports: it counts when it has several of them, and is cut when
# it goes on, since under load it never ends.
_REPORTS, _CUT = 3, 10
# Beyond so many tokens what was learnt counts half.
_MEMORY = 65_536.0


class Backlog:
    """The open prompts of one pod.

    `left` is how many tokens there were to compute `at` a time, which sink by `rate` a second; `sent` counts all
    prompts, and is the next one's ticket; `counted` says that the pod counts its first tokens.
    """

    __slots__ = (
        "_closed",
        "_done",
        "_firsts",
        "_open",
        "_reports",
        "_seconds",
        "_since",
        "_tokens",
        "_total",
        "at",
        "counted",
        "left",
        "rate",
        "sent",
    )

    def __init__(self) -> None:
        self.left = 0.0
        self.at = 0.0
        self.rate = 0.0
        self.counted = False
        self.sent = 0
        self._open: OrderedDict[int, float] = OrderedDict()
        self._total = 0.0
        self._firsts: float | None = None
        # Requests that ended while they were open: their first tokens are in a report to come.
        self._closed = 0.0
        # The present episode: since when something is open, how many reports there were, and what was closed.
        self._since = 0.0
        self._reports = 0
        self._done = 0.0
        # What the rate is made of.
        self._tokens = 0.0
        self._seconds = 0.0

    def __len__(self) -> int:
        return len(self._open)

    def remaining(self, now: float) -> float:
        """Return how many tokens are left to compute."""
        return max(0.0, self.left - self.rate * (now - self.at)) if now > self.at else self.left

    def add(self, tokens: float, now: float) -> int:
        """Open a prompt of so many tokens; returns its ticket."""
        if not self._open:
            self._begin(now)
        self.left = self.remaining(now) + tokens
        self.at = max(self.at, now)
        ticket = self.sent
        self.sent += 1
        self._open[ticket] = tokens
        self._total += tokens
        return ticket

    def end(self, ticket: int, *, answered: bool) -> None:
        """Take in that a request ended, with an answer of that pod or without."""
        if ticket in self._open:
            tokens = self._close(ticket)
            if answered:
                self._closed += 1
                self._done += tokens
            self.left = min(self.left, self._total)

    def report(self, firsts: float | None, sent: int, held: float, now: float) -> None:
        """Take in a report: first tokens made since the pod started, requests that it runs or lets wait.

        `sent` is what it was when the pod was asked.
        """
        remaining = self.remaining(now)
        before, self._firsts = self._firsts, firsts
        self.counted = firsts is not None
        if firsts is None:
            held = new = 0.0
        elif before is None:
            new = 0.0
        else:
            # A count that is lower than before is that of a pod that was started anew.
            new = firsts - before if firsts >= before else firsts
        heard, self._closed = min(new, self._closed), max(0.0, self._closed - new)
        count = max(new - heard, self._sent_before(sent) - held)
        while count > 0 and self._open and next(iter(self._open)) < sent:
            self._done += self._close(next(iter(self._open)))
            count -= 1
        if not held:
            self._closed = 0.0
        head = next(iter(self._open.values()), 0.0)
        self.left = min(self._total, max(remaining, self._total - head))
        if firsts is not None:
            self._reports += 1
            if self._reports >= (_CUT if self._open else _REPORTS) and self._done:
                self._learn(self._done, now - self._since - (0.0 if self._open else (now - self.at) / 2))
                self._begin(now)
            elif not self._open:
                self._begin(now)
        self.at = now

    def clear(self) -> None:
        """Forget all open prompts."""
        self._open.clear()
        self._total = self.left = self._closed = 0.0

    def _sent_before(self, sent: int) -> int:
        younger = sum(1 for _ in takewhile(lambda ticket: ticket >= sent, reversed(self._open)))
        return len(self._open) - younger

    def _close(self, ticket: int) -> float:
        tokens = self._open.pop(ticket)
        # Nothing open has no tokens, whatever sums of fractions leave.
        self._total = max(0.0, self._total - tokens) if self._open else 0.0
        return tokens

    def _begin(self, now: float) -> None:
        self._since, self._reports, self._done = now, 0, 0.0

    def _learn(self, tokens: float, seconds: float) -> None:
        if seconds <= 0.0:
            return
        self._tokens += tokens
        self._seconds += seconds
        if self._tokens > _MEMORY:
            self._tokens /= 2
            self._seconds /= 2
        self.rate = self._tokens / self._seconds
