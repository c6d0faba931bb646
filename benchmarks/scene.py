"""What takes part with so many pods: model servers, bare Envoy, Pointsman in each form, and peers."""

import json
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks import envoys, manifests, measure, peers, prompts
from benchmarks.processes import Child, Processes, parts
from pointsman import bootstrap
from pointsman.ports import free_port

BARE = "bare Envoy"
SERVERS = "the servers alone"

FINDERS = ("json_to_metadata", "ai_protocol_manager")
STRATEGIES: Mapping[str, str] = {
    "DEFAULT": manifests.PLAIN,
    "PREFIX_CACHE": manifests.CACHED,
    "DEFAULT, renamed": manifests.RENAMED,
}
"""What is measured of Pointsman, each by the model that is asked for."""

_PATIENCE = 60.0
_PATH = "/v1/chat/completions"
_HERE = Path(__file__).parent.parent


@dataclass(frozen=True, slots=True)
class Wanted:
    """Ways of finding the model and strategies; `beside`: another checkout of this repository, for further rows.

    `installed` are peers by name: the Python that each is installed for.
    """

    finders: Sequence[str] = FINDERS
    strategies: Sequence[str] = tuple(STRATEGIES)
    beside: Path | None = None
    installed: Mapping[str, Path] = field(default_factory=dict)


@contextmanager
def scene(pods: int, wanted: Wanted) -> Iterator[tuple[measure.Line, list[measure.Line]]]:
    """Start everything; yield the bare gateway's line and the others.  RuntimeError when something does not serve."""
    with TemporaryDirectory(prefix="pointsman-bench-") as name, Processes(Path(name)) as processes:
        yield _start(processes, Path(name), pods, wanted)


def addresses(pods: int) -> list[str]:
    """Return a loopback address for each pod."""
    return [f"127.1.{number // 250}.{number % 250 + 1}" for number in range(pods)]


def _start(processes: Processes, folder: Path, pods: int, wanted: Wanted) -> tuple[measure.Line, list[measure.Line]]:
    hosts = addresses(pods)
    port, bare_port = free_port(hosts[0]), free_port()
    servers = _envoy(processes, folder, "servers", envoys.model_servers(hosts, port))
    gateway = _envoy(processes, folder, "envoy", envoys.bare_gateway(bare_port, hosts, port))
    always = {"servers": servers.process.pid}
    alone = measure.Line(SERVERS, f"http://{hosts[0]}:{port}{_PATH}", manifests.PLAIN, always, check=True)
    _await(servers, alone.url, alone.model)
    bare = measure.Line(
        BARE, f"http://127.0.0.1:{bare_port}{_PATH}", manifests.PLAIN, {"envoy": gateway.process.pid, **always}
    )
    _await(gateway, bare.url, bare.model)
    lines: list[measure.Line] = []
    for checkout, said in ((_HERE, ""), *([] if wanted.beside is None else [(wanted.beside.resolve(), " (beside)")])):
        for finder in wanted.finders:
            own = folder / f"{finder}{said}"
            own.mkdir()
            lines += _pointsman(processes, own, checkout, finder, wanted.strategies, hosts, port, always, said)
    for package, python in wanted.installed.items():
        lines.append(_peer(processes, python, package, hosts, port, always))
    return bare, [*lines, alone]


def _pointsman(
    processes: Processes,
    folder: Path,
    checkout: Path,
    finder: str,
    strategies: Sequence[str],
    hosts: Sequence[str],
    hosts_port: int,
    always: Mapping[str, int],
    said: str,
) -> list[measure.Line]:
    port = free_port()
    manifests.write(folder, port=port, pods=hosts, pods_port=hosts_port)
    options = ("--model-finder", finder, "--concurrency", "1")
    argv = (sys.executable, "-m", "pointsman", "up", str(folder), *options)
    up = processes.start("up", argv, folder=checkout, environment={"PYTHONPATH": str(checkout)})
    url = f"http://127.0.0.1:{port}{_PATH}"
    for model in STRATEGIES.values():
        _await(up, url, model)
    _refuses_unknown(url)
    pids = {**parts(up), **always}
    return [measure.Line(f"{each}, {finder}{said}", url, STRATEGIES[each], pids) for each in strategies]


def _peer(
    processes: Processes, python: Path, package: str, hosts: Sequence[str], hosts_port: int, always: Mapping[str, int]
) -> measure.Line:
    port = free_port()
    servers = [f"http://{host}:{hosts_port}" for host in hosts]
    argv = peers.command(python, package, port=port, metrics_port=free_port(), servers=servers)
    child = processes.start(package, argv, environment=peers.ENVIRONMENT)
    url = f"http://127.0.0.1:{port}{_PATH}"
    _await(child, url, manifests.PLAIN)
    name = f"{package} {peers.version(python, package)}"
    return measure.Line(name, url, manifests.PLAIN, {"peer": child.process.pid, **always})


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
