"""The control plane of `pointsman up` on a folder with a file for each route, and its Envoy with one worker."""

from __future__ import annotations

import json
import re
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.control_plane.measure import Subject
from benchmarks.control_plane.probe import Probe, server
from benchmarks.control_plane.worlds import Json, Routes, endpoints, frame
from benchmarks.processes import Child, Processes
from pointsman import bootstrap
from pointsman.ports import free_port

_HERE = Path(__file__).parents[2]
_LOOPBACK = "127.0.0.1"
_CONTROLLER = "gateway.envoyproxy.io/gatewayclass-controller"
_VALUE = re.compile(r"^(\w+) (\S+)$", re.MULTILINE)


@contextmanager
def folder(routes: Routes) -> Iterator[Subject]:
    """Start it."""
    with (
        TemporaryDirectory(prefix="pointsman-bench-") as name,
        Processes(Path(name)) as processes,
        server(_LOOPBACK) as backend,
    ):
        served, place = Path(name) / "manifests", Path(name)
        served.mkdir()
        port = free_port()
        for each in frame(_CONTROLLER, port, backend):
            _write(served, each)
        for service in ("server", "pod"):
            _write(served, endpoints(service, _LOOPBACK, backend))
        for each in routes.all():
            _write(served, each)
        xds, admin = f"unix:{place}/xds.sock", f"{_LOOPBACK}:{free_port()}"
        config = place / "envoy.yaml"
        sockets = {"xds": xds, "picker": f"unix:{place}/picker.sock", "admin": f"unix:{place}/envoy.sock"}
        config.write_text(bootstrap.bootstrap(**sockets), encoding="utf-8")
        started = time.monotonic()
        argv = [sys.executable, "-P", "-m", "pointsman", "control-plane", str(served), "--xds", xds, "--admin", admin]
        plane = processes.start("control plane", argv, folder=_HERE)
        envoy = processes.start("envoy", bootstrap.command(bootstrap.binary(), config, concurrency=1))
        yield _Folder((plane, envoy), served, admin, Probe(_LOOPBACK, port), backend, started)


class _Folder:
    source = "folder"

    def __init__(
        self, children: Sequence[Child], served: Path, admin: str, probe: Probe, backend: int, started: float
    ) -> None:
        self._children = children
        self._served = served
        self._admin = admin
        self._backend = backend
        self.started = started
        self.probe = probe

    @property
    def pids(self) -> Mapping[str, int]:
        return {each.role: each.process.pid for each in self._children}

    def check(self) -> None:
        for each in self._children:
            each.check()

    def change(self, route: Json) -> None:
        _write(self._served, route)

    def pod(self, *, ready: bool) -> None:
        _write(self._served, endpoints("pod", _LOOPBACK, self._backend, ready=ready))

    def settle(self) -> None:
        time.sleep(2.0)

    def translation(self) -> tuple[float, float]:
        return spent(self._admin)


def metrics(admin: str) -> Mapping[str, float]:
    """Return what a control plane counts, as far as it has no labels."""
    with urllib.request.urlopen(f"http://{admin}/metrics", timeout=30) as response:
        return {name: float(value) for name, value in _VALUE.findall(response.read().decode())}


def spent(admin: str) -> tuple[float, float]:
    """Return how many seconds a control plane has spent on changes so far, and on how many."""
    told = metrics(admin)
    return told["pointsman_translation_seconds_sum"], told["pointsman_translation_seconds_count"]


def _write(folder: Path, manifest: Json) -> None:
    metadata = manifest["metadata"]
    name = metadata["name"] if isinstance(metadata, Mapping) else ""
    # JSON is YAML, too.
    (folder / f"{manifest['kind']}-{name}.yaml").write_text(json.dumps(manifest), encoding="utf-8")
