"""What stands in front of the fleet: bare Envoy, Pointsman, and the two routers of the Python package index."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import envoys, peers
from benchmarks.processes import Child, Processes, parts
from benchmarks.scheduling.fleet import ADAPTERS, MODEL
from benchmarks.scheduling.fleet_process import RunningFleet
from pointsman import bootstrap
from pointsman.ports import free_port

_GROUP = "inference.networking.k8s.io"
_CONTROLLER = "gateway.envoyproxy.io/gatewayclass-controller"


@dataclass(frozen=True, slots=True)
class Running:
    """A router that was started: where it listens, its process, and the processes to measure, by role."""

    url: str
    child: Child
    pids: Callable[[], Mapping[str, int]]


@dataclass(frozen=True, slots=True)
class Router:
    """A way of choosing servers; `family` is whose it is, `needs` the package that it comes from, if any."""

    name: str
    family: str
    start: Callable[[Processes, Path, RunningFleet], Running]
    needs: str = ""


def _envoy(policy: str) -> Callable[[Processes, Path, RunningFleet], Running]:
    def start(processes: Processes, folder: Path, fleet: RunningFleet) -> Running:
        port = free_port()
        path = folder / "envoy.json"
        path.write_text(json.dumps(envoys.balancing_gateway(port, fleet.addresses, policy)), encoding="utf-8")
        child = processes.start("envoy", bootstrap.command(bootstrap.binary(), path, concurrency=1))
        return Running(f"http://127.0.0.1:{port}", child, lambda: {"envoy": child.process.pid})

    return start


def _pointsman(strategy: str) -> Callable[[Processes, Path, RunningFleet], Running]:
    def start(processes: Processes, folder: Path, fleet: RunningFleet) -> Running:
        port = free_port()
        own = folder / "pointsman"
        own.mkdir()
        documents = [*_gateway(port), *_pool(strategy), _route(), *fleet.pods]
        (own / "all.json").write_text(
            json.dumps({"apiVersion": "v1", "kind": "List", "items": documents}), encoding="utf-8"
        )
        argv = (sys.executable, "-m", "pointsman", "up", str(own), "--concurrency", "1")
        child = processes.start("up", argv)
        return Running(f"http://127.0.0.1:{port}", child, lambda: parts(child))

    return start


def _launched(package: str, policy: str, *options: str) -> Callable[[Processes, Path, RunningFleet], Running]:
    def start(processes: Processes, _folder: Path, fleet: RunningFleet) -> Running:
        port = free_port()
        urls = [f"http://{address}" for address in fleet.addresses]
        python = peers_folder() / package / "bin" / "python"
        argv = peers.command(python, package, port=port, metrics_port=free_port(), servers=urls, policy=policy)
        waits = ("--worker-startup-check-interval", "1")
        child = processes.start(package, (*argv, *waits, *options), environment=peers.ENVIRONMENT)
        return Running(f"http://127.0.0.1:{port}", child, lambda: {package: child.process.pid})

    return start


def peers_folder() -> Path:
    """Return where the other routers' environments are kept: below $XDG_CACHE_HOME, or ~/.cache."""
    cache = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(cache) if cache else Path.home() / ".cache") / "pointsman" / "benchmarks"


def install(package: str) -> str:
    """Make a package's environment unless it is there; returns the version.  Raises peers.Unavailable."""
    folder = peers_folder()
    python, ready = folder / package / "bin" / "python", folder / f"{package}.installed"
    if not (ready.exists() and python.exists()):
        folder.mkdir(parents=True, exist_ok=True)
        peers.install(folder, package)
        ready.touch()
    return peers.version(python, package)


_SGLANG, _VLLM = "sglang-router", "vllm-router"
# Their defaults let a server have 64 requests more than another before the load counts at all, which none here has.
_TUNED = ("--balance-abs-threshold", "4", "--balance-rel-threshold", "1.2")

ROUTERS: tuple[Router, ...] = (
    Router("round robin", "bare Envoy", _envoy("ROUND_ROBIN")),
    Router("least request", "bare Envoy", _envoy("LEAST_REQUEST")),
    Router("DEFAULT", "Pointsman", _pointsman("DEFAULT")),
    Router("PREFIX_CACHE", "Pointsman", _pointsman("PREFIX_CACHE")),
    Router("cache_aware", _SGLANG, _launched(_SGLANG, "cache_aware"), _SGLANG),
    Router("cache_aware, balanced", _SGLANG, _launched(_SGLANG, "cache_aware", *_TUNED), _SGLANG),
    Router("power_of_two", _SGLANG, _launched(_SGLANG, "power_of_two"), _SGLANG),
    Router("cache_aware", _VLLM, _launched(_VLLM, "cache_aware"), _VLLM),
    Router("cache_aware, balanced", _VLLM, _launched(_VLLM, "cache_aware", *_TUNED), _VLLM),
    Router("power_of_two", _VLLM, _launched(_VLLM, "power_of_two"), _VLLM),
    Router("consistent_hash", _VLLM, _launched(_VLLM, "consistent_hash"), _VLLM),
    Router("sticky_least_loaded", _VLLM, _launched(_VLLM, "sticky_least_loaded"), _VLLM),
)


def _gateway(port: int) -> Sequence[Mapping[str, object]]:
    listener = {"name": "http", "protocol": "HTTP", "port": port}
    return [
        _manifest("gateway.networking.k8s.io/v1", "GatewayClass", {"controllerName": _CONTROLLER}),
        _manifest("gateway.networking.k8s.io/v1", "Gateway", {"gatewayClassName": "bench", "listeners": [listener]}),
    ]


def _pool(strategy: str) -> Sequence[Mapping[str, object]]:
    spec = {
        "selector": {"matchLabels": {"app": "fleet"}},
        "targetPorts": [{"number": 8000}],
        "endpointPickerRef": {"name": "bench", "port": {"number": 9002}},
    }
    return [
        _manifest(f"{_GROUP}/v1", "InferencePool", spec, annotations={f"{_GROUP_X}/routing-strategy": strategy}),
        _manifest("v1", "Service", {"ports": [{"port": 9002}]}, labels={"pointsman.dev/picker": "true"}),
    ]


_GROUP_X = "inference.networking.x-k8s.io"


def _route() -> Mapping[str, object]:
    matches = [{"headers": [{"name": "X-Gateway-Model-Name", "value": name}]} for name in (MODEL, *ADAPTERS)]
    pool = {"group": _GROUP, "kind": "InferencePool", "name": "bench"}
    spec = {"parentRefs": [{"name": "bench"}], "rules": [{"matches": matches, "backendRefs": [pool]}]}
    return _manifest("gateway.networking.k8s.io/v1", "HTTPRoute", spec)


def _manifest(version: str, kind: str, spec: Mapping[str, object], **metadata: object) -> Mapping[str, object]:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": "bench", **metadata}, "spec": spec}
