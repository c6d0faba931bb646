"""What the picker's structures take when they are full, and so what it takes at most.

python -m benchmarks.memory
"""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Callable

from benchmarks.prompts import chat
from picker.decision import Decision, Request
from picker.exchange import Picked
from picker.in_flight import LIMIT, InFlight
from picker.prefixes import CAPACITY, Prefixes
from picker.prompt import chain, read
from picker.strategies import DEFAULT
from picker.table import Endpoint, Table
from picker.tallies import LIMIT as TALLIES
from picker.tallies import Tally

_SAMPLE = 500


def main() -> None:
    """Measure and print."""
    row("a pod, with nothing of prompts", _size(lambda: [_endpoint(number) for number in range(_SAMPLE)]) / _SAMPLE)
    row(f"what a pod has cached, when full ({CAPACITY:,} blocks)", _size(_full))
    row("as much of what it is sent meanwhile", _size(_expected))
    for size in (0, 600, 220_000):
        name = f"with the prompt of {size:,} bytes" if size else "headers only"
        each = _size(lambda size=size: _in_flight(size)) / _SAMPLE  # type: ignore[misc]  # bound in the loop
        row(f"a request in flight, {name}", each, LIMIT)
    row(
        "requests of a route, pool, model and status, added up",
        _size(lambda: [Tally() for _ in range(99)]) / 99,
        TALLIES,
    )


def row(name: str, size: float, limit: int = 0) -> None:
    """Print a line: how many bytes each takes, and all of them at most."""
    most = f"   at most {limit:,}: {size * limit / 2**20:,.0f} MiB" if limit else ""
    print(f"{name:55} {size / 1024:9,.1f} KiB{most}")


def _size(make: Callable[[], object]) -> int:
    tracemalloc.start()
    made = make()
    size = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    del made
    return size


def _endpoint(number: int) -> Endpoint:
    return Endpoint(f"10.0.{number // 250}.{number % 250 + 1}:8000", f"default/chat-{number}")


def _links(count: int) -> list[int]:
    return [random.getrandbits(64) for _ in range(count)]


def _full() -> Prefixes:
    prefixes = Prefixes()
    for _ in range(2 * CAPACITY // 100):
        prefixes.learn(_links(100))
    return prefixes


def _expected() -> Prefixes:
    prefixes = Prefixes()
    while prefixes.expect(_links(100)):
        pass
    return prefixes


def _in_flight(size: int) -> InFlight:
    table = Table()
    table.replace([_endpoint(0)])
    in_flight = InFlight()
    prompt = read(chat("chat", size)) if size else None
    for number in range(_SAMPLE):
        decision = DEFAULT.decide(Request(), table, lambda: 0.0)
        assert isinstance(decision, Decision)  # noqa: S101  (the pool has a pod)
        links = chain(prompt, f"chat-{number}") if prompt else ()
        in_flight.begin(Picked(f"0123abcd-{number}", "default/pool", "chat", "chat", decision, chain=links))
    return in_flight


if __name__ == "__main__":
    main()
