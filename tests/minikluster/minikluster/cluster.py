"""A cluster of one's own, for tests: started, driven and ended through the command line."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import yaml

from . import build, namespaces
from .config import client_environment
from .manifest import Manifest

_TOOLS = ("ip", "nft", "unshare", "nsenter", "mount", "openssl")
_TRIAL = """
ip link add bridge0 type bridge
ip link add veth0 type veth peer name veth1
nft add table ip trial
nft add chain ip trial nat '{ type nat hook output priority -100; }'
mount -t tmpfs trial /run
mkdir /run/upper /run/work /run/root
mount -t overlay -o lowerdir=/,upperdir=/run/upper,workdir=/run/work trial /run/root
"""
_TIMEOUT = 400  # seconds for a command


def unmet() -> str:
    """Why no cluster can run here; "" if one can, perhaps after a build."""
    if sys.platform != "linux":
        return "it needs Linux"
    if os.geteuid() != 0:
        return "it needs root"
    absent = [tool for tool in _TOOLS if shutil.which(tool) is None]
    if absent:
        return f"it needs {', '.join(absent)}"
    missing = build.missing(build.CLUSTER)
    if missing and shutil.which("go") is None:
        return f"it needs {', '.join(missing)}, in the folder that KUBEBUILDER_ASSETS names, or Go to build them"
    return "" if (refusal := _trial()) is None else f"this machine does not let it: {refusal}"


def _trial() -> str | None:
    """Try what containers often may not do and kernels may lack; what stands against it, or None."""
    command = ["unshare", "--net", "--mount", "--pid", "--fork", "--mount-proc", "sh", "-ec", _TRIAL]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return None if done.returncode == 0 else (done.stderr.strip().splitlines() or ["no reason given"])[0]


def _output(command: Sequence[str], environment: Mapping[str, str], stdin: str) -> str:
    done = subprocess.run(
        command, input=stdin, env=environment, text=True, capture_output=True, timeout=_TIMEOUT, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


@dataclass(frozen=True)
class Cluster:
    """A cluster whose state is in a folder; any number can run side by side."""

    state: Path

    @property
    def kubeconfig(self) -> Path:
        """For use inside."""
        return self.state / "kubeconfig"

    def command(self, *arguments: str) -> tuple[list[str], dict[str, str]]:
        """A command of minikluster on this cluster, and its environment."""
        path = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
        environment = {**os.environ, "MINIKLUSTER_STATE": str(self.state), "PYTHONPATH": path}
        return [sys.executable, "-m", "minikluster", *arguments], environment

    def call(self, *arguments: str, stdin: str = "") -> str:
        """Run a command of minikluster and return what it prints; RuntimeError if it fails."""
        return _output(*self.command(*arguments), stdin)

    def up(self, images: Iterable[Path] = ()) -> None:
        """Start the cluster, or what is missing of it. It ends with this process at the latest."""
        options = [f"--images={path}" for path in images]
        self.call("up", f"--owner={os.getpid()}", *options)

    def down(self) -> None:
        """End the cluster."""
        self.call("down")

    def stop(self, *components: str) -> None:
        """Kill components; `up` starts them again."""
        self.call("stop", *components)

    def kubectl(self, *arguments: str, stdin: str = "") -> str:
        """Run kubectl and return what it prints; RuntimeError if it fails."""
        return self.run(["kubectl", *arguments], stdin=stdin)

    def apply(self, *objects: Manifest, namespace: str = "default") -> None:
        """Apply objects."""
        self.kubectl("apply", "-n", namespace, "-f", "-", stdin=yaml.safe_dump_all(objects))

    def namespace(self, name: str) -> None:
        """Make a namespace, if it is not there; one of that name that is about to go has gone before."""
        phase = self.kubectl("get", "namespace", name, "--ignore-not-found", "-o", "jsonpath={.status.phase}")
        if phase.strip() == "Terminating":
            self.kubectl("wait", f"namespace/{name}", "--for=delete", "--timeout=120s")
        self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})

    def get(self, *what: str, namespace: str = "default") -> Manifest:
        """An object (`service`, `echo`), or a list."""
        found: Manifest = yaml.safe_load(self.kubectl("get", "-n", namespace, *what, "-o", "json"))
        return found

    def run(self, command: Sequence[str | Path], stdin: str = "") -> str:
        """Run a command in the cluster's network and return what it prints; RuntimeError if it fails."""
        return _output([*self._enter(), *map(str, command)], client_environment(self.state), stdin)

    def popen(self, command: Sequence[str], output: IO[bytes]) -> subprocess.Popen[bytes]:
        """Start a command in the cluster's network; it is the caller's to end."""
        environment = client_environment(self.state)
        return subprocess.Popen(
            [*self._enter(), *command], env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )

    def _enter(self) -> list[str]:
        pid = namespaces.keeper(self.state)
        if pid is None:
            raise namespaces.NoClusterError
        return ["nsenter", f"--net=/proc/{pid}/ns/net", "--"]

    def exec(self, pod: str, *command: str, namespace: str = "default", container: str = "") -> str:
        """Run a command in a pod's container, the first one unless it is named."""
        choice = ["-c", container] if container else []
        return self.call("exec", "-n", namespace, *choice, pod, "--", *command)

    def inside(self) -> AbstractContextManager[None]:
        """Have this thread, and those that it starts, in the cluster's network."""
        return namespaces.inside(self.state)

    @contextmanager
    def forward(self, target: str) -> Iterator[str]:
        """Relay ADDRESS:PORT of the cluster to the machine's loopback; gives the address there."""
        command, environment = self.command("forward", "127.0.0.1:0", target)
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as relay:
            assert relay.stdout is not None
            try:
                yield relay.stdout.readline().strip()
            finally:
                relay.terminate()
