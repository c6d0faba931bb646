"""What happens in clusters: objects recreated at once, namespaces deleted, and many of everything."""

import re
import time
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from controllers import CLASS, NAMES, Controller
from minikluster.cluster import Cluster

NAMESPACE = "many"
GATEWAY_API = "gateway.networking.k8s.io/v1"
ROUTES = 1000
# The writer's rate, and what it may write at once (statuses a second, statuses).
_RATE, _BURST = 50, 20


def gateway(name: str) -> dict[str, Any]:
    listeners = [{"name": "http", "port": 80, "protocol": "HTTP"}]
    spec = {"gatewayClassName": CLASS, "listeners": listeners}
    return {"apiVersion": GATEWAY_API, "kind": "Gateway", "metadata": {"name": name}, "spec": spec}


def route(name: str, path: str) -> dict[str, Any]:
    """A route whose answers say that it was chosen: it leads nowhere."""
    matches = [{"path": {"type": "PathPrefix", "value": path}}]
    rules = [{"matches": matches, "backendRefs": [{"name": "absent", "port": 80}]}]
    spec = {"parentRefs": [{"name": "front"}], "rules": rules}
    return {"apiVersion": GATEWAY_API, "kind": "HTTPRoute", "metadata": {"name": name}, "spec": spec}


@pytest.fixture(scope="module")
def many(controller: Controller) -> Iterator[Cluster]:
    cluster = controller.cluster
    cluster.namespace(NAMESPACE)
    gateway_class = {"apiVersion": GATEWAY_API, "kind": "GatewayClass", "metadata": {"name": CLASS}}
    cluster.apply({**gateway_class, "spec": {"controllerName": NAMES[0]}})
    cluster.apply(gateway("front"), namespace=NAMESPACE)
    yield cluster
    cluster.kubectl("delete", "namespace", NAMESPACE, "--wait=false")
    cluster.kubectl("delete", "gatewayclass", CLASS)


@pytest.fixture(scope="module")
def address(many: Cluster, controller: Controller) -> str:
    assert many
    return controller.programmed("front", NAMESPACE)


def test_a_route_that_is_recreated_at_once_is_served_and_has_a_status(
    many: Cluster, address: str, controller: Controller
) -> None:
    many.apply(route("again", "/again"), namespace=NAMESPACE)
    controller.until(lambda: controller.fetch(f"{address}/again")[0] == 500)
    for _ in range(3):
        text = yaml.safe_dump(route("again", "/again"))
        many.kubectl("replace", "--force", "-n", NAMESPACE, "-f", "-", stdin=text)

    def accounted() -> bool:
        status = many.get("httproute", "again", namespace=NAMESPACE).get("status", {})
        return [each["controllerName"] for each in status.get("parents", ())] == [NAMES[0]]

    controller.until(accounted)
    controller.until(lambda: controller.fetch(f"{address}/again")[0] == 500)
    many.kubectl("delete", "-n", NAMESPACE, "httproute", "again")
    controller.until(lambda: controller.fetch(f"{address}/again")[0] == 404)


def test_a_namespace_that_is_deleted_takes_its_gateway_along(many: Cluster, controller: Controller) -> None:
    many.namespace("passing")
    many.apply(gateway("front"), namespace="passing")
    controller.programmed("front", "passing")
    many.kubectl("delete", "namespace", "passing", "--timeout=300s")
    controller.until(lambda: all("passing/" not in each["gateway"] for each in controller.status()["gateways"]))
    # Nothing is made anew in a namespace that ends.
    assert controller.programmed("front", NAMESPACE)


def written(controller: Controller) -> int:
    text = controller.fetch(controller.admin + "/metrics")[1]
    found = re.search(r"^pointsman_status_writes_total (\S+)$", text, re.MULTILINE)
    assert found is not None
    return int(float(found[1]))


def test_a_thousand_routes_are_served_and_told_without_a_storm(
    many: Cluster, address: str, controller: Controller
) -> None:
    before, start = written(controller), time.monotonic()
    many.apply(*(route(f"route-{number}", f"/route-{number}") for number in range(ROUTES)), namespace=NAMESPACE)
    last = f"{address}/route-{ROUTES - 1}"
    controller.until(lambda: controller.fetch(last)[0] == 500, 300)

    def told() -> bool:
        (listener,) = many.get("gateway", "front", namespace=NAMESPACE)["status"]["listeners"]
        return bool(listener["attachedRoutes"] == ROUTES)

    controller.until(told, 300)

    def accounted() -> bool:
        items = many.get("httproutes", namespace=NAMESPACE)["items"]
        return len(items) == ROUTES and all(each.get("status", {}).get("parents") for each in items)

    controller.until(accounted, 300)
    writes, seconds = written(controller) - before, time.monotonic() - start
    assert writes >= ROUTES
    assert writes <= _BURST + _RATE * seconds
    # Each route once or twice, as it is there and as its Gateway changes; not each of them for each of the others.
    assert writes < 4 * ROUTES, writes
    # In one request: kubectl would make a thousand.
    many.kubectl("delete", "--raw", f"/apis/{GATEWAY_API}/namespaces/{NAMESPACE}/httproutes")
    controller.until(lambda: controller.fetch(last)[0] == 404, 300)
