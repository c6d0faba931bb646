"""What a change costs by the number of routes, with a folder and with a cluster.

python -m benchmarks.control_plane [--source folder] [--hosts own] [--sizes 1 1000 10000] [--changes 50] [--json FILE]

Exit status: 0 measured, 1 something did not serve, 2 something is missing.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path

from rich.console import Console

from benchmarks.control_plane import report
from benchmarks.control_plane.folder import folder
from benchmarks.control_plane.kubernetes import Unmet, kubernetes
from benchmarks.control_plane.measure import Figures, Subject, measure
from benchmarks.control_plane.worlds import Routes
from benchmarks.report import machine

_SOURCES: Mapping[str, Callable[[Routes], AbstractContextManager[Subject]]] = {
    "folder": folder,
    "kubernetes": kubernetes,
}


def main() -> int:
    """Run the benchmark."""
    arguments = _arguments()
    # Like Ctrl-C: everything that was started is ended.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    console = Console(width=None if sys.stdout.isatty() else 180, highlight=False)
    console.print(machine())
    results: list[Figures] = []
    status = 0
    try:
        for source in arguments.source or _SOURCES:
            for count in arguments.sizes:
                # One route has one hostname either way.
                for hosts in arguments.hosts or (("own", "one") if count > 1 else ("own",)):
                    console.print(f"{source}, {count:,} routes, hostnames: {hosts}")
                    routes = Routes(count, hosts)
                    with _SOURCES[source](routes) as subject:
                        results.append(measure(subject, routes, arguments.changes))
    except Unmet as unmet:
        print(f"control_plane: {unmet}", file=sys.stderr)
        status = 2
    except RuntimeError as error:
        print(f"control_plane: {error}", file=sys.stderr)
        status = 1
    except KeyboardInterrupt:
        return 130
    if results:
        report.show(console, results)
    if arguments.json is not None:
        report.write(arguments.json, results)
    return status


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.control_plane", description="Measure changes.")
    parser.add_argument("--source", nargs="+", choices=tuple(_SOURCES), help="one source only")
    parser.add_argument("--hosts", nargs="+", choices=("own", "one"), help="a hostname for each route, or one for all")
    parser.add_argument("--sizes", nargs="+", type=int, default=(1, 1000, 10_000), metavar="N", help="how many routes")
    parser.add_argument("--changes", type=int, default=50, metavar="N", help="how many changes of each kind (50)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to FILE")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
