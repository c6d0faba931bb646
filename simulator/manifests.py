"""Simulated pods as Kubernetes manifests, for a control plane that reads a folder.

A pod whose server could not have the port of its container (macOS has only 127.0.0.1; or something listens on that
port on all addresses) says so in the annotation `pointsman.dev/listening-ports`: "8000=53211" means that what the
manifest calls port 8000 is port 53211 of `status.podIP`.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

import orjson

from resources import PLAINTEXT_ANNOTATION, PORTS_ANNOTATION
from simulator.workloads import PodPlan, Port

FILE_NAME = "simulated-pods.json"


def pod(
    plan: PodPlan, address: str, listening: int | None, *, picker_ports: Mapping[int, int] | None = None
) -> dict[str, object]:
    """Write one pod as a manifest; `listening` is the server's real port, None while it does not listen.

    `picker_ports` are a picker's ports, each with its real one, None while it does not listen.
    """
    annotations = dict(plan.annotations)
    ports = plan.ports
    if plan.spec is not None:
        port = plan.spec.port
        ports = ports or (Port(port),)
        if listening is not None and listening != port:
            annotations[PORTS_ANNOTATION] = f"{port}={listening}"
    ready = plan.spec is None or listening is not None
    if plan.picker is not None:
        ready = picker_ports is not None
        # A picker says nowhere in its manifest that it has TLS, and ours has none.
        annotations[PLAINTEXT_ANNOTATION] = "true"
        moved = [f"{port}={real}" for port, real in (picker_ports or {}).items() if port != real]
        if moved:
            annotations[PORTS_ANNOTATION] = ",".join(moved)
    status = "True" if ready else "False"
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": plan.name,
            "namespace": plan.namespace,
            "labels": dict(plan.labels),
            "annotations": annotations,
        },
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


def write(folder: Path, pods: Iterable[dict[str, object]]) -> None:
    """Replace the folder's pods by these, at once: a reader sees the old set or the new one.

    Raises OSError when the folder cannot be written.
    """
    document = {"apiVersion": "v1", "kind": "List", "items": list(pods)}
    draft = folder / f".{FILE_NAME}.tmp"
    draft.write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2))
    draft.replace(folder / FILE_NAME)
