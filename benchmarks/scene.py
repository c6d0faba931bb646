"""What takes part with so many pods: model servers, bare Envoy, Pointsman in each form, and peers."""

import json
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
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

FINDERS = ("lua", "ai_protocol_manager")
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


@dataclass(frozen=True, slots=True)
class Subject:
    """Something to measure: `start` starts it among processes, with a folder of its own, and returns its lines."""

    name: str
    start: Callable[[Processes, Path], list[measure.Line]]


@dataclass(frozen=True, slots=True)
class Stage:
    """Model servers and the bare gateway before them, which stay; `bare` and `alone` are their lines."""

    bare: measure.Line
    alone: measure.Line
    hosts: Sequence[str]
    port: int

    @property
    def always(self) -> Mapping[str, int]:
        """The processes that take part in every line."""
        return self.alone.pids


@contextmanager
def stage(pods: int) -> Iterator[Stage]:
    """Start model servers and the bare gateway.  RuntimeError when something does not serve."""
    with TemporaryDirectory(prefix="pointsman-bench-") as name, Processes(Path(name)) as processes:
        folder, hosts = Path(name), addresses(pods)
        port, bare_port = free_port(hosts[0]), free_port()
        servers = _envoy(processes, folder, "servers", envoys.model_servers(hosts, port))
        gateway = _envoy(processes, folder, "envoy", envoys.bare_gateway(bare_port, hosts, port))
        always = {"servers": servers.process.pid}
        alone = measure.Line(SERVERS, f"http://{hosts[0]}:{port}{_PATH}", manifests.PLAIN, always, check=True)
        _await(servers, alone.url, alone.model)
        pids = {"envoy": gateway.process.pid, **always}
        bare = measure.Line(BARE, f"http://127.0.0.1:{bare_port}{_PATH}", manifests.PLAIN, pids)
        _await(gateway, bare.url, bare.model)
        yield Stage(bare, alone, hosts, port)


@contextmanager
def on_stage(subject: Subject) -> Iterator[list[measure.Line]]:
    """Start a subject; it runs alone, so that nobody else's scrapes are the servers' business."""
    with TemporaryDirectory(prefix="pointsman-bench-") as name, Processes(Path(name)) as processes:
        yield subject.start(processes, Path(name))


def subjects(stage: Stage, wanted: Wanted) -> Iterator[Subject]:
    """Yield what is to be measured before the servers of a stage."""
    checkouts = {"": _HERE} if wanted.beside is None else {"": _HERE, " (beside)": wanted.beside.resolve()}
    for finder in wanted.finders:
        for said, checkout in checkouts.items():
            yield Subject(finder + said, _pointsman(stage, checkout, finder, wanted.strategies, said))
    for package, python in wanted.installed.items():
        yield Subject(package, _peer(stage, python, package))


def addresses(pods: int) -> list[str]:
    """Return a loopback address for each pod."""
    return [f"127.1.{number // 250}.{number % 250 + 1}" for number in range(pods)]


def _pointsman(
    stage: Stage, checkout: Path, finder: str, strategies: Sequence[str], said: str
) -> Callable[[Processes, Path], list[measure.Line]]:
    def start(processes: Processes, folder: Path) -> list[measure.Line]:
        port = free_port()
        served = folder / "manifests"
        served.mkdir()
        manifests.write(served, port=port, pods=stage.hosts, pods_port=stage.port)
        options = ("--model-finder", finder, "--concurrency", "1")
        argv = (sys.executable, "-m", "pointsman", "up", str(served), *options)
        up = processes.start("up", argv, folder=checkout, environment={"PYTHONPATH": str(checkout)})
        url = f"http://127.0.0.1:{port}{_PATH}"
        for model in STRATEGIES.values():
            _await(up, url, model)
        _refuses_unknown(url)
        pids = {**parts(up), **stage.always}
        return [measure.Line(f"{each}, {finder}{said}", url, STRATEGIES[each], pids) for each in strategies]

    return start


def _peer(stage: Stage, python: Path, package: str) -> Callable[[Processes, Path], list[measure.Line]]:
    def start(processes: Processes, _folder: Path) -> list[measure.Line]:
        port = free_port()
        servers = [f"http://{host}:{stage.port}" for host in stage.hosts]
        argv = peers.command(python, package, port=port, metrics_port=free_port(), servers=servers)
        child = processes.start(package, argv, environment=peers.ENVIRONMENT)
        url = f"http://127.0.0.1:{port}{_PATH}"
        _await(child, url, manifests.PLAIN)
        pids = {"peer": child.process.pid, **stage.always}
        return [measure.Line(f"{package} {peers.version(python, package)}", url, manifests.PLAIN, pids)]

    return start


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
