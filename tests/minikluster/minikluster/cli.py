"""The command line."""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from . import build, components, conformance, forward, namespaces
from .config import KUBECONFIG, LOGS, PODS, binary, client_environment
from .manifest import Manifest


def _kubectl(arguments: list[str]) -> None:
    namespaces.enter("net")
    os.execve(binary("kubectl"), ["kubectl", *arguments], client_environment())


def _build(options: argparse.Namespace) -> None:
    more = (build.SUITE if options.suite else ()) + (build.HELM if options.helm else ())
    build.build(build.CLUSTER + more, force=options.force)


def _up(options: argparse.Namespace) -> None:
    components.up([path.resolve() for path in options.images], options.owner)
    print(KUBECONFIG)


def _down(_: argparse.Namespace) -> None:
    components.down()


def _stop(options: argparse.Namespace) -> None:
    components.stop(options.component)


def _status(_: argparse.Namespace) -> None:
    namespaces.enter("net")
    for pid, name in sorted(components.processes().items(), key=lambda item: item[1]):
        print(f"{name:26} {pid}")
    print("ready" if components.ready() else "not ready", f"(logs: {LOGS})")


def _run(options: argparse.Namespace) -> None:
    command = options.words[1:] if options.words[:1] == ["--"] else options.words
    namespaces.enter("net")
    os.execvpe(command[0], command, client_environment())


def _forward(options: argparse.Namespace) -> None:
    forward.serve(options.listen, options.target)


def _get(namespace: str, *what: str) -> Manifest:
    get = [str(binary("kubectl")), "-n", namespace, "get", *what, "-o", "json"]
    found: Manifest = json.loads(subprocess.check_output(get, env=client_environment()))
    return found


def _exec(options: argparse.Namespace) -> None:
    """Like kubectl exec, but straight through the namespaces of the container's process."""
    namespaces.enter("net", "mnt", "pid")
    pod = _get(options.namespace, options.pod if "/" in options.pod else f"pod/{options.pod}")
    if pod["kind"] != "Pod":
        labels = ",".join(f"{key}={value}" for key, value in pod["spec"]["selector"]["matchLabels"].items())
        pods = _get(options.namespace, "pods", "-l", labels)["items"]
        if not pods:
            raise SystemExit(f"{options.pod} has no pod")
        pod = pods[0]
    name = options.container or pod["spec"]["containers"][0]["name"]
    folders = sorted((PODS / pod["metadata"]["uid"]).glob(f"{name}.*/pid"), key=lambda path: path.stat().st_mtime)
    if not folders:
        raise SystemExit(f"container {name} has no process")
    pid = folders[-1].read_text()
    env = json.loads((folders[-1].parent / "spec.json").read_text())["env"]
    command = options.words[1:] if options.words[:1] == ["--"] else options.words
    # The process enters the cluster's process namespace only with its children, so that a child has to do the rest.
    child = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0]
    enter = ["nsenter", "-t", child, "-m", "-p", "-n", "-u", "-i", "-r", "-w", "--", *command]
    raise SystemExit(subprocess.run(enter, env=env, check=False).returncode)


def _conformance(options: argparse.Namespace) -> None:
    raise SystemExit(conformance.run(options))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="minikluster", description=__doc__)
    commands = parser.add_subparsers(required=True)
    add = commands.add_parser("build", help="build the binaries into the cache, where they are missing")
    add.add_argument("--suite", action="store_true", help="also the conformance suite and its echo server")
    add.add_argument("--helm", action="store_true", help="also Helm")
    add.add_argument("--force", action="store_true")
    add.set_defaults(function=_build)
    add = commands.add_parser("up", help="start the cluster, or what is missing of it; prints its kubeconfig's path")
    add.add_argument("--images", type=Path, action="append", default=[], metavar="FILE", help="image map")
    add.add_argument("--owner", type=int, metavar="PID", help="the cluster ends with this process")
    add.set_defaults(function=_up)
    commands.add_parser("down", help="end the cluster").set_defaults(function=_down)
    add = commands.add_parser("stop", help="kill components; `up` starts them again")
    add.add_argument("component", nargs="+", choices=components.COMPONENTS)
    add.set_defaults(function=_stop)
    commands.add_parser("status", help="what runs").set_defaults(function=_status)
    commands.add_parser("kubectl", help="kubectl on this cluster")
    add = commands.add_parser("run", help="run a command in the cluster's network, with KUBECONFIG and kubectl")
    add.add_argument("words", nargs=argparse.REMAINDER, metavar="-- COMMAND")
    add.set_defaults(function=_run)
    add = commands.add_parser("forward", help="relay TCP from this machine's loopback to an address in the cluster")
    add.add_argument("listen", help="127.0.0.1:PORT; port 0 takes a free one; prints which")
    add.add_argument("target", help="ADDRESS:PORT")
    add.set_defaults(function=_forward)
    add = commands.add_parser("exec", help="run a command in a container")
    add.add_argument("-n", "--namespace", default="default")
    add.add_argument("-c", "--container")
    add.add_argument("pod", help="POD, or KIND/NAME of a workload: its first pod")
    add.add_argument("words", nargs=argparse.REMAINDER, metavar="-- COMMAND")
    add.set_defaults(function=_exec)
    conformance.add_options(commands.add_parser("conformance", help="run the Gateway API conformance suite"))
    commands.choices["conformance"].set_defaults(function=_conformance)
    return parser


def main() -> None:
    """Run the command line."""
    try:
        _main()
    except namespaces.NoClusterError as error:
        raise SystemExit(f"minikluster: {error}") from None


def _main() -> None:
    if sys.argv[1:2] == ["kubectl"]:
        _kubectl(sys.argv[2:])
    options = _parser().parse_args()
    if options.function is not _build and os.geteuid() != 0:
        raise SystemExit("minikluster: root is needed")
    options.function(options)
