"""`make bench`: Pointsman beside bare Envoy, with the same load, the same servers and one Envoy worker each.

Exit status: 0 measured (whether or not the targets are reached), 1 requests failed, 2 something is missing.
"""

import argparse
import json
import signal
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

from rich.console import Console

from benchmarks import envoys, load, manifests, measure, prompts, report
from benchmarks.processes import Child, Processes, parts
from pointsman import bootstrap
from pointsman.failure import Failure
from pointsman.ports import free_port

_PODS = ("127.0.0.11", "127.0.0.12", "127.0.0.13", "127.0.0.14")
_FINDERS = ("json_to_metadata", "ai_protocol_manager")
_PATIENCE = 60.0
_PATH = "/v1/chat/completions"


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
        samples = _run(program, plan, arguments.only, console)
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
    parser.add_argument("--rounds", type=int, metavar="N", help="how often each line is measured (10)")
    parser.add_argument("--seconds", type=int, metavar="S", help="how long each measurement takes (1)")
    parser.add_argument("--quick", action="store_true", help="two rounds")
    parser.add_argument("--only", choices=_FINDERS, help="one way of finding the model only")
    parser.add_argument("--model-last", action="store_true", help="`model` is the last key of the request")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to FILE")
    arguments = parser.parse_args()
    arguments.rounds = arguments.rounds or (2 if arguments.quick else 10)
    arguments.seconds = arguments.seconds or 1
    return arguments


def _run(program: str, plan: measure.Plan, only: str | None, console: Console) -> list[measure.Sample]:
    with tempfile.TemporaryDirectory(prefix="pointsman-bench-") as name, Processes(Path(name)) as processes:
        bare, lines = _start(processes, Path(name), (only,) if only else _FINDERS)
        status = console.status("") if console.is_terminal else None
        if status is None:
            return measure.measure(program, bare, lines, plan, lambda _: None)
        with status:
            return measure.measure(program, bare, lines, plan, status.update)


def _start(processes: Processes, folder: Path, finders: tuple[str, ...]) -> tuple[measure.Line, list[measure.Line]]:
    """Start the servers, the bare gateway and a Pointsman for each way of finding the model; return what to measure."""
    pods_port = free_port(_PODS[0])
    bare_port = free_port()
    servers = _envoy(processes, folder, "servers", envoys.model_servers(_PODS, pods_port))
    gateway = _envoy(processes, folder, "envoy", envoys.bare_gateway(bare_port, _PODS, pods_port))
    _await(servers, f"http://{_PODS[0]}:{pods_port}{_PATH}", manifests.PLAIN)
    always = {"servers": servers.process.pid}
    bare = measure.Line(
        report.BARE, f"http://127.0.0.1:{bare_port}{_PATH}", manifests.PLAIN, {"envoy": gateway.process.pid, **always}
    )
    _await(gateway, bare.url, bare.model)
    alone = measure.Line(report.SERVERS, f"http://{_PODS[0]}:{pods_port}{_PATH}", manifests.PLAIN, always, check=True)
    lines = []
    for finder in finders:
        port = free_port()
        own = folder / finder
        own.mkdir()
        manifests.write(own, port=port, pods=_PODS, pods_port=pods_port)
        options = ("--model-finder", finder, "--concurrency", "1")
        up = processes.start("up", (sys.executable, "-m", "pointsman", "up", str(own), *options))
        url = f"http://127.0.0.1:{port}{_PATH}"
        for model in (manifests.PLAIN, manifests.RENAMED):
            _await(up, url, model)
        _refuses_unknown(url)
        pids = {**parts(up), **always}
        lines.append(measure.Line(finder, url, manifests.PLAIN, pids))
        lines.append(measure.Line(f"{finder} + body", url, manifests.RENAMED, pids))
    return bare, [*lines, alone]


def _envoy(processes: Processes, folder: Path, role: str, config: envoys.Config) -> Child:
    path = folder / f"{role}.json"
    path.write_text(json.dumps(config), encoding="utf-8")
    return processes.start(role, bootstrap.command(bootstrap.binary(), path, concurrency=1))


def _await(child: Child, url: str, model: str) -> None:
    """Wait until a request is answered with success; RuntimeError when that does not happen."""
    deadline = time.monotonic() + _PATIENCE
    while _status(url, model) != 200:  # noqa: PLR2004  (OK)
        child.check()
        if time.monotonic() > deadline:
            raise RuntimeError(f"{child.role}: {url} answers {_status(url, model)} for the model {model}")
        time.sleep(0.1)


def _refuses_unknown(url: str) -> None:
    """RuntimeError unless requests are routed by their model: one that no rule serves is refused."""
    status = _status(url, "unknown")
    if status != 404:  # noqa: PLR2004  (Not Found)
        raise RuntimeError(f"{url} answers {status} for a model that no rule serves: it does not route by the model")


def _status(url: str, model: str) -> int:
    request = urllib.request.Request(  # noqa: S310  (loopback)
        url, data=prompts.chat(model, 600), headers={"content-type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=5) as response:  # noqa: S310  (loopback)
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


if __name__ == "__main__":
    sys.exit(main())
