from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.engine import Engine, Job, Token
from simulator.spec import ServerSpec, Timing

TIMING = Timing(prefill=0.001, decode=0.01, decode_growth=0.0)
SPEC = ServerSpec(
    dialect="vllm",
    model="m",
    served_names=("m",),
    port=8000,
    max_model_len=64,
    max_num_seqs=4,
    max_batched_tokens=32,
    block_size=4,
    num_blocks=16,
    gpu_memory_utilization=0.9,
    lora_enabled=True,
    max_loras=1,
)


def run(engine: Engine, until: float = 1e9) -> list[Token]:
    """Advance from step to step, as the event loop does."""
    tokens: list[Token] = []
    while (due := engine.next_time) is not None and due <= until:
        tokens.extend(engine.advance(due))
    return tokens


def prompt(length: int, kind: int = 0, block_size: int = 4) -> tuple[int, ...]:
    return tuple(kind * 1000 + place for place in range(length // block_size))


def test_a_prompt_that_comes_from_another_server_is_not_computed_and_takes_its_room() -> None:
    engine = Engine(SPEC, TIMING)
    engine.submit(Job(1, 40, 2, prompt(40), transferred=True), 0.0)
    assert engine.cache.used == 10
    assert [token.at for token in run(engine)] == pytest.approx([0.001, 0.011])
    assert (engine.counts.queried, engine.counts.hits) == (0, 0)


def test_a_request_alone() -> None:
    engine = Engine(SPEC, TIMING)
    engine.submit(Job(1, prompt_tokens=10, answer_tokens=3), 5.0)
    assert engine.running == 1
    assert [token.at for token in run(engine)] == pytest.approx([5.010, 5.020, 5.030])
    assert (engine.running, engine.cache_usage, engine.next_time) == (0, 0.0, None)
    assert (engine.counts.prompt, engine.counts.generated) == (10, 3)


def test_decoding_grows_slightly_with_the_batch() -> None:
    engine = Engine(SPEC, replace(TIMING, decode_growth=0.5, prefill=0.0))
    engine.submit(Job(1, 4, 2), 0.0)
    engine.submit(Job(2, 4, 2), 0.0)
    # Job 2 joins when the step of job 1's prompt, which takes no time, is over.
    tokens = run(engine)
    assert [token.job for token in tokens] == [1, 1, 2, 2]
    assert [token.at for token in tokens] == pytest.approx([0.0, 0.01, 0.01, 0.02])


def test_a_long_prompt_is_computed_in_chunks_of_the_token_budget() -> None:
    engine = Engine(SPEC, TIMING)
    engine.submit(Job(1, 50, 1), 0.0)
    assert engine.advance(0.032) == []
    assert engine.cache.used == 13
    assert [token.at for token in run(engine)] == pytest.approx([0.050])


def test_the_batch_limit_makes_a_queue() -> None:
    engine = Engine(replace(SPEC, max_num_seqs=1), TIMING)
    for job in (1, 2, 3):
        engine.submit(Job(job, 4, 2), 0.0)
    assert (engine.running, engine.waiting) == (1, 2)
    assert [token.job for token in run(engine)] == [1, 1, 2, 2, 3, 3]


def test_a_known_prefix_is_not_computed_again() -> None:
    engine = Engine(SPEC, TIMING)
    engine.submit(Job(1, 17, 1, prompt(17)), 0.0)
    run(engine)
    engine.submit(Job(2, 17, 1, prompt(17)), 1.0)
    token = run(engine)[0]
    assert token.cached == 16
    assert token.at == pytest.approx(1.001)
    assert (engine.counts.queried, engine.counts.hits) == (34, 16)


def test_the_last_token_is_computed_even_if_all_is_known() -> None:
    engine = Engine(SPEC, TIMING)
    engine.submit(Job(1, 16, 1, prompt(16)), 0.0)
    run(engine)
    engine.submit(Job(2, 16, 1, prompt(16)), 1.0)
    assert run(engine)[0].cached == 12


def test_the_least_recently_used_prefix_is_evicted_first_and_its_end_before_its_beginning() -> None:
    engine = Engine(replace(SPEC, num_blocks=8, max_model_len=32), TIMING)
    cached = []
    for job, kind in enumerate((1, 2, 1, 3, 1, 2)):
        engine.submit(Job(job, 13, 1, prompt(13, kind)), float(job))
        cached.append(run(engine)[-1].cached)
    # Prompt 3 needs two blocks more than are free: the last two of prompt 2.
    assert cached == [0, 0, 12, 0, 12, 4]


def test_preemption_when_the_cache_is_full() -> None:
    engine = Engine(replace(SPEC, num_blocks=4, max_model_len=16), TIMING)
    engine.submit(Job(1, 6, 10), 0.0)
    engine.submit(Job(2, 6, 10), 0.0)
    tokens = run(engine)
    assert engine.counts.preemptions > 0
    assert [token.job for token in tokens if token.last] == [1, 2]
    assert sorted(token.job for token in tokens) == [1] * 10 + [2] * 10


def test_adapters_beyond_the_limit_wait_and_others_pass() -> None:
    engine = Engine(SPEC, TIMING)
    engine.submit(Job(1, 4, 3, adapter="a"), 0.0)
    engine.submit(Job(2, 4, 1, adapter="b"), 0.0)
    engine.submit(Job(3, 4, 1), 0.0)
    assert engine.adapters() == (frozenset({"a"}), frozenset({"b"}))
    assert [token.job for token in run(engine) if token.last] == [3, 1, 2]


def test_a_job_that_never_fits_is_refused() -> None:
    with pytest.raises(ValueError, match="job 1 does not fit"):
        Engine(SPEC, TIMING).submit(Job(1, 64, 1), 0.0)


def test_abort_gives_everything_back() -> None:
    engine = Engine(replace(SPEC, max_num_seqs=1), TIMING)
    engine.submit(Job(1, 8, 5, adapter="a"), 0.0)
    engine.submit(Job(2, 8, 5), 0.0)
    assert engine.abort(1, 0.001)
    assert engine.abort(2, 0.001)
    assert not engine.abort(2, 0.001)
    assert run(engine) == []
    assert (engine.running, engine.waiting, engine.cache.used) == (0, 0, 0)
    engine.submit(Job(3, 8, 1), 5.0)
    assert [token.at for token in run(engine)] == pytest.approx([5.008])


def test_a_late_clock_does_not_serve_a_job_before_it_came() -> None:
    engine = Engine(SPEC, TIMING)
    engine.submit(Job(1, 4, 2), 0.0)
    engine.submit(Job(2, 4, 1), 0.5)
    second = next(token for token in engine.advance(9.0) if token.job == 2)
    assert second.at == pytest.approx(0.504)


@dataclass(frozen=True)
class Arrival:
    after: float
    prompt: int
    answer: int
    kind: int
    abort_after: float | None
    transferred: bool


arrivals = st.lists(
    st.builds(
        Arrival,
        after=st.floats(0, 0.05),
        prompt=st.integers(1, 40),
        answer=st.integers(1, 24),
        kind=st.integers(0, 2),
        abort_after=st.none() | st.floats(0, 0.1),
        transferred=st.booleans(),
    ),
    max_size=25,
)


@given(arrivals, st.integers(16, 24), st.integers(1, 5), st.integers(1, 40), st.booleans())
def test_what_goes_in_comes_out(jobs: list[Arrival], blocks: int, seqs: int, budget: int, caching: bool) -> None:  # noqa: FBT001  (hypothesis passes by place)
    spec = replace(SPEC, num_blocks=blocks, max_num_seqs=seqs, max_batched_tokens=budget, prefix_caching=caching)
    engine = Engine(spec, TIMING)
    now = 0.0
    events: list[tuple[float, int, Arrival | None]] = []
    for number, arrival in enumerate(jobs):
        now += arrival.after
        events.append((now, number, arrival))
        if arrival.abort_after is not None:
            events.append((now + arrival.abort_after, number, None))
    tokens: list[Token] = []
    aborted: set[int] = set()
    for at, number, coming in sorted(events, key=lambda event: (event[0], event[1], event[2] is None)):
        while (due := engine.next_time) is not None and due <= at:
            tokens.extend(engine.advance(due))
            _check(engine, spec)
        if coming is None:
            if engine.abort(number, at):
                aborted.add(number)
        else:
            hashes = prompt(coming.prompt, coming.kind)
            engine.submit(Job(number, coming.prompt, coming.answer, hashes, transferred=coming.transferred), at)
        _check(engine, spec)
    tokens.extend(run(engine))

    made = {number: [token for token in tokens if token.job == number] for number in range(len(jobs))}
    for number, arrival in enumerate(jobs):
        if number in aborted:
            assert len(made[number]) < arrival.answer
        else:
            assert [token.last for token in made[number]] == [False] * (arrival.answer - 1) + [True]
    assert [token.at for token in tokens] == sorted(token.at for token in tokens)
    assert (engine.running, engine.waiting, engine.cache.used) == (0, 0, 0)
    assert engine.counts.generated == len(tokens)
    assert engine.counts.hits <= engine.counts.queried


def _check(engine: Engine, spec: ServerSpec) -> None:
    assert engine.running <= spec.max_num_seqs
    assert 0 <= engine.cache.used + engine.cache.idle <= engine.cache.capacity
    assert 0.0 <= engine.cache_usage <= 1.0


@given(st.lists(st.integers(1, 30), min_size=1, max_size=20), st.integers(1, 4))
def test_first_come_first_served(lengths: list[int], seqs: int) -> None:
    spec = replace(SPEC, num_blocks=200, max_num_seqs=seqs, prefix_caching=False)
    engine = Engine(spec, TIMING)
    for number, length in enumerate(lengths):
        engine.submit(Job(number, length, 3), 0.0)
    firsts: list[int] = []
    for token in run(engine):
        if token.job not in firsts:
            firsts.append(token.job)
    assert firsts == list(range(len(lengths)))
