"""Simulated pods as Kubernetes manifests, for a control plane that reads a folder.

A pod whose server could not have the port of its container (macOS has only 127.0.0.1; or something listens on that
port on all addresses) says so in the annotation `pointsman.dev/listening-ports`: "8000=53211" means that what the
manifest calls port 8000 is port 53211 of `status.podIP`.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from hashlib import blake2b
from pathlib import Path
from typing import Any

import orjson

from resources import PLAINTEXT_ANNOTATION, PORTS_ANNOTATION
from simulator.workloads import PodPlan, Port

WRITTEN = ".written"
"""A file that is in the folder once the pods were written; where there are none, it is the only one."""

_LONGEST = 200


def pod(
    plan: PodPlan,
    address: str,
    listening: int | None,
    *,
    picker_ports: Mapping[int, int] | None = None,
    starting: bool = False,
    deleted: datetime | None = None,
) -> dict[str, object]:
    """Write one pod as a manifest; `listening` is the server's real port, None while it does not listen.

    `picker_ports` are a picker's ports, each with its real one, None while it does not listen. `deleted` is when the
    pod was told to go.
    """
    annotations = dict(plan.annotations)
    ports = plan.ports
    if plan.spec is not None:
        port = plan.spec.port
        ports = ports or (Port(port),)
        if listening is not None and listening != port:
            annotations[PORTS_ANNOTATION] = f"{port}={listening}"
    ready = not starting and (plan.spec is None or listening is not None)
    if plan.picker is not None:
        ready = picker_ports is not None
        # A picker says nowhere in its manifest that it has TLS, and ours has none.
        annotations[PLAINTEXT_ANNOTATION] = "true"
        moved = [f"{port}={real}" for port, real in (picker_ports or {}).items() if port != real]
        if moved:
            annotations[PORTS_ANNOTATION] = ",".join(moved)
    status = "True" if ready else "False"
    metadata: dict[str, object] = {
        "name": plan.name,
        "namespace": plan.namespace,
        "labels": dict(plan.labels),
        "annotations": annotations,
    }
    if deleted is not None:
        # When the pod has to be gone (apimachinery, ObjectMeta.deletionTimestamp).
        metadata["deletionTimestamp"] = (deleted + timedelta(seconds=plan.grace)).strftime("%Y-%m-%dT%H:%M:%SZ")
        metadata["deletionGracePeriodSeconds"] = int(plan.grace)
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {
            "containers": [
                {"name": plan.container, "image": plan.image, "ports": [_port(declared) for declared in ports]},
            ],
        },
        "status": {
            "phase": "Running",
            "podIP": address,
            "podIPs": [{"ip": address}],
            "conditions": [
                {"type": "Ready", "status": status},
                {"type": "ContainersReady", "status": status},
            ],
        },
    }


def _port(port: Port) -> dict[str, object]:
    named = {"name": port.name} if port.name else {}
    return {**named, "containerPort": port.number, "protocol": port.protocol}


class Manifests:
    """The pods as files of a folder, one for each, so that one that comes or goes does not touch the others.

    What is in the folder already is taken for the remains of an earlier process. Raises OSError when the folder cannot
    be read or written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._written: dict[str, bytes] = {path.name: b"" for path in folder.glob("*.json")}

    def write(self, pods: Iterable[dict[str, object]]) -> None:
        """Have files for these pods and no others. A reader sees a file as it was or as it will be."""
        wanted = {_file_name(pod): orjson.dumps(pod, option=orjson.OPT_INDENT_2) for pod in pods}
        for name, content in wanted.items():
            if self._written.get(name) != content:
                draft = self._folder / f".{name}.tmp"
                draft.write_bytes(content)
                draft.replace(self._folder / name)
        for name in self._written.keys() - wanted.keys():
            (self._folder / name).unlink(missing_ok=True)
        self._written = wanted
        (self._folder / WRITTEN).touch()


def _file_name(pod: Mapping[str, Any]) -> str:
    metadata = pod["metadata"]
    name = f"{metadata['namespace']}.{metadata['name']}"
    # Names of pods may be as long as names of files.
    short = name if len(name) < _LONGEST else blake2b(name.encode(), digest_size=16).hexdigest()
    return f"{short}.json"
