"""Reading a model server's /metrics page: only the few lines that a decision needs.

The pages are long (vLLM's has tens of kilobytes, most of it histograms), and they are read ten times a second: so the
page is searched for the few names and the rest is never looked at.  A family's series stand together (Prometheus text
format: all lines for a metric are one group), so that its search ends with them.

A server may write a family several times, for each of its engines or models: counts add up, and of shares the highest
counts, since the fullest engine is where a request would wait.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import NamedTuple

from protos.pointsman.picker.v1.pool_pb2 import (
    RUNTIME_SGLANG,
    RUNTIME_TENSORRT_LLM,
    RUNTIME_TGI,
    RUNTIME_TRITON,
    RUNTIME_VLLM,
)

# No pod has so many requests; a time stamp in seconds is less.
_MOST = 1e10
_LORA = b"vllm:lora_requests_info"
_LABEL = re.compile(rb'([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"')
# What ends a name on its line, and what a line ends with.
_AFTER = (b"{", b" ", b"\t")
_NEWLINE = ord("\n")
_FAMILY = re.compile(r"([a-zA-Z_:][\w:]*)(?:\{(\w+)=\"?([^\"{}]*)\"?\})?")


class Adapters(NamedTuple):
    """LoRA adapters of which requests run, those of which requests wait, and how many fit at once."""

    running: frozenset[str]
    waiting: frozenset[str]
    limit: int


class Report(NamedTuple):
    """What a page says: requests waiting, requests running, share of the KV cache in use (0..1); adapters if any.

    `first_tokens` is how many requests were answered with a first token since the server started; None where the page
    does not say.
    """

    waiting: float
    running: float
    kv_usage: float
    adapters: Adapters | None = None
    first_tokens: float | None = None


class Family(NamedTuple):
    """A family's name, and the one label by which its series are chosen, as it stands on the page; b"" for all."""

    name: bytes
    label: bytes = b""

    @classmethod
    def of(cls, text: str) -> Family:
        """Read ``name`` or ``name{label=value}``; ValueError for anything else."""
        match = _FAMILY.fullmatch(text)
        if match is None:
            raise ValueError(f"neither a metric's name nor name{{label=value}}: {text!r}")
        name, label, value = match.groups()
        return cls(name.encode(), b"" if label is None else f'{label}="{value}"'.encode())


class Dialect(NamedTuple):
    """The families of a runtime; of several for one figure, the first that is there counts."""

    waiting: tuple[Family, ...] = ()
    running: tuple[Family, ...] = ()
    kv_usage: tuple[Family, ...] = ()
    first_tokens: tuple[Family, ...] = ()

    @classmethod
    def of(cls, names: Mapping[str, str]) -> Dialect:
        """Read a mapping of these figures' names, each to a family's text or several with commas.

        Raises ValueError for anything else.
        """
        unknown = names.keys() - set(cls._fields)
        if unknown:
            raise ValueError(f"no such figure: {', '.join(sorted(unknown))}")
        return cls(**{figure: tuple(map(Family.of, text.split(","))) for figure, text in names.items()})


# The names are the runtimes' own (the Inference Extension's model server protocol; TGI's metrics page).
DIALECTS: Mapping[int, Dialect] = {
    runtime: Dialect.of(names)
    for runtime, names in {
        RUNTIME_VLLM: {
            "waiting": "vllm:num_requests_waiting",
            "running": "vllm:num_requests_running",
            "kv_usage": "vllm:kv_cache_usage_perc,vllm:gpu_cache_usage_perc",
            "first_tokens": "vllm:time_to_first_token_seconds_count",
        },
        RUNTIME_SGLANG: {
            "waiting": "sglang:num_queue_reqs",
            "running": "sglang:num_running_reqs",
            "kv_usage": "sglang:token_usage",
            "first_tokens": "sglang:time_to_first_token_seconds_count",
        },
        RUNTIME_TENSORRT_LLM: {
            "waiting": "trtllm_num_requests_waiting",
            "running": "trtllm_num_requests_running",
            "kv_usage": "trtllm_kv_cache_utilization",
        },
        RUNTIME_TRITON: {
            "waiting": "nv_trt_llm_request_metrics{request_type=waiting}",
            "running": "nv_trt_llm_request_metrics{request_type=scheduled}",
            "kv_usage": "nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type=fraction}",
        },
        RUNTIME_TGI: {
            "waiting": "tgi_queue_size",
            "running": "tgi_batch_current_size",
        },
    }.items()
}


