"""Prometheus' text format 0.0.4, written by hand: pickers scrape many pods of one process many times a second."""

from collections.abc import Iterator

from simulator.histogram import Histogram


def gauge(name: str, about: str, labels: str, value: float) -> str:
    """Write a gauge with one series."""
    return f"# HELP {name} {about}\n# TYPE {name} gauge\n{name}{{{labels}}} {float(value)!r}\n"


def counter(name: str, about: str, labels: str, value: float) -> str:
    """Write a counter with one series."""
    return f"# HELP {name} {about}\n# TYPE {name} counter\n{name}{{{labels}}} {float(value)!r}\n"


def histogram(name: str, about: str, seen: Histogram, labels: str) -> Iterator[str]:
    """Write a histogram of durations in seconds."""
    yield f"# HELP {name} {about}\n# TYPE {name} histogram\n"
    count = 0
    for bound, count in seen.cumulative():
        yield f'{name}_bucket{{{labels},le="{bound}"}} {float(count)!r}\n'
    yield f"{name}_count{{{labels}}} {float(count)!r}\n{name}_sum{{{labels}}} {seen.total!r}\n"


def escape(value: str) -> str:
    """Write a label's value."""
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
