"""A picker of another's that is dead while its EndpointSlice says otherwise, in a cluster."""

import json
from collections.abc import Iterator

import kinds
import pytest
from controllers import CLASS, NAMES, NODE, Controller
from minikluster.cluster import Cluster

NAMESPACE = "stood-in-for"


@pytest.fixture
def place(controller: Controller) -> Iterator[Cluster]:
    cluster = controller.cluster
    cluster.namespace(NAMESPACE)
    cluster.apply({**kinds.gateway_class(CLASS), "spec": {"controllerName": NAMES[0]}})
    yield cluster
    cluster.kubectl("delete", "namespace", NAMESPACE, "--wait=false")
    cluster.kubectl("delete", "gatewayclass", CLASS)


def test_ours_picks_for_a_pool_that_fails_open(place: Cluster, controller: Controller) -> None:
    dead = kinds.picker_slice("theirs", 9)
    dead["endpoints"][0]["addresses"] = [NODE]
    place.apply(
        kinds.deployment("chat", "--served-model-name base", replicas=2),
        kinds.picker_service("theirs", protocol="kubernetes.io/h2c"),
        dead,
        kinds.picked_pool("pool", "chat", "theirs", "FailOpen"),
        kinds.gateway(class_name=CLASS),
        kinds.route("route", kinds.rule(kinds.to_pool("pool"))),
        namespace=NAMESPACE,
    )
    address = controller.programmed("edge", NAMESPACE)
    controller.rolled_out("pool-stand-in", NAMESPACE)
    place.kubectl("wait", "-n", NAMESPACE, "pod", "--all", "--for=condition=Ready", "--timeout=120s")
    body = {"model": "base", "messages": [{"role": "user", "content": "hello " * 2000}], "max_tokens": 2}
    sent = ("-H", "content-type: application/json", "-d", json.dumps(body))

    def ask() -> int:
        return controller.fetch(f"{address}:8080/v1/chat/completions", *sent)[0]

    controller.until(lambda: ask() == 200)
    # Nobody but our picker can have named a pod: Envoy itself fails a body that another's picker does not take.
    assert {ask() for _ in range(20)} == {200}
