"""A container's process: what launch.py needs to know to make it, and the commands that start, enter and signal it."""

import json
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from .config import DNS_IP, DOMAIN, NODE_IP, PACKAGE, STATE
from .images import Image
from .manifest import Manifest
from .podspec import UnavailableError, expand
from .volumes import Volume

_LONGEST_HOSTNAME = 63


class Owner(Protocol):
    """What a container's process has of its pod."""

    spec: Manifest
    namespace: str
    ip: str
    netns: str
    volumes: dict[str, Volume]


def prepare(folder: Path, pod: Owner, spec: Manifest, image: Image, env: Mapping[str, str]) -> Path:
    """Write what launch.py needs; returns the path of its specification."""
    shutil.rmtree(folder, ignore_errors=True)
    for name in ("root", "work", "upper/etc"):
        (folder / name).mkdir(parents=True)
    (folder / "termination-log").touch()
    _write_etc(folder / "upper/etc", pod, env["HOSTNAME"])
    path = folder / "spec.json"
    launch = {
        "folder": str(folder),
        "state": str(STATE),
        "hostname": env["HOSTNAME"][:_LONGEST_HOSTNAME],
        "argv": _argv(spec, image, env),
        "env": env,
        "cwd": spec.get("workingDir") or image.get("cwd", "/"),
        "mounts": _mounts(folder, pod, spec, image, env),
    }
    path.write_text(json.dumps(launch))
    return path


def _write_etc(etc: Path, pod: Owner, hostname: str) -> None:
    me = f"{pod.ip} {hostname}"
    if subdomain := pod.spec.get("subdomain"):
        me += f" {hostname}.{subdomain}.{pod.namespace}.svc.{DOMAIN}"
    aliases = [f"{alias['ip']} {' '.join(alias['hostnames'])}" for alias in pod.spec.get("hostAliases", [])]
    (etc / "hosts").write_text("\n".join(["127.0.0.1 localhost", "::1 localhost", me, *aliases]) + "\n")
    (etc / "hostname").write_text(hostname + "\n")
    search = " ".join([f"{pod.namespace}.svc.{DOMAIN}", f"svc.{DOMAIN}", DOMAIN])
    server = DNS_IP if pod.netns else NODE_IP
    (etc / "resolv.conf").write_text(f"search {search}\nnameserver {server}\noptions ndots:5\n")


def _argv(spec: Manifest, image: Image, env: Mapping[str, str]) -> list[str]:
    entry, default = list(image.get("entrypoint", [])), list(image.get("cmd", []))
    command = [expand(word, env) for word in spec.get("command") or []]
    args = [expand(word, env) for word in spec.get("args") or []]
    argv = entry + default if image.get("fixed") else (command or entry) + (args or ([] if command else default))
    if not argv:
        raise UnavailableError(f'nothing to run for image "{spec["image"]}"')
    return argv


def _mounts(
    folder: Path, pod: Owner, spec: Manifest, image: Image, env: Mapping[str, str]
) -> list[tuple[str, str, bool]]:
    """What to show where, and whether read-only; outer folders first."""
    mounts = [(str(source), path, True) for path, source in image.get("binds", {}).items()]
    for mount in sorted(spec.get("volumeMounts", []), key=lambda each: each["mountPath"].count("/")):
        below = mount.get("subPath") or expand(mount.get("subPathExpr", ""), env)
        source = pod.volumes[mount["name"]].path / below
        if below and not source.exists():
            source.mkdir(parents=True)
        mounts.append((str(source.resolve()), mount["mountPath"], mount.get("readOnly", False)))
    message = spec.get("terminationMessagePath", "/dev/termination-log")
    return [*mounts, (str(folder / "termination-log"), message, False)]


def command(path: Path, netns: str) -> list[str]:
    """The command that runs the container whose specification is at `path`."""
    launch = [sys.executable, "-IS", str(PACKAGE / "launch.py"), str(path)]
    unshare = ["unshare", "--mount", "--pid", "--uts", "--ipc", "--fork", "--kill-child=KILL", *launch]
    return ["nsenter", f"--net=/run/netns/{netns}", *unshare] if netns else unshare


def enter(pid: int) -> list[str]:
    """The beginning of a command that runs the rest of it in a container."""
    return ["nsenter", "-t", str(pid), "-m", "-p", "-n", "-u", "-i", "-r", "-w", "--"]


def kill(pid: int, number: int) -> None:
    """Send a signal."""
    os.kill(pid, number)
