"""A pool that names another picker of ours: the old one is asked until the new one answers."""

import json
from collections.abc import Iterator
from typing import Any
from urllib.request import Request

import kinds
import pytest
from cluster_network import traffic
from controllers import CLASS, NAMES, Controller
from minikluster.cluster import Cluster

from translators.names import service_name

NAMESPACE = "moving"
# No Service may be called as these are.
GATEWAY, OTHER_POOL = "edge.v1", "llama-3.1"


def unnamed_picker(name: str) -> dict[str, Any]:
    """A pool that names no picker."""
    made = dict(kinds.stable_pool(name, "chat"))
    return {**made, "spec": {key: value for key, value in made["spec"].items() if key != "endpointPickerRef"}}


@pytest.fixture
def place(controller: Controller) -> Iterator[Cluster]:
    cluster = controller.cluster
    cluster.namespace(NAMESPACE)
    cluster.apply({**kinds.gateway_class(CLASS), "spec": {"controllerName": NAMES[0]}})
    yield cluster
    cluster.kubectl("delete", "namespace", NAMESPACE, "--wait=false")
    cluster.kubectl("delete", "gatewayclass", CLASS)


def test_no_request_is_lost_while_a_pool_moves_to_another_picker(place: Cluster, controller: Controller) -> None:
    place.apply(
        kinds.deployment("chat", "--served-model-name base", replicas=2),
        kinds.picked_pool("pool", "chat", "before"),
        unnamed_picker(OTHER_POOL),
        kinds.gateway(GATEWAY, class_name=CLASS),
        kinds.route("route", kinds.rule(kinds.to_pool("pool")), gateway=GATEWAY),
        namespace=NAMESPACE,
    )
    address = controller.programmed(GATEWAY, NAMESPACE)
    body = json.dumps({"model": "base", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 2})
    url, headers = f"{address}:8080/v1/chat/completions", {"content-type": "application/json"}

    def made() -> set[str]:
        items = place.get("deployments", "-l", "pointsman.dev/picker-name", namespace=NAMESPACE)["items"]
        return {each["metadata"]["name"] for each in items}

    def picks(name: str) -> bool:
        log = place.kubectl("logs", "-n", NAMESPACE, f"deploy/{name}", "--tail=20") if name in made() else ""
        return "Request Handled" in log

    controller.until(lambda: controller.fetch(url, "-H", "content-type: application/json", "-d", body)[0] == 200)
    with traffic(place, Request(f"http://{url}", body.encode(), headers)) as told:
        controller.until(lambda: picks("before"))
        place.apply(kinds.picked_pool("pool", "chat", "after"), namespace=NAMESPACE)
        # Another controller finds the new picker made and without an answer.
        controller.until(lambda: "after" in made())
        controller.stop()
        controller.start()
        controller.until(lambda: picks("after"))
        controller.until(lambda: made() == {"after", service_name(f"{OTHER_POOL}-picker")})
        answered = told.answered
        controller.until(lambda: told.answered > answered)
    assert told.failed == []
