"""The figures as pictures: for each trace how long requests waited, and what share of them was served well.

Needs matplotlib (`pip install pointsman[bench]`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.scheduling.outcome import percentile
from benchmarks.scheduling.report import OURS, Line
from benchmarks.scheduling.runs import Run

MISSING = "plots need matplotlib: pip install 'pointsman[bench]'"

_POINTS = 100
_COLOURS: Mapping[str, Sequence[str]] = {
    OURS: ("#0b5fa5", "#d1495b"),
    "bare Envoy": ("#9a9a9a", "#5f5f5f"),
    "sglang-router": ("#2a9d55", "#7bc67e", "#175c33"),
    "vllm-router": ("#b8860b", "#e0b040", "#8a5a00", "#f2d48f", "#5c4400"),
}


def available() -> bool:
    """Whether matplotlib is installed."""
    return find_spec("matplotlib") is not None


def draw(folder: Path, runs: Sequence[Run], found: Sequence[Line], kind: str = "svg") -> list[Path]:
    """Draw a picture for each trace; returns the files."""
    import matplotlib as mpl  # noqa: PLC0415  (an extra)

    mpl.use("agg")
    # The same figures give the same file.
    mpl.rcParams.update({"svg.hashsalt": "pointsman", "svg.fonttype": "none", "font.size": 8})
    folder.mkdir(parents=True, exist_ok=True)
    return [
        _draw(folder / f"{trace}.{kind}", runs, [line for line in found if line.trace == trace])
        for trace in dict.fromkeys(line.trace for line in found)
    ]


def _draw(path: Path, runs: Sequence[Run], found: Sequence[Line]) -> Path:
    from matplotlib import pyplot as plt  # noqa: PLC0415  (an extra)

    figure, (times, bars, hits) = plt.subplots(1, 3, figsize=(11, 3.6), width_ratios=(2.2, 1, 1), layout="constrained")
    taken: dict[str, int] = {}
    shades = []
    for line in found:
        number = taken[line.family] = taken.get(line.family, -1) + 1
        colours = _COLOURS.get(line.family, ("#000000",))
        shades.append(colours[number % len(colours)])
    for line, colour in zip(found, shades, strict=True):
        waits = sorted(
            outcome.ttft
            for run in runs
            if (run.trace, run.family, run.router) == (line.trace, line.family, line.router)
            for outcome in run.outcomes
            if not outcome.error
        )
        shares = [step / _POINTS for step in range(1, _POINTS)]
        width = 1.8 if line.family == OURS else 1.0
        times.plot([percentile(waits, share) for share in shares], shares, color=colour, linewidth=width)
    times.set(xscale="log", xlabel="seconds to the first token", ylabel="share of requests", title=found[0].trace)
    times.grid(visible=True, alpha=0.3)
    names = [f"{line.family}, {line.router}" for line in found]
    _bars(bars, names, [line.figures.goodput for line in found], shades, "goodput")
    _bars(hits, [""] * len(found), [line.hits for line in found], shades, "prompt tokens cached")
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else {})
    plt.close(figure)
    return path


def _bars(axes: Any, names: Sequence[str], values: Sequence[float], colours: Sequence[str], title: str) -> None:  # noqa: ANN401
    places = range(len(values))
    axes.barh(places, values, color=list(colours))
    axes.set_yticks(places, names)
    axes.set(title=title, xlim=(0, 1.15))
    axes.invert_yaxis()
    for place, value in zip(places, values, strict=True):
        axes.text(value + 0.01, place, f"{value:.2f}", va="center", fontsize=7)
