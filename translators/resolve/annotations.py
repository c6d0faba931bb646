"""What annotations say of a pool. A value that cannot be used leaves the default, and is told of."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from resources import (
    KV_THRESHOLD_ANNOTATION,
    METRICS_ANNOTATION,
    QUEUE_THRESHOLD_ANNOTATION,
    RUNTIME_ANNOTATION,
    STRATEGY_ANNOTATION,
    SUBSET_ANNOTATION,
    UNLISTED_ANNOTATION,
    InferencePool,
)
from translators import ir
from translators.resolve.pool_kinds import AnyPool
from translators.resolve.traffic import RUNTIMES

T = TypeVar("T")

_STRATEGIES: Mapping[str, ir.Strategy] = {"DEFAULT": "default", "PREFIX_CACHE": "prefix cache"}
_SWITCH = {"true": True, "false": False}
_USUAL = ir.Thresholds()
_FIGURES = ("waiting", "running", "kv_usage")
# A metric's name in Prometheus' text format, and one label by which its series are chosen.
_METRIC = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*(\{[a-zA-Z_][a-zA-Z0-9_]*=[^\s\"{},]*\})?")
_MOST_WAITING = 1_000_000


@dataclass(frozen=True, slots=True)
class Annotations:
    """What they say, and what is wrong with them."""

    runtime: ir.Runtime = "vllm"
    strategy: ir.Strategy = "default"
    unlisted: ir.Unlisted = "standard"
    thresholds: ir.Thresholds = _USUAL
    metric_names: tuple[tuple[str, str], ...] = ()
    subset_hint: bool = False
    problems: tuple[ir.Problem, ...] = ()


def annotations_of(pool: AnyPool) -> Annotations:
    """Read the annotations of a pool."""
    reader = _Reader(pool)
    # v1alpha2 takes a model without InferenceModel for sheddable; v1 knows no InferenceModel, and priority 0 is kept.
    served: ir.Unlisted = "standard" if isinstance(pool, InferencePool) else "sheddable"
    unlisted: Mapping[str, ir.Unlisted] = {"serve": served, "refuse": "refused"}
    return Annotations(
        runtime=reader.read(RUNTIME_ANNOTATION, partial(_choose, RUNTIMES), "vllm"),
        strategy=reader.read(STRATEGY_ANNOTATION, partial(_choose, _STRATEGIES), "default"),
        unlisted=reader.read(UNLISTED_ANNOTATION, partial(_choose, unlisted), served),
        thresholds=ir.Thresholds(
            reader.read(QUEUE_THRESHOLD_ANNOTATION, _count, _USUAL.queue),
            reader.read(KV_THRESHOLD_ANNOTATION, _share, _USUAL.kv_cache),
        ),
        metric_names=reader.read(METRICS_ANNOTATION, _metric_names, ()),
        subset_hint=reader.read(SUBSET_ANNOTATION, partial(_choose, _SWITCH), default=False),
        problems=tuple(reader.problems),
    )


class _Reader:
    """Reads annotations one by one, and remembers which could not be used."""

    def __init__(self, pool: AnyPool) -> None:
        self._annotations = pool.metadata.annotations
        self.problems: list[ir.Problem] = []

    def read(self, name: str, parse: Callable[[str], T], default: T) -> T:
        """Return what an annotation says; the default where it is absent or `parse` raises ValueError."""
        text = self._annotations.get(name)
        if text is None:
            return default
        try:
            return parse(text.strip())
        except ValueError as error:
            where = f"metadata.annotations[{name}]"
            message = f"{text!r} {error}; the default applies"
            self.problems.append(ir.Problem(ir.ADVICE, "UnsupportedValue", message, where))
            return default


def _choose(values: Mapping[str, T], text: str) -> T:
    for word, value in values.items():
        if word.lower() == text.lower():
            return value
    raise ValueError(f"is none of {', '.join(values)}")


def _count(text: str) -> int:
    if text.isdecimal() and int(text) <= _MOST_WAITING:
        return int(text)
    raise ValueError(f"is no whole number from 0 to {_MOST_WAITING}")


def _share(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if 0.0 <= number <= 1.0:
        return number
    raise ValueError("is no number from 0 to 1")


def _metric_names(text: str) -> tuple[tuple[str, str], ...]:
    found: dict[str, str] = {}
    for word in text.split():
        figure, _, metric = word.partition("=")
        if figure not in _FIGURES or figure in found or not _METRIC.fullmatch(metric):
            raise ValueError(f"has {word!r}: expected NAME or NAME{{label=value}} of {', '.join(_FIGURES)}, once each")
        found[figure] = metric
    return tuple(found.items())
