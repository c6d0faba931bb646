"""What is printed, and what `--json` writes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.report import machine
from benchmarks.scheduling.outcome import Figures, figures
from benchmarks.scheduling.runs import LATE, Run
from benchmarks.scheduling.traces import Slo

OURS = "Pointsman"

# Cores: the fleet and the load generator have one thread each.
_BUSY = 0.8

_NOTES = (
    "goodput: requests that keep {ttft:g} s to the first token and {tpot:g} ms for each further one (MLPerf Inference, "
    "Llama 2 70B, server); hits: prompt tokens found cached, by the servers' metrics; most: requests of the server "
    "that got most, as a multiple of the mean; late: load generator and servers, 99 of 100"
)


@dataclass(frozen=True, slots=True)
class Line:
    """All runs of one router with one trace, taken together."""

    trace: str
    router: str
    family: str
    figures: Figures
    hits: float
    most: float
    lateness: float
    servers_late: float
    cpu: Mapping[str, float]


def lines(runs: Sequence[Run], slo: Slo) -> list[Line]:
    """Take the runs of each router and trace together, in the order in which they were first run."""
    together: dict[tuple[str, str, str], list[Run]] = {}
    for run in runs:
        together.setdefault((run.trace, run.family, run.router), []).append(run)
    found = [_line(some, slo) for some in together.values()]
    order = list(dict.fromkeys(run.trace for run in runs))
    return sorted(found, key=lambda line: order.index(line.trace))


def _line(runs: Sequence[Run], slo: Slo) -> Line:
    queries = sum(run.queries for run in runs)
    served = [sum(run.served) for run in runs]
    return Line(
        trace=runs[0].trace,
        router=runs[0].router,
        family=runs[0].family,
        figures=figures([outcome for run in runs for outcome in run.outcomes], slo),
        hits=sum(run.hits for run in runs) / queries if queries else 0.0,
        most=sum(max(run.served) * len(run.served) for run in runs) / sum(served) if sum(served) else 0.0,
        lateness=max(run.lateness for run in runs),
        servers_late=max(run.servers_late for run in runs),
        cpu={role: max(run.cpu.get(role, 0.0) for run in runs) for role in runs[0].cpu},
    )


def show(console: Console, found: Sequence[Line], slo: Slo) -> None:
    """Print a table for each trace, who wins, and what is doubtful."""
    for trace in dict.fromkeys(line.trace for line in found):
        console.print(_table(trace, [line for line in found if line.trace == trace]))
    for text in (*verdicts(found), *doubts(found), _NOTES.format(ttft=slo.ttft, tpot=slo.tpot * 1e3)):
        console.print(text)


def _table(trace: str, found: Sequence[Line]) -> Table:
    table = Table(title=trace, title_justify="left", title_style="bold")
    table.add_column("router")
    for name in ("n", "failed", "TTFT mean", "p50", "p90", "p99 ms", "TPOT p50", "p99 ms", "goodput", "hits", "most"):
        table.add_column(name, justify="right")
    table.add_column("late ms", justify="right")
    table.add_column("cores", justify="right")
    for line in found:
        seen = line.figures
        table.add_row(
            f"{line.family}, {line.router}",
            *(str(seen.requests), str(seen.failed)),
            *(f"{value:,.0f}" for value in (seen.ttft_mean, seen.ttft_p50, seen.ttft_p90, seen.ttft_p99)),
            *(f"{value:,.0f}" for value in (seen.tpot_p50, seen.tpot_p99)),
            *(f"{value:.3f}" for value in (seen.goodput, line.hits)),
            f"{line.most:.2f}",
            f"{line.lateness * 1e3:.0f}, {line.servers_late * 1e3:.0f}",
            f"{sum(cores for role, cores in line.cpu.items() if role not in {'fleet', 'client'}):.2f}",
        )
    return table


def verdicts(found: Sequence[Line]) -> list[str]:
    """Say for each trace how our best does beside the best of all others, by their mean times to the first token."""
    texts = []
    for trace in dict.fromkeys(line.trace for line in found):
        here = [line for line in found if line.trace == trace]
        ours = [line for line in here if line.family == OURS]
        others = [line for line in here if line.family != OURS]
        if not (ours and others):
            continue
        best, rest = (min(some, key=lambda line: line.figures.ttft_mean) for some in (ours, others))
        mine, theirs = best.figures, rest.figures
        verdict = "ours is first" if mine.ttft_mean <= theirs.ttft_mean else "ours is NOT first"
        texts.append(
            f"{trace}: {verdict}: {best.router} {mine.ttft_mean:,.0f} ms mean, p99 {mine.ttft_p99:,.0f}, goodput "
            f"{mine.goodput:.3f}; {rest.family}, {rest.router} {theirs.ttft_mean:,.0f} ms, p99 {theirs.ttft_p99:,.0f}, "
            f"goodput {theirs.goodput:.3f}"
        )
    return texts


def doubts(found: Sequence[Line]) -> list[str]:
    """Say where the machine was the limit."""
    texts = []
    for line in found:
        name = f"{line.trace}, {line.family}, {line.router}"
        if line.lateness > LATE:
            texts.append(f"{name}: requests were sent up to {line.lateness * 1e3:.0f} ms late: lower --load")
        if line.servers_late > LATE:
            texts.append(f"{name}: servers took up to {line.servers_late * 1e3:.0f} ms to answer at all")
        texts += [
            f"{name}: {role} used {line.cpu[role]:.2f} cores: it was the limit"
            for role in ("fleet", "client")
            if line.cpu.get(role, 0.0) > _BUSY
        ]
    return texts


def write(path: Path, runs: Sequence[Run], found: Sequence[Line], about: Mapping[str, object]) -> None:
    """Write the figures, every run's outcomes and the machine as JSON."""
    document = {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        **about,
        "lines": [asdict(line) for line in found],
        "runs": [asdict(run) for run in runs],
    }
    path.write_text(json.dumps(document) + "\n", encoding="utf-8")
