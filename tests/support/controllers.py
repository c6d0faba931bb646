"""A controller beside a cluster: its process, what it says, and waiting for what it does."""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import cluster_images
import pytest
from minikluster.cluster import Cluster

NODE = "10.244.0.1"
XDS, ADMIN = f"{NODE}:18000", f"{NODE}:19000"
CLASS = "pointsman"
# It runs in no pod, and so has the namespace of those who say none.
OWN_NAMESPACE = "default"
NAMES = (
    "pointsman.dev/gateway-controller",
    "gateway.envoyproxy.io/gatewayclass-controller",
    "inference.networking.x-k8s.io/gateway-controller",
    "kgateway.dev/kgateway",
)
# Processes start slowly on a machine that tests keep busy (seconds).
PATIENCE = 90.0


def install_apis(cluster: Cluster) -> None:
    """Install the Gateway API's definitions and ours."""
    if shutil.which("go") is None:
        pytest.skip("the Gateway API's definitions come as a Go module, and there is no Go")
    cluster.call("conformance", "--crds-only")
    cluster.run([*cluster_images.PROGRAM, "crds", "--apply"])
    cluster.kubectl("wait", "crd", "--all", "--for=condition=Established", "--timeout=120s")


class Controller:
    """Runs on the node, outside of the cluster's pods, which reach it there."""

    running: ClassVar[set["Controller"]] = set()

    def __init__(
        self, cluster: Cluster, folder: Path, *, names: Sequence[str] = NAMES, xds: str = XDS, admin: str = ADMIN
    ) -> None:
        self.cluster = cluster
        self.admin = admin
        self._names = names
        self._xds = xds
        self._log = folder / "controller.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, options: Sequence[str] = ()) -> None:
        """Start it; it is ready when the cluster has been read."""
        command = [*cluster_images.PROGRAM, "controller", "--xds", self._xds, "--admin", self.admin]
        command += ["--advertise", self._xds, "--xds-mtls", self.xds_mtls, "--advertise-mtls", self.xds_mtls]
        command += ["--envoy-image", cluster_images.ENVOY, "--image", cluster_images.POINTSMAN, *options]
        for name in self._names:
            command += ["--controller-name", name]
        with self._log.open("ab") as log:
            self._process = self.cluster.popen(command, log)
        Controller.running.add(self)
        self.until(self.ready)

    @property
    def xds_mtls(self) -> str:
        """Where it serves pods of its own namespace, which is OWN_NAMESPACE."""
        host, _, port = self._xds.rpartition(":")
        return f"{host}:{int(port) + 1}"

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End it."""
        if self._process is not None:
            os.kill(self._process.pid, number)
            self._process.wait(30)
            self._process = None
            Controller.running.discard(self)

    @property
    def memory(self) -> int:
        """Its resident memory in bytes."""
        assert self._process is not None
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) * 1024

    @property
    def log(self) -> str:
        """What it has written."""
        return self._log.read_text()

    def ready(self) -> bool:
        """Whether it has read the cluster."""
        try:
            return "ready" in self.cluster.run(["curl", "-sf", "-m", "2", f"http://{self.admin}/readyz"])
        except RuntimeError:
            return False

    def status(self) -> dict[str, Any]:
        """What /status says."""
        found: dict[str, Any] = json.loads(self.cluster.run(["curl", "-sf", "-m", "10", f"http://{self.admin}/status"]))
        return found

    def until(self, holds: Callable[[], bool], seconds: float = PATIENCE) -> float:
        """Wait until something holds; return how many seconds that took."""
        start = time.monotonic()
        while not holds():
            if time.monotonic() - start > seconds:
                raise AssertionError(f"not within {seconds} s\n{self.log[-4000:]}")
            time.sleep(0.1)
        return time.monotonic() - start

    def programmed(self, name: str, namespace: str) -> str:
        """Wait until a Gateway is programmed; return its address."""
        wait = ("wait", "-n", namespace, f"gateway/{name}", "--for=condition=Programmed", f"--timeout={PATIENCE:.0f}s")
        self.cluster.kubectl(*wait)
        address: str = self.cluster.get("gateway", name, namespace=namespace)["status"]["addresses"][0]["value"]
        return address

    def rolled_out(self, name: str, namespace: str) -> None:
        """Wait until a Deployment that the controller makes is there, and its pods are ready."""
        listing = ("get", "-n", namespace, "deployment", name, "--ignore-not-found", "-o", "name")
        self.until(lambda: bool(self.cluster.kubectl(*listing).strip()))
        self.cluster.kubectl("rollout", "-n", namespace, "status", f"deployment/{name}", "--timeout=120s")

    def fetch(self, address: str, *options: str) -> tuple[int, str]:
        """Ask a Gateway with curl; return status and body, 0 where there is no answer."""
        command = ["curl", "-s", "-m", "20", "-w", "\n%{http_code}", *options]
        try:
            body, _, status = self.cluster.run([*command, f"http://{address}"]).rpartition("\n")
        except RuntimeError:
            return 0, ""
        return int(status), body
