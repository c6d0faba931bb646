"""The fleet as a process: `pointsman simulate`, as `pointsman up --simulate` runs it, with nothing in front of it."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.processes import Child, Processes
from benchmarks.scheduling.fleet import Fleet

_PATIENCE = 60.0


@dataclass(frozen=True, slots=True)
class RunningFleet:
    """A fleet that serves: its process, the servers' addresses (``ip:port``), and their Pods' manifests."""

    child: Child
    addresses: tuple[str, ...]
    pods: Sequence[Mapping[str, object]]


def start(processes: Processes, folder: Path, fleet: Fleet) -> RunningFleet:
    """Start the servers anew, with empty caches; RuntimeError when they do not come up."""
    manifests, pods = folder / "fleet", folder / "pods"
    for each in (manifests, pods):
        each.mkdir()
    fleet.write(manifests)
    argv = (sys.executable, "-m", "pointsman", "simulate", str(manifests), "--pods", str(pods))
    child = processes.start("fleet", argv)
    deadline = time.monotonic() + _PATIENCE
    while True:
        child.check()
        items = [json.loads(file.read_text(encoding="utf-8")) for file in sorted(pods.glob("*.json"))]
        if len(items) == fleet.servers:
            return RunningFleet(child, tuple(_address(item) for item in items), items)
        if time.monotonic() > deadline:
            raise RuntimeError(f"only {len(items)} of {fleet.servers} servers came up within {_PATIENCE:.0f} s")
        time.sleep(0.05)


def _address(pod: Mapping[str, object]) -> str:
    metadata, status, spec = (pod[key] for key in ("metadata", "status", "spec"))
    if not (isinstance(metadata, dict) and isinstance(status, dict) and isinstance(spec, dict)):
        raise TypeError(f"no Pod: {pod}")
    declared = spec["containers"][0]["ports"][0]["containerPort"]
    moved = metadata["annotations"].get("pointsman.dev/listening-ports", "")
    port = moved.partition("=")[2] or declared
    return f"{status['podIP']}:{port}"
