"""Our pickers: a Deployment and a Service in the namespace of the pools that they pick for.

The Service bears our label, by which a pool that names it is known to be ours. A Service that is not ours is never
taken over: a pool whose picker it would be has a problem instead (`translators.resolve.pickers`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

from resources import OWN_PICKER_LABEL, PICKS_FOR_ANNOTATION
from translators import ir
from translators.infrastructure.objects import Infrastructure, Made, Owner, made
from translators.infrastructure.proof import MOUNT, ROOTS_FILE, Proof, proof_of
from translators.infrastructure.security import CONTAINER, POD
from translators.names import label_value
from translators.resolve.pickers import PICKER_PORT

_CONFIG = "/etc/pointsman"
_METRICS_PORT = 9090
_HEALTH_PORT = 9003
PICKER_NAME_LABEL = "pointsman.dev/picker-name"
"""On everything that is made for pools."""


def pickers_of(seat: ir.Picker, owners: Sequence[Owner], infrastructure: Infrastructure) -> Iterator[Made]:
    """Yield what is made for the picker of some pools, its owners."""
    selector = {PICKER_NAME_LABEL: label_value(seat.service)}
    labels = {**infrastructure.labels, **selector}

    def make(
        api_version: str,
        kind: str,
        content: Mapping[str, object],
        labels: Mapping[str, str] = labels,
        annotations: Mapping[str, str] = MappingProxyType({}),
        name: str = seat.service,
    ) -> Made:
        return made(
            api_version,
            kind,
            seat.namespace,
            name,
            content,
            labels=labels,
            annotations=annotations,
            owners=owners,
        )

    proof = proof_of(seat.namespace, seat.service, _CONFIG, infrastructure)
    yield make("v1", "ServiceAccount", {"automountServiceAccountToken": False})
    # Before the pods, which do not start without it.
    if proof.secret is not None:
        yield make("v1", "Secret", proof.secret[1], name=proof.secret[0])
    yield make("v1", "ConfigMap", {"data": {ROOTS_FILE: infrastructure.roots}})
    yield make("apps/v1", "Deployment", {"spec": _spec(seat, selector, labels, infrastructure, proof)})
    ports = [
        {"name": PICKER_PORT, "port": seat.port, "protocol": "TCP"},
        {"name": "metrics", "port": _METRICS_PORT, "protocol": "TCP"},
    ]
    service = {"spec": {"type": "ClusterIP", "selector": selector, "ports": ports}}
    pools = " ".join(sorted(f"{each.object.key.group}/{each.object.key.name}" for each in owners))
    yield make("v1", "Service", service, {**labels, OWN_PICKER_LABEL: "true"}, {PICKS_FOR_ANNOTATION: pools})


def _spec(
    seat: ir.Picker, selector: dict[str, str], labels: dict[str, str], infrastructure: Infrastructure, proof: Proof
) -> dict[str, object]:
    arguments = ["picker", "--xds", proof.xds, "--group", seat.cluster]
    arguments += ["--listen", f"0.0.0.0:{seat.port}", "--metrics", f"0.0.0.0:{_METRICS_PORT}"]
    arguments += ["--health", f"0.0.0.0:{_HEALTH_PORT}"]
    arguments += ["--trust", f"{_CONFIG}/{ROOTS_FILE}", *proof.options]
    container = {
        "name": "picker",
        "image": infrastructure.pointsman_image,
        "args": arguments,
        "ports": [
            {"name": "grpc", "containerPort": seat.port},
            {"name": "metrics", "containerPort": _METRICS_PORT},
            {"name": "health", "containerPort": _HEALTH_PORT},
        ],
        # It answers once it knows its pools and their endpoints.
        "readinessProbe": {"grpc": {"port": _HEALTH_PORT}, "periodSeconds": 2, "failureThreshold": 1},
        "securityContext": CONTAINER,
        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}},
        "volumeMounts": [{"name": "config", "mountPath": _CONFIG, "readOnly": True}, MOUNT],
    }
    pod = {
        "serviceAccountName": seat.service,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": POD,
        "containers": [container],
        "volumes": [{"name": "config", "configMap": {"name": seat.service}}, proof.volume(POD)],
    }
    return {
        "replicas": 1,
        "selector": {"matchLabels": selector},
        # A new picker learns its pools before the old one goes.
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
        "template": {"metadata": {"labels": labels}, "spec": pod},
    }
