"""`make bench-scheduling`: every router in front of one simulated fleet, with the same traces.

Each run starts the servers and the router anew, so that nobody has anything cached.  The routers take turns, and each
round has requests of its own.  Exit status: 0 measured, 1 a run failed, 2 something is missing.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import uvloop
from rich.console import Console

from benchmarks import peers
from benchmarks.report import machine
from benchmarks.scheduling import plots, report, runs, traces, virtual
from benchmarks.scheduling.fleet import Fleet
from benchmarks.scheduling.outcome import figures
from benchmarks.scheduling.routers import ROUTERS, Router, install
from benchmarks.scheduling.runs import LATE, Run
from benchmarks.scheduling.traces import Slo, Trace
from pointsman.failure import Failure

_ROUNDS, _SECONDS = 3, 25.0
_QUICK_ROUNDS, _QUICK_SECONDS = 1, 10.0
# How often a run is tried that something else on the machine disturbs.
_ATTEMPTS = 3


def main() -> int:
    """Run the benchmark."""
    arguments = _arguments()
    console = Console(width=None if sys.stdout.isatty() else 180, highlight=False)
    if arguments.virtual:
        _play_virtually(console, arguments)
        return 0
    if arguments.plots is not None and not plots.available():
        print(plots.MISSING, file=sys.stderr)
        return 2
    # Like Ctrl-C: everything that was started is ended.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    routers = _routers(arguments.only, console)
    console.print(f"{machine()}; {arguments.rounds} rounds of {arguments.seconds:g} s for each router and trace")
    made: list[Run] = []
    try:
        _measure(routers, arguments, console, made)
    except KeyboardInterrupt:
        console.print("ended early")
    except RuntimeError as error:
        print(f"bench-scheduling: {error}", file=sys.stderr)
        return 1
    except Failure as failure:
        print(f"bench-scheduling: {failure}", file=sys.stderr)
        return 2
    found = report.lines(made, Slo())
    report.show(console, found, Slo())
    if arguments.json is not None:
        about = {key: getattr(arguments, key) for key in ("rounds", "seconds", "load", "slow")}
        report.write(arguments.json, made, found, about)
    if arguments.plots is not None:
        for path in plots.draw(arguments.plots, made, found):
            console.print(f"wrote {path}")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scheduling", description=__doc__)
    parser.add_argument("--quick", action="store_true", help=f"one round of {_QUICK_SECONDS:g} seconds")
    parser.add_argument("--trace", nargs="+", choices=traces.names(), help="some traces only")
    parser.add_argument("--only", nargs="+", metavar="TEXT", help="only routers whose name contains one of these")
    parser.add_argument("--rounds", type=int, metavar="N", help=f"how often each is measured ({_ROUNDS})")
    parser.add_argument("--seconds", type=float, metavar="S", help=f"how long a trace is ({_SECONDS:g})")
    parser.add_argument("--load", type=float, default=1.0, metavar="X", help="so many times the usual requests (1)")
    parser.add_argument("--slow", type=float, default=1.0, metavar="X", help="so many times slower in all (1)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to FILE")
    parser.add_argument("--plots", type=Path, metavar="FOLDER", help="draw a picture of each trace into FOLDER")
    parser.add_argument("--virtual", action="store_true", help="in virtual time: Envoy's and our strategies, as models")
    arguments = parser.parse_args()
    arguments.rounds = arguments.rounds or (_QUICK_ROUNDS if arguments.quick else _ROUNDS)
    arguments.seconds = arguments.seconds or (_QUICK_SECONDS if arguments.quick else _SECONDS)
    arguments.trace = arguments.trace or traces.names()
    return arguments


def _wanted(name: str, only: Sequence[str] | None) -> bool:
    return only is None or any(text.lower() in name.lower() for text in only)


def _routers(only: Sequence[str] | None, console: Console) -> list[Router]:
    """Return the wanted routers that are there; those of the package index are installed first."""
    wanted = [router for router in ROUTERS if _wanted(f"{router.family}, {router.name}", only)]
    missing = set()
    for package in dict.fromkeys(router.needs for router in wanted if router.needs):
        try:
            console.print(f"{package} {install(package)}")
        except (peers.Unavailable, OSError) as error:
            console.print(f"{package} is left out: {error}")
            missing.add(package)
    return [router for router in wanted if router.needs not in missing]


def _measure(routers: Sequence[Router], arguments: argparse.Namespace, console: Console, made: list[Run]) -> None:
    fleet = Fleet(slow=arguments.slow)
    for seed in range(1, arguments.rounds + 1):
        for name in arguments.trace:
            trace = traces.build(name, seed=seed, seconds=arguments.seconds, load=arguments.load, slow=arguments.slow)
            # The order turns round, so that nobody is always the one after another.
            for router in routers if seed % 2 else routers[::-1]:
                run = _undisturbed(router, trace, fleet, seed)
                made.append(run)
                seen = figures(run.outcomes, Slo())
                console.print(
                    f"round {seed}, {name}: {router.family}, {router.name}: first token {seen.ttft_mean:,.0f} ms, "
                    f"goodput {seen.goodput:.3f}" + (f", {seen.failed} FAILED" if seen.failed else "")
                )


def _undisturbed(router: Router, trace: Trace, fleet: Fleet, seed: int) -> Run:
    """Run once, and again while the machine had other things to do; return the run that was disturbed least."""
    tried: list[Run] = []
    while not tried or (tried[-1].disturbed > LATE and len(tried) < _ATTEMPTS):
        tried.append(uvloop.run(runs.run(router, trace, fleet, seed)))
    return min(tried, key=lambda run: run.disturbed)


def _play_virtually(console: Console, arguments: argparse.Namespace) -> None:
    for name in arguments.trace:
        for router in virtual.MAKERS:
            if not _wanted(router, arguments.only):
                continue
            outcomes = [
                outcome
                for seed in range(1, arguments.rounds + 1)
                for outcome in virtual.run(
                    router, traces.build(name, seed=seed, seconds=arguments.seconds, load=arguments.load), Fleet(), seed
                )
            ]
            seen = figures(outcomes, Slo())
            console.print(
                f"{name:16} {router:14} {seen.requests} requests: TTFT mean {seen.ttft_mean:6,.0f} p50 "
                f"{seen.ttft_p50:6,.0f} p90 {seen.ttft_p90:6,.0f} p99 {seen.ttft_p99:6,.0f} ms, TPOT p50 "
                f"{seen.tpot_p50:4.0f} p99 {seen.tpot_p99:4.0f} ms, goodput {seen.goodput:.3f}, hits {seen.hits:.3f}"
            )


if __name__ == "__main__":
    sys.exit(main())
