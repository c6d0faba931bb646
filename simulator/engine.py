"""The simulated engine: continuous batching over a KV cache, as a state machine that takes the clock as an argument.

Time passes in steps, as in vLLM's scheduler: each step decodes one token for every running sequence and spends what is
left of its token budget on prompts, oldest first; then it lasts as long as `Timing` says. Nothing here awaits or reads
a clock: `submit`, `abort` and `advance` are told the time in seconds, which must not go backwards.
"""

from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from simulator.cache import BlockCache, Lease
from simulator.spec import ServerSpec, Timing


@dataclass(frozen=True, slots=True)
class Job:
    """A request as the engine sees it: how long the prompt and the answer are, and the prompt's blocks by hash.

    `adapter` is the LoRA adapter's name, or None for the base model. The KV values of a prompt that is `transferred`
    come from another server: they take their room, and only the last token is computed.
    """

    id: int
    prompt_tokens: int
    answer_tokens: int
    hashes: tuple[int, ...] = ()
    adapter: str | None = None
    transferred: bool = False


@dataclass(frozen=True, slots=True)
class Token:
    """One token of a job's answer, made at the time `at`; `cached` prompt tokens were found in the cache."""

    job: int
    at: float
    last: bool
    cached: int


@dataclass(slots=True)
class Counts:
    """What the engine has done since it started, in tokens, except `preemptions` in times."""

    prompt: int = 0
    generated: int = 0
    queried: int = 0
    hits: int = 0
    preemptions: int = 0


@dataclass(slots=True, eq=False)
class _Sequence:
    job: Job
    arrival: float
    lease: Lease
    computed: int = 0  # tokens whose KV values are in the cache
    made: int = 0  # tokens of the answer
    scheduled: int = 0  # tokens that the present step computes
    cached: int = 0
    queried: bool = False

    @property
    def known(self) -> int:
        return self.job.prompt_tokens + self.made


@dataclass(slots=True)
class _Step:
    ends: float
    sequences: list[_Sequence] = field(default_factory=list)


