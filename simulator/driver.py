"""Drives an engine by the event loop's clock and hands its tokens to the requests that wait for them.

One timer a pod, no task: an idle pod costs nothing. A paused driver's clock stands still, as a stopped process' would.
"""

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field

from simulator.engine import Engine, Job
from simulator.histogram import Histogram
from simulator.openai_answers import finish_reason
from simulator.openai_requests import Work
from simulator.spec import ServerSpec, Timing


@dataclass(slots=True, eq=False)
class Answer:
    """The answer to one request as it comes into being; `made` tokens are there, `cached` tokens were not computed."""

    id: int
    work: Work
    arrival: float
    made: int = 0
    cached: int = 0
    finished: bool = False
    _wake: asyncio.Future[None] | None = field(default=None, repr=False)

    async def more(self, than: int) -> int:
        """Wait for more than `than` tokens; how many there are."""
        while self.made <= than:
            self._wake = asyncio.get_running_loop().create_future()
            await self._wake
        return self.made

    async def completed(self) -> None:
        """Wait for the last token."""
        await self.more(self.work.answer_tokens - 1)

    def receive(self, *, last: bool, cached: int) -> None:
        """Take in one token."""
        self.made += 1
        self.cached = cached
        self.finished = last
        # An answer that is not streamed is not woken before it is complete.
        if self._wake is not None and not self._wake.done() and (last or self.work.stream):
            self._wake.set_result(None)


@dataclass(slots=True)
class Observations:
    """What the driver sees of requests: the reasons for which they ended, and times in seconds.

    `adapter_sets` holds, for each pair of (running, waiting) LoRA adapters that was ever seen, when it was last seen
    (seconds since the epoch), which is how vLLM's gauge vllm:lora_requests_info comes to have many series.
    """

    finished: Counter[str] = field(default_factory=Counter)
    first_token: Histogram = field(default_factory=Histogram)
    whole_request: Histogram = field(default_factory=Histogram)
    adapter_sets: dict[tuple[str, str], float] = field(default_factory=dict)


class Driver:
    """An engine in real time."""

    def __init__(self, spec: ServerSpec, timing: Timing) -> None:
        self.engine = Engine(spec, timing)
        self.seen = Observations()
        self._loop = asyncio.get_running_loop()
        self._lora = spec.lora_enabled
        self._answers: dict[int, Answer] = {}
        self._next_id = 0
        self._timer: asyncio.TimerHandle | None = None
        self._stopped_at: float | None = None
        self._lost = 0.0  # seconds for which the clock stood still

    def submit(self, work: Work) -> Answer:
        """Hand a request to the engine."""
        now = self._now()
        answer = Answer(self._next_id, work, now)
        self._next_id += 1
        self._answers[answer.id] = answer
        job = Job(answer.id, work.prompt_tokens, work.answer_tokens, work.hashes, work.adapter, work.transferred)
        self.engine.submit(job, now)
        self._note_adapters()
        self._arm()
        return answer

    def leave(self, answer: Answer) -> None:
        """Forget an answer; one that is not finished is aborted."""
        self._answers.pop(answer.id, None)
        if not answer.finished and self.engine.abort(answer.id, self._now()):
            self.seen.finished["abort"] += 1
            self._note_adapters()
            self._arm()

    def pause(self) -> None:
        """Stop the clock."""
        if self._stopped_at is None:
            self._stopped_at = self._now()
            self._disarm()

    def resume(self) -> None:
        """Let the clock go on from where it stands."""
        if self._stopped_at is not None:
            stopped_at, self._stopped_at = self._stopped_at, None
            self._lost += self._now() - stopped_at
            self._arm()

    def close(self) -> None:
        """Stop for good."""
        self.pause()

    def _now(self) -> float:
        return self._loop.time() - self._lost if self._stopped_at is None else self._stopped_at

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        self._disarm()
        due = self.engine.next_time
        if due is not None and self._stopped_at is None:
            self._timer = self._loop.call_at(due + self._lost, self._tick)

    def _tick(self) -> None:
        for token in self.engine.advance(self._now()):
            answer = self._answers.get(token.job)
            if answer is None:
                continue
            if not answer.made:
                self.seen.first_token.observe(token.at - answer.arrival)
            if token.last:
                self.seen.whole_request.observe(token.at - answer.arrival)
                self.seen.finished[finish_reason(answer.work)] += 1
            answer.receive(last=token.last, cached=token.cached)
        self._note_adapters()
        self._arm()

    def _note_adapters(self) -> None:
        if self._lora:
            running, waiting = self.engine.adapters()
            self.seen.adapter_sets[",".join(sorted(running)), ",".join(sorted(waiting))] = time.time()
