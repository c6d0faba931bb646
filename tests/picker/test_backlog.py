from __future__ import annotations

from collections import deque
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from picker.backlog import Backlog


def test_the_oldest_prompts_are_closed_by_first_tokens() -> None:
    backlog = Backlog()
    backlog.report(7, 0, 0, 0.0)
    for tokens in (100, 200, 400):
        backlog.add(tokens, 0.0)
    assert backlog.left == 700
    backlog.report(8, 3, 3, 0.1)
    assert (len(backlog), backlog.left) == (2, 600)
    backlog.report(8, 3, 3, 0.2)
    assert backlog.left == 600
    backlog.report(10, 3, 3, 0.3)
    assert (len(backlog), backlog.left) == (0, 0)


def test_what_ended_before_its_first_token_was_reported_closes_nobody_else() -> None:
    backlog = Backlog()
    backlog.report(0, 0, 0, 0.0)
    first, _ = backlog.add(100, 0.0), backlog.add(900, 0.0)
    backlog.end(first, answered=True)
    assert backlog.left == 900
    backlog.report(1, 2, 1, 0.1)
    assert (len(backlog), backlog.left) == (1, 900)


def test_what_failed_made_no_first_token() -> None:
    backlog = Backlog()
    backlog.report(0, 0, 0, 0.0)
    failed, _ = backlog.add(100, 0.0), backlog.add(900, 0.0)
    backlog.end(failed, answered=False)
    backlog.report(1, 2, 1, 0.1)
    assert len(backlog) == 0


def test_no_more_are_open_than_the_pod_holds() -> None:
    backlog = Backlog()
    backlog.report(0, 0, 0, 0.0)
    for _ in range(5):
        backlog.add(100, 0.0)
    backlog.report(0, 5, 2, 0.1)
    assert (len(backlog), backlog.left) == (2, 200)
    backlog.report(0, 5, 0, 0.2)
    assert (len(backlog), backlog.left) == (0, 0)


def test_what_was_sent_after_the_question_is_not_in_the_answer() -> None:
    backlog = Backlog()
    backlog.report(0, 0, 0, 0.0)
    asked = backlog.sent
    backlog.add(100, 0.1)
    backlog.report(3, asked, 0, 0.2)
    assert (len(backlog), backlog.left) == (1, 100)


def test_a_pod_that_was_started_anew_counts_from_nothing() -> None:
    backlog = Backlog()
    backlog.report(1000, 0, 0, 0.0)
    backlog.add(100, 0.0)
    backlog.add(200, 0.0)
    backlog.report(1, 2, 2, 0.1)
    assert (len(backlog), backlog.left) == (1, 200)


def test_a_pod_that_counts_none_has_computed_what_came_before() -> None:
    backlog = Backlog()
    backlog.add(100, 0.0)
    asked = backlog.sent
    backlog.add(200, 0.1)
    backlog.report(None, asked, 9, 0.2)
    assert (len(backlog), backlog.left, backlog.counted) == (1, 200, False)


@pytest.mark.parametrize(("speed", "gap"), [(5_000.0, 0.15), (40_000.0, 0.02), (5_000.0, 0.35)])
def test_the_rate_is_learnt_and_tells_what_is_left(speed: float, gap: float) -> None:
    """A pod that computes prompts one after the other, reports ten times a second, and answers for a second each."""
    die = Random(1)  # noqa: S311  (nothing secret)
    backlog = Backlog()
    prompts: deque[list[float]] = deque()
    clock, next_prompt, next_report, firsts = 0.0, 0.0, 0.0, 0
    errors, truths, step = 0.0, 0.0, 0.005
    while clock < 120.0:
        clock += step
        work = speed * step
        while prompts and work > 0:
            done = min(work, prompts[0][0])
            prompts[0][0] -= done
            work -= done
            if prompts[0][0] <= 0:
                prompts.popleft()
                firsts += 1
        if clock >= next_prompt:
            next_prompt = clock + die.expovariate(1 / gap)
            tokens = die.choice([100.0, 300.0, 500.0, 2000.0])
            prompts.append([tokens])
            backlog.add(tokens, clock)
        if clock >= next_report:
            next_report = clock + 0.1
            backlog.report(firsts, backlog.sent, len(prompts), clock)
        if clock > 20.0:
            truth = sum(left for (left,) in prompts)
            errors += abs(backlog.remaining(clock) - truth)
            truths += truth
    assert 0.8 < backlog.rate / speed < 1.2
    # What is not known is when within a tenth of a second the pod was done.
    assert errors < 0.25 * truths


OPERATIONS = st.one_of(
    st.tuples(st.just("add"), st.floats(0, 1e5)),
    st.tuples(st.just("end"), st.integers(0, 30), st.booleans()),
    st.tuples(st.just("report"), st.none() | st.integers(0, 40), st.integers(0, 30), st.integers(0, 5)),
)


@given(st.lists(OPERATIONS, max_size=60))
def test_whatever_is_told_what_is_left_is_what_open_prompts_have(operations: list[tuple[object, ...]]) -> None:
    backlog, now = Backlog(), 0.0
    tokens: dict[int, float] = {}
    for operation in operations:
        now += 0.05
        match operation:
            case ("add", float(size)):
                tokens[backlog.add(size, now)] = size
            case ("end", int(ticket), bool(answered)):
                backlog.end(ticket, answered=answered)
            case ("report", firsts, int(sent), int(held)):
                assert firsts is None or isinstance(firsts, int)
                backlog.report(firsts, min(sent, backlog.sent), held, now)
        assert 0.0 <= backlog.remaining(now) <= sum(tokens.values()) * (1 + 1e-9)
        if not len(backlog):
            assert backlog.remaining(now) == 0.0
    backlog.report(0, backlog.sent, 0, now + 1.0)
    assert (len(backlog), backlog.left) == (0, 0.0)
