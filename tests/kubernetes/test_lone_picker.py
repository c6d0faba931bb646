"""Our picker in a cluster without a control plane of its own: as docs/picker.md says, behind a Gateway."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from controllers import NAMES, Controller
from minikluster.cluster import Cluster

DOCUMENT = Path(__file__).parents[2] / "docs" / "picker.md"
GATEWAY_API = "gateway.networking.k8s.io/v1"

SERVERS = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: chat}
spec:
  replicas: 1
  selector: {matchLabels: {app: chat}}
  template:
    metadata: {labels: {app: chat}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
        - name: server
          image: vllm/vllm-openai:latest
          args: [any/model, --port, "8000"]
          readinessProbe: {httpGet: {path: /health, port: 8000}}
"""


def documented() -> list[dict[str, Any]]:
    """The manifests that the document gives."""
    (text,) = re.findall(r"```yaml\n(apiVersion:.*?)```", DOCUMENT.read_text(), re.DOTALL)
    return list(yaml.safe_load_all(text))


def gateway() -> list[dict[str, Any]]:
    """What leads to the pool."""
    pool = {"group": "inference.networking.k8s.io", "kind": "InferencePool", "name": "chat"}
    listener = {"name": "http", "port": 80, "protocol": "HTTP"}
    return [
        {**_gateway_api("GatewayClass", "alone"), "spec": {"controllerName": NAMES[0]}},
        {**_gateway_api("Gateway", "alone"), "spec": {"gatewayClassName": "alone", "listeners": [listener]}},
        {
            **_gateway_api("HTTPRoute", "alone"),
            "spec": {"parentRefs": [{"name": "alone"}], "rules": [{"backendRefs": [pool]}]},
        },
    ]


def _gateway_api(kind: str, name: str) -> dict[str, Any]:
    return {"apiVersion": GATEWAY_API, "kind": kind, "metadata": {"name": name}}


@pytest.fixture
def cluster_with_picker(controller: Controller) -> Iterator[Cluster]:
    cluster = controller.cluster
    made = [*documented(), *yaml.safe_load_all(SERVERS), *gateway()]
    cluster.apply(*made)
    yield cluster
    options = ("--ignore-not-found", "--timeout=120s", "--grace-period=1")
    cluster.kubectl("delete", *options, "-f", "-", stdin=yaml.safe_dump_all(reversed(made)))


def test_a_picker_learns_of_its_pool_from_the_cluster(cluster_with_picker: Cluster, controller: Controller) -> None:
    cluster = cluster_with_picker
    address = controller.programmed("alone", "default")

    def served_by() -> set[str]:
        """Send a request; the pods that the picker says to have served until then."""
        body = '{"model": "any/model", "prompt": "hi", "max_tokens": 1}'
        status, _ = controller.fetch(f"{address}/v1/completions", "-H", "content-type: application/json", "-d", body)
        lines = cluster.kubectl("logs", "deploy/chat-picker", "--tail=-1").splitlines() if status == 200 else []
        return {json.loads(line)["pod_served"] for line in lines if "Request Handled" in line}

    controller.until(lambda: len(served_by()) == 1)
    cluster.kubectl("scale", "deployment/chat", "--replicas=2")
    controller.until(lambda: len(served_by()) == 2)
    # It is ready while its pool is there.
    cluster.kubectl("delete", "inferencepool.v1.inference.networking.k8s.io", "chat")
    cluster.kubectl("wait", "pod", "-l", "app=chat-picker", "--for=condition=Ready=false", "--timeout=120s")
