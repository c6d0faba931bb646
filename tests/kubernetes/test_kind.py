"""The scenario of deploy/kind on the cluster that is at hand here."""

import json

from compose import ROOT
from controllers import NAMES, Controller

SCENARIO = ROOT / "deploy" / "kind" / "scenario.yaml"
CLASS = {
    "apiVersion": "gateway.networking.k8s.io/v1",
    "kind": "GatewayClass",
    "metadata": {"name": "pointsman"},
    "spec": {"controllerName": NAMES[0]},
}


def test_the_adapter_answers_for_the_model(controller: Controller) -> None:
    cluster = controller.cluster
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kind", "labels": labels}}, CLASS)
    cluster.kubectl("apply", "-n", "kind", "-f", str(SCENARIO))
    try:
        address = controller.programmed("inference-gateway", "kind")
        body = json.dumps({"model": "food-review", "prompt": "Write as a critic", "max_tokens": 10})
        header = ("-H", "Content-Type: application/json")
        said: list[str] = []

        def answered() -> bool:
            status, text = controller.fetch(f"{address}/v1/completions", *header, "-d", body)
            said.append(text)
            return status == 200

        controller.until(answered)
        assert json.loads(said[-1])["model"] == "food-review-1"
    finally:
        # Nobody waits for the end of it.
        cluster.kubectl("delete", "namespace", "kind", "--wait=false")
