"""`make bench`: Pointsman beside bare Envoy, with the same load, the same servers and one Envoy worker each.

Exit status: 0 measured (whether or not the targets are reached), 1 requests failed, 2 something is missing.
"""

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console

from benchmarks import load, measure, peers, report
from benchmarks.scene import FINDERS, STRATEGIES, Wanted, on_stage, stage, subjects
from pointsman.failure import Failure

_PODS = (4, 32, 256)
_ROUNDS, _QUICK_ROUNDS = 5, 2


def main() -> int:
    """Run the benchmark."""
    arguments = _arguments()
    plan = measure.Plan(arguments.rounds, arguments.seconds, arguments.model_last)
    program = load.wrk()
    if program is None:
        print(load.MISSING, file=sys.stderr)
        return 2
    # Like Ctrl-C: everything that was started is ended.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    console = Console(width=None if sys.stdout.isatty() else 180, highlight=False)
    console.print(f"{report.machine()}; {plan.rounds} rounds of {plan.seconds} s for each line and case")
    try:
        samples = _run(program, plan, arguments, console)
    except (load.LoadError, RuntimeError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except Failure as failure:
        print(f"bench: {failure}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    results = measure.results(samples)
    report.show(console, results)
    if arguments.json is not None:
        report.write(arguments.json, plan, samples, results)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure Pointsman beside bare Envoy.")
    parser.add_argument("--rounds", type=int, metavar="N", help=f"how often each line is measured ({_ROUNDS})")
    parser.add_argument("--seconds", type=int, metavar="S", help="how long each measurement takes (1)")
    parser.add_argument("--quick", action="store_true", help="two rounds, with 32 pods and without peers")
    parser.add_argument("--pods", type=int, nargs="+", metavar="N", help="how many pods there are (4 32 256)")
    parser.add_argument("--only", choices=FINDERS, help="one way of finding the model only")
    parser.add_argument("--strategy", choices=tuple(STRATEGIES), help="one strategy only")
    parser.add_argument("--no-peers", action="store_true", help="without the routers of the Python package index")
    parser.add_argument("--beside", type=Path, metavar="FOLDER", help="another checkout, to be measured as well")
    parser.add_argument("--model-last", action="store_true", help="`model` is the last key of the request")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to FILE")
    arguments = parser.parse_args()
    arguments.rounds = arguments.rounds or (_QUICK_ROUNDS if arguments.quick else _ROUNDS)
    arguments.seconds = arguments.seconds or 1
    arguments.pods = arguments.pods or ((32,) if arguments.quick else _PODS)
    arguments.no_peers |= arguments.quick
    return arguments


def _run(program: str, plan: measure.Plan, arguments: argparse.Namespace, console: Console) -> list[measure.Sample]:
    samples: list[measure.Sample] = []
    with TemporaryDirectory(prefix="pointsman-peers-") as folder:
        wanted = Wanted(
            (arguments.only,) if arguments.only else FINDERS,
            (arguments.strategy,) if arguments.strategy else tuple(STRATEGIES),
            arguments.beside,
            {} if arguments.no_peers else _install(Path(folder), console),
        )
        for pods in arguments.pods:
            cases = tuple(measure.cases(pods, alone=pods == min(arguments.pods)))
            with stage(pods) as set_up:
                # Whether the servers are fast enough shows as well beside the first subject as beside all.
                checks = [set_up.alone]
                for subject in subjects(set_up, wanted):
                    with on_stage(subject) as lines:
                        told = f"{pods} pods, {subject.name}"
                        samples += _measure(program, set_up.bare, [*lines, *checks], plan, cases, console, told)
                        console.print(f"{told}: {report.memory(lines)}")
                    checks = []
    return samples


def _measure(
    program: str,
    bare: measure.Line,
    lines: list[measure.Line],
    plan: measure.Plan,
    cases: Sequence[measure.Case],
    console: Console,
    told: str,
) -> list[measure.Sample]:
    if not console.is_terminal:
        return measure.measure(program, bare, lines, plan, cases, lambda _: None)
    with console.status(told) as status:
        return measure.measure(program, bare, lines, plan, cases, lambda now: status.update(f"{told}: {now}"))


def _install(folder: Path, console: Console) -> dict[str, Path]:
    installed = {}
    for package in peers.PEERS:
        try:
            installed[package] = peers.install(folder, package)
        except peers.Unavailable as unavailable:
            console.print(f"{package} is left out: {unavailable}")
    return installed


if __name__ == "__main__":
    sys.exit(main())
