"""What is printed, and what `--json` writes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.control_plane.measure import Figures, percentile
from benchmarks.report import machine

_ROLES = ("control plane", "envoy")
_NOTES = (
    "start: until every route is served; change, pod: until one is served, median and 99th percentile",
    "own: the control plane's part of a change, from its source's word to the publication",
    "the rest of a change is the source's, and Envoy's own for a new table of routes",
    "CPU: of the control plane / of Envoy, for the start and for one change; peak: MiB resident of both",
)


def show(console: Console, results: Sequence[Figures]) -> None:
    """Print a table."""
    table = Table(title="Changes by the number of routes", title_justify="left", title_style="bold")
    for name in ("source", "hostnames"):
        table.add_column(name)
    for name in ("routes", "start s", "change ms", "p99", "own", "pod ms", "p99"):
        table.add_column(name, justify="right")
    for name in ("CPU start s", "CPU change ms", "CPU pod ms", "peak MiB"):
        table.add_column(name, justify="right")
    for each in results:
        table.add_row(
            each.source,
            each.hosts,
            f"{each.routes:,}",
            f"{each.start:.1f}",
            *(f"{percentile(each.changes, share) * 1000:.0f}" for share in (0.5, 0.99)),
            f"{each.own * 1000:.0f}",
            *(f"{percentile(each.pods, share) * 1000:.0f}" for share in (0.5, 0.99)),
            _roles(each.cpu_start, 1, 1),
            _roles(each.cpu, 1000),
            _roles(each.cpu_pod, 1000),
            _roles(each.peak, 1 / 2**20),
        )
    console.print(table)
    for line in _NOTES:
        console.print(line)


def write(path: Path, results: Sequence[Figures]) -> None:
    """Write all figures and the machine as JSON."""
    document = {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "results": [asdict(each) for each in results],
    }
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def _roles(values: Mapping[str, float], scale: float, places: int = 0) -> str:
    return " / ".join(f"{values[role] * scale:,.{places}f}" for role in _ROLES if role in values)
