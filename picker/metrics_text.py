"""Reading a model server's /metrics page: only the few lines that a decision needs.

The pages are long (vLLM's has tens of kilobytes, most of it histograms), and they are read ten times a second: so the
page is searched for the few names and the rest is never looked at.

A server may write a family several times, for each of its engines or models: counts add up, and of shares the highest
counts, since the fullest engine is where a request would wait.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import isfinite
from typing import NamedTuple

from protos.pointsman.picker.v1.pool_pb2 import RUNTIME_SGLANG, RUNTIME_VLLM


class Report(NamedTuple):
    """What a page says: requests waiting, requests running, share of the KV cache in use (0..1)."""

    waiting: float
    running: float
    kv_usage: float


class Dialect(NamedTuple):
    """The names that a runtime gives the families; of several names for the share, the first that is there counts."""

    waiting: bytes
    running: bytes
    kv_usage: tuple[bytes, ...]


DIALECTS: dict[int, Dialect] = {
    RUNTIME_VLLM: Dialect(
        b"vllm:num_requests_waiting",
        b"vllm:num_requests_running",
        (b"vllm:kv_cache_usage_perc", b"vllm:gpu_cache_usage_perc"),
    ),
    RUNTIME_SGLANG: Dialect(b"sglang:num_queue_reqs", b"sglang:num_running_reqs", (b"sglang:token_usage",)),
}


def read(page: bytes, dialect: Dialect) -> Report | None:
    """Read a page in the Prometheus text format; None when it has none of the families."""
    waiting = list(_samples(page, dialect.waiting))
    running = list(_samples(page, dialect.running))
    kv_usage: list[float] = []
    for name in dialect.kv_usage:
        kv_usage = list(_samples(page, name))
        if kv_usage:
            break
    if not (waiting or running or kv_usage):
        return None
    return Report(sum(waiting), sum(running), min(1.0, max(kv_usage, default=0.0)))


def _samples(page: bytes, name: bytes) -> Iterator[float]:
    position = page.find(name)
    while position >= 0:
        end = page.find(b"\n", position)
        if end < 0:
            end = len(page)
        # At the start of a line, and the whole of the name: not in a comment, nor the start of a longer name.
        if position == 0 or page[position - 1 : position] == b"\n":
            rest = page[position + len(name) : end]
            if rest[:1] in b"{ \t" and rest:
                value = _value(rest)
                if value is not None:
                    yield value
        position = page.find(name, end)


def _value(rest: bytes) -> float | None:
    # After the labels; these may hold any character in quotes, so their end is the last brace.  A time stamp may
    # follow.
    words = rest[rest.rfind(b"}") + 1 :].split()
    try:
        value = float(words[0])
    except (IndexError, ValueError):
        return None
    return value if isfinite(value) and value >= 0 else None
