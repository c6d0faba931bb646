"""What is printed, and what `--json` writes."""

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.measure import CONNECTIONS, Plan, Result, Sample

BARE = "bare Envoy"
SERVERS = "the servers alone"
HEADERS_ONLY = ("json_to_metadata", "ai_protocol_manager")

TARGETS = {"600 B": 0.15, "220 KB": 0.12}
"""The share of bare Envoy's rate that the faster way of finding the model is to reach, at the most connections."""

_CLEARLY = 1.2
_ROLES = ("envoy", "picker", "control plane", "up", "servers", "wrk")


_NOTES = (
    "bare Envoy: a prefix route, round robin, no access log; the same buffers (20 MiB, cluster 1 MiB), else defaults",
    "+ body: the picker is sent the body and renames the model; else it sees the request's headers only",
    "medians over the rounds; ratios within a round; us: CPU time a request of each process, all with one Envoy worker",
)


def show(console: Console, results: Sequence[Result]) -> None:
    """Print a table for each size of prompt, and how the targets are met."""
    for prompt in dict.fromkeys(result.case.prompt for result in results):
        console.print(_table(prompt, [result for result in results if result.case.prompt == prompt]))
    for line in (*verdicts(results), *_doubts(results), *_NOTES):
        console.print(line)


def verdicts(results: Sequence[Result]) -> list[str]:
    """Say of each target whether it is met, and by which way of finding the model."""
    lines = []
    for prompt, target in TARGETS.items():
        best = max(
            (
                result
                for result in results
                if result.case.prompt == prompt
                and result.case.connections == max(CONNECTIONS)
                and result.line in HEADERS_ONLY
            ),
            key=lambda result: result.ratio,
        )
        verdict = "reached" if best.ratio >= target else "MISSED"
        lines.append(f"{prompt}: {best.ratio:.3f} of bare Envoy with {best.line}; target {target:.2f}: {verdict}")
    return lines


def write(path: Path, plan: Plan, samples: Sequence[Sample], results: Sequence[Result]) -> None:
    """Write every sample, the medians and the machine as JSON."""
    document = {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "plan": asdict(plan),
        "targets": TARGETS,
        "results": [asdict(result) for result in results],
        "samples": [asdict(sample) for sample in samples],
    }
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def machine() -> str:
    """Describe the machine in a line."""
    load = ", ".join(f"{each:.1f}" for each in os.getloadavg())
    return f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}, load before the start {load}"


def _table(prompt: str, results: Sequence[Result]) -> Table:
    table = Table(title=f"prompts of {prompt}", title_justify="left", title_style="bold")
    table.add_column("conns", justify="right")
    table.add_column("gateway")
    for name in ("req/s", "of bare", "(range)", "p50 ms", "p99 ms"):
        table.add_column(name, justify="right")
    for role in _ROLES:
        table.add_column(f"{role} us", justify="right")
    connections = 0
    for result in results:
        if connections and connections != result.case.connections:
            table.add_section()
        connections = result.case.connections
        table.add_row(
            str(connections),
            result.line,
            f"{result.rate:,.0f}",
            f"{result.ratio:.3f}",
            f"{result.lowest:.2f}-{result.highest:.2f}",
            f"{result.p50:.2f}",
            f"{result.p99:.2f}",
            *(f"{result.cpu[role]:.0f}" if role in result.cpu else "" for role in _ROLES),
        )
    return table


def _doubts(results: Sequence[Result]) -> list[str]:
    """Say where the servers alone were not clearly faster than the bare gateway of the same round."""
    return [
        f"{result.case.prompt}, {result.case.connections} connections: the servers alone do only {result.ratio:.1f} "
        "times as much as bare Envoy: they limit it, and the ratios flatter Pointsman"
        for result in results
        if result.line == SERVERS and result.ratio < _CLEARLY
    ]
