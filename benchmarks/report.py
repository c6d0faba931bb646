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

from benchmarks.measure import CONNECTIONS, Case, Line, Plan, Result, Sample
from benchmarks.processes import peak_bytes
from benchmarks.scene import FINDERS, SERVERS

TARGETS = {
    ("DEFAULT", "600 B"): 0.15,
    ("DEFAULT", "220 KB"): 0.12,
    ("PREFIX_CACHE", "600 B"): 0.12,
    ("PREFIX_CACHE", "220 KB"): 0.09,
}
"""The share of bare Envoy's rate that the faster way of finding the model is to reach, at the most connections."""

_TARGETS_PODS = 32
_CLEARLY = 1.2
_ROLES = ("envoy", "picker", "control plane", "up", "peer", "servers", "wrk")


_NOTES = (
    "bare Envoy: a prefix route, round robin, no access log; the same buffers (20 MiB, cluster 1 MiB), else defaults",
    "DEFAULT: the picker sees the request's headers only; PREFIX_CACHE: the body as well; renamed: so too",
    "medians over the rounds; ratios within a round; us: CPU time a request of each process, all with one Envoy worker",
)


def show(console: Console, results: Sequence[Result]) -> None:
    """Print a table for each kind of load, and how the targets are met."""
    for case in dict.fromkeys(result.case for result in results):
        console.print(_table(case, [result for result in results if result.case == case]))
    for line in (*verdicts(results), *_doubts(results), *_NOTES):
        console.print(line)


def verdicts(results: Sequence[Result]) -> list[str]:
    """Say of each target that was measured whether it is met, and by which way of finding the model."""
    lines = []
    for (strategy, prompt), target in TARGETS.items():
        case = Case(_TARGETS_PODS, prompt, max(CONNECTIONS))
        names = [f"{strategy}, {finder}" for finder in FINDERS]
        subjects = [result for result in results if result.case == case and result.line in names]
        if subjects:
            best = max(subjects, key=lambda result: result.ratio)
            verdict = "reached" if best.ratio >= target else "MISSED"
            lines.append(
                f"{prompt}, {_TARGETS_PODS} pods: {best.ratio:.3f} of bare Envoy with {best.line}; "
                f"target {target:.2f}: {verdict}"
            )
    return lines


def memory(lines: Sequence[Line]) -> str:
    """Say how much memory the processes that route have had at most."""
    sizes = {
        role: size
        for role, pid in lines[0].pids.items()
        if role in ("envoy", "picker", "peer") and (size := peak_bytes(pid)) is not None
    }
    return "at most " + ", ".join(f"{role} {size / 2**20:.0f} MiB" for role, size in sizes.items())


def write(path: Path, plan: Plan, samples: Sequence[Sample], results: Sequence[Result]) -> None:
    """Write every sample, the medians and the machine as JSON."""
    document = {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "plan": asdict(plan),
        "targets": {f"{strategy}, {prompt}": target for (strategy, prompt), target in TARGETS.items()},
        "results": [asdict(result) for result in results],
        "samples": [asdict(sample) for sample in samples],
    }
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def machine() -> str:
    """Describe the machine in a line."""
    load = ", ".join(f"{each:.1f}" for each in os.getloadavg())
    return f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}, load before the start {load}"


def _table(case: Case, results: Sequence[Result]) -> Table:
    title = f"{case.pods} pods, prompts of {case.prompt}, {case.connections} connections"
    table = Table(title=title, title_justify="left", title_style="bold")
    table.add_column("gateway")
    for name in ("req/s", "of bare", "(range)", "p50 ms", "p99 ms"):
        table.add_column(name, justify="right")
    roles = [role for role in _ROLES if any(role in result.cpu for result in results)]
    for role in roles:
        table.add_column(f"{role} us", justify="right")
    for result in results:
        table.add_row(
            result.line,
            f"{result.rate:,.0f}",
            f"{result.ratio:.3f}",
            f"{result.lowest:.2f}-{result.highest:.2f}",
            f"{result.p50:.2f}",
            f"{result.p99:.2f}",
            *(f"{result.cpu[role]:.0f}" if role in result.cpu else "" for role in roles),
        )
    return table


def _doubts(results: Sequence[Result]) -> list[str]:
    """Say where the servers alone were not clearly faster than the bare gateway of the same round."""
    return [
        f"{result.case.pods} pods, {result.case.prompt}, {result.case.connections} connections: "
        f"the servers alone do only {result.ratio:.1f} times as much as bare Envoy: they limit it"
        for result in results
        if result.line == SERVERS and result.ratio < _CLEARLY
    ]