_NO_NAMES: Mapping[str, str] = MappingProxyType({})


def read(page: bytes, dialect: Dialect) -> Report | None:
    """Read a page in the Prometheus text format; None when it has none of the families, or one of them is nonsense.

    A figure that is there and says nothing must not count as zero: the pod would look idle, and get every request.
    """
    waiting, running, kv_usage = (_first(page, families) for families in dialect[:3])
    if waiting is None or running is None or kv_usage is None or not (waiting or running or kv_usage):
        return None
    first_tokens = _first(page, dialect.first_tokens)
    return Report(
        sum(waiting),
        sum(running),
        min(1.0, max(kv_usage, default=0.0)),
        _adapters(page),
        sum(first_tokens) if first_tokens else None,
    )


def dialect_of(runtime: int, names: Mapping[str, str] = _NO_NAMES) -> Dialect:
    """Return a runtime's dialect, with the families in `names` (as in `Dialect.of`) in the place of its own.

    Raises ValueError as `Dialect.of` does.
    """
    known = DIALECTS.get(runtime, DIALECTS[RUNTIME_VLLM])
    if not names:
        return known
    return Dialect(*(own or usual for own, usual in zip(Dialect.of(names), known, strict=True)))


def read_any(page: bytes, own: Dialect) -> Report | None:
    """Read a page in the pool's own dialect; where it has none of that, in any known one."""
    report = read(page, own)
    if report is None:
        tried = (read(page, dialect) for dialect in DIALECTS.values() if dialect is not own)
        report = next((found for found in tried if found is not None), None)
    return report


def _first(page: bytes, families: tuple[Family, ...]) -> list[float] | None:
    """Read the first family that is there; None where none of its values is a count."""
    for family in families:
        found = [value for labels, value in _samples(page, family.name) if family.label in labels]
        if found:
            return [value for value in found if value is not None] or None
    return []


def _adapters(page: bytes) -> Adapters | None:
    """Read vLLM's adapters: the value is the time of the series, and only the newest is true."""
    series = ((value, labels) for labels, value in _samples(page, _LORA) if value is not None)
    newest = max(series, default=None)
    return None if newest is None else _read_adapters(newest[1])


# The same labels come again and again.
@lru_cache(maxsize=256)
def _read_adapters(text: bytes) -> Adapters:
    labels = {key: value.decode("utf-8", "replace") for key, value in _LABEL.findall(text)}
    limit = labels.get(b"max_lora", "")
    return Adapters(
        _names(labels.get(b"running_lora_adapters", "")),
        _names(labels.get(b"waiting_lora_adapters", "")),
        int(limit) if limit.isdecimal() else 0,
    )


def _names(text: str) -> frozenset[str]:
    return frozenset(name.strip() for name in text.split(",") if name.strip())


def _samples(page: bytes, name: bytes) -> Iterator[tuple[bytes, float | None]]:
    """Walk over the series of a family: the text of its labels, and the value; None for what is no count."""
    position = _group(page, name)
    while position >= 0:
        end = page.find(b"\n", position)
        if end < 0:
            end = len(page)
        # Labels may hold any character in quotes, so their end is the last brace.
        rest = page[position + len(name) : end]
        labels = rest.rfind(b"}") + 1
        yield rest[:labels], _value(rest[labels:])
        position = end + 1
        if not (page.startswith(name, position) and page[position + len(name) : position + len(name) + 1] in _AFTER):
            return


def _group(page: bytes, name: bytes) -> int:
    """Find a family's first series: at the start of a line, and the whole of the name; -1 where there is none.

    The name also stands in comments, and may begin a longer one.
    """
    position = page.find(name)
    while position >= 0:
        after = position + len(name)
        if page[after : after + 1] in _AFTER and (position == 0 or page[position - 1] == _NEWLINE):
            return position
        position = page.find(name, after)
    return -1


def _value(rest: bytes) -> float | None:
    # A time stamp may follow.
    words = rest.split()
    try:
        value = float(words[0])
    except (IndexError, ValueError):
        return None
    return value if 0 <= value <= _MOST else None
