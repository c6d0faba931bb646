"""What a decision alone costs: choosing among pods that were scraped and are at work, the prompt already hashed.

    python -m benchmarks.decision

Every pod reports figures of its own and has requests in flight; each has cached another part of the prompt, which is
the dearest case.  Printed are microseconds of CPU time: the median of many short measurements, and the least.
"""

from __future__ import annotations

import random
import time
from statistics import median

from benchmarks.prompts import chat
from picker.decision import Request
from picker.prompt import chain, read
from picker.strategies import PROFILES
from picker.table import Endpoint, Table
from protos.pointsman.picker.v1.pool_pb2 import Strategy

_PODS = (4, 32, 256)
_SIZES = {"600 B": 600, "220 KB": 220_000}
_MODEL = "chat"
_MEASUREMENTS, _DECISIONS = 200, 10


def main() -> None:
    """Measure every strategy and print."""
    links = {size: _chain(number) for size, number in _SIZES.items()}
    for strategy, profile in PROFILES.items():
        for size, chained in links.items() if profile.reads_prompt else (("", ()),):
            for pods in _PODS:
                dice = random.Random(pods)  # noqa: S311  (no secret)
                table = _table(pods, dice, chained)
                request = Request(_MODEL, None, chained)
                taken = []
                for _ in range(_MEASUREMENTS):
                    began = time.thread_time()
                    for _ in range(_DECISIONS):
                        profile.decide(request, table, dice.random)
                    taken.append((time.thread_time() - began) / _DECISIONS * 1e6)
                name = Strategy.Name(strategy).removeprefix("STRATEGY_")
                print(f"{name:13} {size:6} {pods:4} pods: {median(taken):6.1f} us (at least {min(taken):.1f})")


def _chain(size: int) -> list[int]:
    prompt = read(chat(_MODEL, size))
    assert prompt is not None  # noqa: S101  (it is our own)
    return chain(prompt, _MODEL)


def _table(pods: int, dice: random.Random, links: list[int]) -> Table:
    endpoints = []
    for number in range(pods):
        endpoint = Endpoint(f"10.0.{number // 250}.{number % 250 + 1}:8000", f"default/chat-{number}")
        endpoint.report(dice.choice((0, 0, 0, 1, 2)), dice.randrange(40), dice.random(), 0, 1.0)
        for _ in range(dice.randrange(4)):
            endpoint.begin(100.0)
        endpoint.prefixes.learn(links[: dice.randint(0, len(links))])
        endpoint.prefixes.expect(links[: dice.randint(0, len(links))])
        endpoints.append(endpoint)
    table = Table()
    table.replace(endpoints)
    return table


if __name__ == "__main__":
    main()