class Engine:
    """The batch, the queue and the KV cache of one model server."""

    def __init__(self, spec: ServerSpec, timing: Timing) -> None:
        self.counts = Counts()
        self.cache = BlockCache(spec.num_blocks, spec.block_size)
        self._spec = spec
        self._timing = timing
        self._running: list[_Sequence] = []
        self._waiting: deque[_Sequence] = deque()
        self._jobs: dict[int, _Sequence] = {}
        self._step: _Step | None = None
        self._adapters: Counter[str] = Counter()  # of the running sequences

    @property
    def running(self) -> int:
        """Sequences in the batch."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """Jobs that wait for a place in the batch."""
        return len(self._waiting)

    @property
    def cache_usage(self) -> float:
        """The share of the KV cache that sequences hold, 0 to 1."""
        return self.cache.used / self.cache.capacity

    @property
    def next_time(self) -> float | None:
        """When `advance` has something to do; None while there is no work."""
        return self._step.ends if self._step else None

    def adapters(self) -> tuple[frozenset[str], frozenset[str]]:
        """Return the LoRA adapters of running and of waiting jobs."""
        waiting = frozenset(sequence.job.adapter for sequence in self._waiting if sequence.job.adapter)
        return frozenset(self._adapters), waiting

    def submit(self, job: Job, now: float) -> None:
        """Queue a job. Raises ValueError for one that the cache could not hold even alone."""
        if job.prompt_tokens + job.answer_tokens > self.cache.capacity * self.cache.block_size:
            raise ValueError(f"job {job.id} does not fit into the KV cache")
        sequence = _Sequence(job, now, Lease(job.hashes if self._spec.prefix_caching else ()))
        self._jobs[job.id] = sequence
        self._waiting.append(sequence)
        if self._step is None:
            self._begin(now)

    def abort(self, job: int, now: float) -> bool:
        """Drop a job, wherever it is. False when it is not there (any more)."""
        sequence = self._jobs.pop(job, None)
        if sequence is None:
            return False
        if sequence in self._running:
            self._leave(sequence)
        else:
            self._waiting.remove(sequence)
        if self._step is None:
            self._begin(now)
        return True

    def advance(self, now: float) -> list[Token]:
        """Let time pass until `now`; the tokens made meanwhile, in order of time."""
        tokens: list[Token] = []
        while self._step is not None and self._step.ends <= now:
            step = self._step
            tokens.extend(self._end(step))
            self._begin(step.ends)
        return tokens

    def _begin(self, now: float) -> None:
        """Choose what the next step computes. Without any work there is no step."""
        if not self._running and self._waiting:
            now = max(now, self._waiting[0].arrival)
        scheduled, preempted = self._continue_running()
        if not preempted:
            self._admit(scheduled, now)
        if not scheduled:
            self._step = None
            return
        decodes = sum(1 for sequence in scheduled if sequence.made and sequence.scheduled == 1)
        prefill = sum(sequence.scheduled for sequence in scheduled) - decodes
        timing = self._timing
        decoding = timing.decode * (1 + timing.decode_growth * (decodes - 1)) if decodes else 0.0
        self._step = _Step(now + decoding + prefill * timing.prefill, scheduled)

    def _continue_running(self) -> tuple[list[_Sequence], bool]:
        scheduled: list[_Sequence] = []
        budget = self._budget
        preempted = False
        place = 0
        while place < len(self._running) and budget:
            sequence = self._running[place]
            wanted = min(sequence.known - sequence.computed, budget)
            while not self.cache.extend(sequence.lease, sequence.computed + wanted):
                # The youngest makes room, and starts again when there is some: vLLM's preemption by recomputation.
                victim = self._running[-1]
                self._preempt(victim)
                preempted = True
                if victim is sequence:
                    return scheduled, preempted
            sequence.scheduled = wanted
            budget -= wanted
            scheduled.append(sequence)
            place += 1
        return scheduled, preempted

    def _admit(self, scheduled: list[_Sequence], now: float) -> None:
        budget = self._budget - sum(sequence.scheduled for sequence in scheduled)
        passed_over: list[_Sequence] = []
        while self._waiting and budget > 0 and len(self._running) < self._spec.max_num_seqs:
            sequence = self._waiting[0]
            if sequence.arrival > now:
                break
            if not self._adapter_fits(sequence.job.adapter):
                passed_over.append(self._waiting.popleft())
                continue
            # The last token is always computed: without it there is nothing to sample the answer from.
            hits = self.cache.match(sequence.lease.hashes[: (sequence.job.prompt_tokens - 1) // self.cache.block_size])
            found = hits * self.cache.block_size
            if sequence.job.transferred:
                found = sequence.job.prompt_tokens - 1
            wanted = min(sequence.known - found, budget)
            if not self.cache.extend(sequence.lease, found + wanted):
                break
            self._waiting.popleft()
            self._join(sequence, found)
            sequence.scheduled = wanted
            budget -= wanted
            scheduled.append(sequence)
        self._waiting.extendleft(reversed(passed_over))

    @property
    def _budget(self) -> int:
        # vLLM refuses a budget below the batch limit, so that every running sequence can decode in each step.
        return max(self._spec.max_batched_tokens, self._spec.max_num_seqs)

    def _adapter_fits(self, adapter: str | None) -> bool:
        return adapter is None or adapter in self._adapters or len(self._adapters) < self._spec.max_loras

    def _join(self, sequence: _Sequence, found: int) -> None:
        sequence.computed = found
        self._running.append(sequence)
        if sequence.job.adapter:
            self._adapters[sequence.job.adapter] += 1
        if not sequence.queried and self._spec.prefix_caching and not sequence.job.transferred:
            sequence.queried, sequence.cached = True, found
            self.counts.queried += sequence.job.prompt_tokens
            self.counts.hits += found

    def _leave(self, sequence: _Sequence) -> None:
        self._running.remove(sequence)
        self.cache.release(sequence.lease)
        adapter = sequence.job.adapter
        if adapter:
            self._adapters[adapter] -= 1
            if not self._adapters[adapter]:
                del self._adapters[adapter]
        sequence.scheduled = sequence.computed = 0

    def _preempt(self, sequence: _Sequence) -> None:
        self._leave(sequence)
        self._waiting.appendleft(sequence)
        self.counts.preemptions += 1

    def _end(self, step: _Step) -> Iterator[Token]:
        for sequence in step.sequences:
            if not sequence.scheduled:  # aborted meanwhile
                continue
            sequence.computed += sequence.scheduled
            sequence.scheduled = 0
            if sequence.computed < sequence.known:
                continue
            if not sequence.made:
                self.counts.prompt += sequence.job.prompt_tokens
            sequence.made += 1
            self.counts.generated += 1
            last = sequence.made == sequence.job.answer_tokens
            if last:
                del self._jobs[sequence.job.id]
                self._leave(sequence)
            yield Token(sequence.job.id, step.ends, last, sequence.cached)
