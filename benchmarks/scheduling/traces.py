"""What is asked when: traces that are the same for every router, made from a seed alone.

Requests arrive by a Poisson process, whatever becomes of those before (an open loop); conversations do, and people read
for 2.5 s in the mean before the next round.  Lengths are in the simulator's tokens, four bytes each.  The rates are
about those at which routers that know nothing begin to fail.

shared-prefixes   48 instructions of 1,000 to 3,000 tokens, the n-th asked for 1/n as often as the first, each time with
                  a question of 50 to 300 tokens of its own
multi-turn        conversations of 3 to 8 rounds; all begin with the same 400 tokens, the first question is 200 to 1,200
                  tokens long, the further ones 50 to 400; each round repeats all before it with its answers
mixed             prompts that have nothing in common: of eight one is 3,000 to 8,000 tokens long, the others 50 to 600
lora              12 adapters, the n-th asked for 1/n as often as the first, and the base model for a sixth; each has
                  instructions of 600 tokens, with questions of 200 to 1,200 tokens
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from random import Random

from benchmarks.scheduling.fleet import ADAPTERS, MODEL
from simulator import tokens

# About as long as English words are.
_WORDS = (
    *(
        "time",
        "signal",
        "line",
        "track",
        "points",
        "lever",
        "lamp",
        "train",
        "guard",
        "yard",
        "switch",
        "rail",
        "cross",
    ),
    *(
        "cross",
        "clear",
        "block",
        "stop",
        "down",
        "over",
        "north",
        "south",
        "slow",
        "fast",
        "main",
        "loop",
        "goods",
        "mail",
    ),
    *("night", "early", "gate", "bell", "wire", "arm", "frame", "post", "code", "page", "note", "call", "list"),
)


@dataclass(frozen=True, slots=True)
class Slo:
    """What a request has to keep to count as good: seconds to the first token, and for each further one."""

    ttft: float = 2.0
    tpot: float = 0.2


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request: when it is sent (seconds from the start), its body, its model, how many tokens it asks for.

    `session` names who asks, as a header may: some routers keep a session's requests together.
    """

    at: float
    body: bytes
    model: str
    answer: int
    session: str


@dataclass(frozen=True, slots=True)
class Trace:
    """Requests in the order of their times."""

    name: str
    rate: float
    arrivals: tuple[Arrival, ...]


@dataclass(frozen=True, slots=True)
class _Kind:
    rate: float  # requests a second, for eight servers
    draw: Callable[[Random, float, float], Iterator[Arrival]]


def names() -> tuple[str, ...]:
    """Name all traces."""
    return tuple(_KINDS)


def build(name: str, *, seed: int, seconds: float, load: float = 1.0, slow: float = 1.0) -> Trace:
    """Make a trace whose requests arrive within so many seconds, `load` times as many as is usual.

    With `slow` the same requests take so many times as long to arrive.
    """
    kind = _KINDS[name]
    rate = kind.rate * load
    drawn = kind.draw(Random(f"{name}/{seed}"), rate, seconds)  # noqa: S311  (nothing secret)
    arrivals = sorted(drawn, key=lambda arrival: arrival.at)
    return Trace(name, rate, tuple(replace(each, at=each.at * slow) for each in arrivals))


def hello(model: str, number: int) -> bytes:
    """Return a request of a few tokens, each with a prompt of its own, to see whether somebody answers."""
    return _arrival(0.0, [("user", f"{number} hello")], 1, user=f"hello-{number}", model=model).body


def _poisson(die: Random, rate: float, seconds: float) -> Iterator[float]:
    at = die.expovariate(rate)
    while at < seconds:
        yield at
        at += die.expovariate(rate)


def _text(die: Random, count: int) -> str:
    """Write so many tokens of words drawn at random."""
    length = count * tokens.TOKEN_BYTES
    return " ".join(die.choices(_WORDS, k=length // 4))[:length]


def _zipf(count: int) -> Sequence[float]:
    """Add up weights of which the n-th is 1/n, for `choices`."""
    return tuple(accumulate(1 / number for number in range(1, count + 1)))


def _arrival(at: float, messages: Sequence[tuple[str, str]], answer: int, *, user: str, model: str = MODEL) -> Arrival:
    document: Mapping[str, object] = {
        "model": model,
        "messages": [{"role": role, "content": content} for role, content in messages],
        "max_tokens": answer,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
        "user": user,
    }
    return Arrival(at, json.dumps(document, separators=(",", ":")).encode(), model, answer, user)


def _shared_prefixes(die: Random, rate: float, seconds: float) -> Iterator[Arrival]:
    instructions = [_text(die, die.randint(1000, 3000)) for _ in range(48)]
    weights = _zipf(len(instructions))
    for at in _poisson(die, rate, seconds):
        (place,) = die.choices(range(len(instructions)), cum_weights=weights)
        messages = [("system", instructions[place]), ("user", _text(die, die.randint(50, 300)))]
        yield _arrival(at, messages, die.randint(16, 64), user=f"application-{place}")


def _multi_turn(die: Random, rate: float, seconds: float) -> Iterator[Arrival]:
    rounds = (3, 8)
    opening = _text(die, 400)
    # Conversations begin all the time, also before the trace does, so that its load is even from the start.
    longest = rounds[1] * 6.0
    starts = _poisson(die, rate / (sum(rounds) / 2), seconds + longest)
    for number, start in enumerate(starts):
        at = start - longest
        messages = [("system", opening)]
        for turn in range(die.randint(*rounds)):
            messages.append(("user", _text(die, die.randint(50, 400) if turn else die.randint(200, 1200))))
            answer = die.randint(32, 96)
            if 0 <= at < seconds:
                yield _arrival(at, messages, answer, user=f"conversation-{number}")
            messages.append(("assistant", tokens.answer(0, answer).decode()))
            # The time to make the answer, and to read it.
            at += answer * 0.04 + die.expovariate(1 / 2.5)


def _mixed(die: Random, rate: float, seconds: float) -> Iterator[Arrival]:
    for number, at in enumerate(_poisson(die, rate, seconds)):
        is_long = die.random() < 1 / 8
        prompt = _text(die, die.randint(3000, 8000) if is_long else die.randint(50, 600))
        answer = die.randint(16, 64) if is_long else die.randint(16, 160)
        yield _arrival(at, [("user", prompt)], answer, user=f"user-{number}")


def _lora(die: Random, rate: float, seconds: float) -> Iterator[Arrival]:
    models = (*ADAPTERS, MODEL)
    instructions = {model: _text(die, 600) for model in models}
    weights = _zipf(len(ADAPTERS))
    for number, at in enumerate(_poisson(die, rate, seconds)):
        (drawn,) = die.choices(ADAPTERS, cum_weights=weights)
        model = MODEL if die.random() < 1 / 6 else drawn
        messages = [("system", instructions[model]), ("user", _text(die, die.randint(200, 1200)))]
        yield _arrival(at, messages, die.randint(16, 96), user=f"user-{number}", model=model)


_KINDS: Mapping[str, _Kind] = {
    "shared-prefixes": _Kind(36.0, _shared_prefixes),
    "multi-turn": _Kind(28.0, _multi_turn),
    "mixed": _Kind(24.0, _mixed),
    "lora": _Kind(28.0, _lora),
}
