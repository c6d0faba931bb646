"""The controller on a real API server: what it makes, what it says, and what it leaves alone."""

import json
import signal
import time
from collections.abc import Iterator
from typing import Any

import cluster_images
import pytest
import yaml
from controllers import CLASS, NAMES, PATIENCE, Controller
from minikluster.cluster import Cluster

NAMESPACE = "shop"
GATEWAY_API = "gateway.networking.k8s.io/v1"

ECHO = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: echo}
spec:
  replicas: 1
  selector: {matchLabels: {app: echo}}
  template:
    metadata: {labels: {app: echo}}
    spec:
      containers:
        - name: echo
          image: minikluster/python
          args: [-m, http.server, "8080"]
          readinessProbe: {tcpSocket: {port: 8080}}
---
apiVersion: v1
kind: Service
metadata: {name: echo}
spec: {selector: {app: echo}, ports: [{port: 80, targetPort: 8080}]}
"""


def gateway(name: str, **spec: object) -> dict[str, Any]:
    listeners = [{"name": "http", "port": 80, "protocol": "HTTP"}]
    spec = {"gatewayClassName": CLASS, "listeners": listeners, **spec}
    return {"apiVersion": GATEWAY_API, "kind": "Gateway", "metadata": {"name": name}, "spec": spec}


def route(name: str, parent: str, service: str = "echo", **spec: object) -> dict[str, Any]:
    rules = [{"backendRefs": [{"name": service, "port": 80}]}]
    spec = {"parentRefs": [{"name": parent}], "rules": rules, **spec}
    return {"apiVersion": GATEWAY_API, "kind": "HTTPRoute", "metadata": {"name": name}, "spec": spec}


@pytest.fixture(scope="module")
def shop(controller: Controller) -> Iterator[Cluster]:
    cluster = controller.cluster
    cluster.namespace(NAMESPACE)
    gateway_class = {"apiVersion": GATEWAY_API, "kind": "GatewayClass", "metadata": {"name": CLASS}}
    cluster.apply({**gateway_class, "spec": {"controllerName": NAMES[0]}})
    cluster.kubectl("apply", "-n", NAMESPACE, "-f", "-", stdin=ECHO)
    cluster.kubectl("rollout", "-n", NAMESPACE, "status", "deployment/echo", "--timeout=120s")
    yield cluster
    cluster.kubectl("delete", "namespace", NAMESPACE, "--wait=false")
    cluster.kubectl("delete", "gatewayclass", CLASS)


@pytest.fixture(scope="module")
def address(shop: Cluster, controller: Controller) -> str:
    """A Gateway with a route to the Service."""
    shop.apply(gateway("front"), route("echo", "front"), namespace=NAMESPACE)
    return controller.programmed("front", NAMESPACE)


def condition(item: dict[str, Any], kind: str) -> tuple[str, str]:
    found = [each for each in item["conditions"] if each["type"] == kind]
    return (found[0]["status"], found[0]["reason"]) if found else ("", "")


def test_a_gateway_gets_envoys_an_address_and_its_routes(address: str, shop: Cluster, controller: Controller) -> None:
    controller.until(lambda: controller.fetch(address)[0] == 200)
    assert "Directory listing" in controller.fetch(address)[1]
    status = shop.get("gateway", "front", namespace=NAMESPACE)["status"]
    (listener,) = status["listeners"]
    assert (listener["attachedRoutes"], condition(listener, "Programmed")) == (1, ("True", "Programmed"))
    (parent,) = shop.get("httproute", "echo", namespace=NAMESPACE)["status"]["parents"]
    assert parent["controllerName"] == NAMES[0]
    assert [condition(parent, kind)[0] for kind in ("Accepted", "ResolvedRefs")] == ["True", "True"]
    assert condition(shop.get("gatewayclass", CLASS)["status"], "Accepted") == ("True", "Accepted")
    label = "gateway.networking.k8s.io/gateway-name=front"
    kinds = {each["kind"] for each in shop.get("all,cm,sa", "-l", label, namespace=NAMESPACE)["items"]}
    assert {"Deployment", "Service", "ConfigMap", "ServiceAccount", "Pod"} <= kinds
    told = json.loads(shop.run([*cluster_images.PROGRAM, "status", controller.admin, "--json"]))
    (standing,) = [each for each in told["gateways"] if each["name"] == f"{NAMESPACE}/front"]
    assert (standing["troubles"], standing["addresses"]) == ([], [address])
    assert standing["listeners"][0]["url"] == f"http://{address}:80"
    (envoy,) = [each for each in told["proxies"] if each["group"] == f"{NAMESPACE}/front"]
    assert (envoy["role"], envoy["types"]["Listener"]["held"]) == ("envoy", 1)


def test_a_gateway_that_is_deleted_leaves_nothing(shop: Cluster, controller: Controller) -> None:
    shop.apply(gateway("passing"), namespace=NAMESPACE)
    controller.programmed("passing", NAMESPACE)
    shop.kubectl("delete", "-n", NAMESPACE, "gateway", "passing")
    label = "gateway.networking.k8s.io/gateway-name=passing"
    controller.until(lambda: not shop.get("all,cm,sa", "-l", label, namespace=NAMESPACE)["items"])


def test_gateways_of_a_class_may_share_their_envoys(shop: Cluster, controller: Controller) -> None:
    proxy = {"group": "gateway.envoyproxy.io", "kind": "EnvoyProxy", "name": "shared", "namespace": NAMESPACE}
    shared_class = {"apiVersion": GATEWAY_API, "kind": "GatewayClass", "metadata": {"name": "shared"}}
    shop.apply(
        {
            "apiVersion": "gateway.envoyproxy.io/v1alpha1",
            "kind": "EnvoyProxy",
            "metadata": {"name": "shared"},
            "spec": {"mergeGateways": True},
        },
        {**shared_class, "spec": {"controllerName": NAMES[0], "parametersRef": proxy}},
        namespace=NAMESPACE,
    )
    names = ("one", "two")
    listener = {"name": "http", "port": 80, "protocol": "HTTP"}
    for name in names:
        listeners = [{**listener, "hostname": f"{name}.example.com"}]
        shop.apply(
            gateway(name, gatewayClassName="shared", listeners=listeners), route(name, name), namespace=NAMESPACE
        )
    (address,) = {controller.programmed(name, NAMESPACE) for name in names}
    for name in names:
        host = ("-H", f"host: {name}.example.com")
        controller.until(lambda host=host: controller.fetch(address, *host)[0] == 200)  # type: ignore[misc]
    assert controller.fetch(address, "-H", "host: three.example.com")[0] == 404
    label = "pointsman.dev/gateway-class=shared"
    (deployment,) = shop.get("deployments", "-l", label, namespace=NAMESPACE)["items"]
    assert deployment["metadata"]["name"] == "shared-gateways"
    shop.kubectl("delete", "-n", NAMESPACE, *(f"{kind}/{name}" for kind in ("gateway", "httproute") for name in names))
    controller.until(lambda: not shop.get("deployments,cm,sa", "-l", label, namespace=NAMESPACE)["items"])
    shop.kubectl("delete", "gatewayclass", "shared")


def test_what_was_made_is_made_again(address: str, shop: Cluster, controller: Controller) -> None:
    shop.kubectl("delete", "-n", NAMESPACE, "configmap", f"front-{CLASS}")
    shop.kubectl("patch", "-n", NAMESPACE, "service", f"front-{CLASS}", "-p", '{"spec": {"selector": {"app": "none"}}}')

    def mended() -> bool:
        service = shop.get("service", f"front-{CLASS}", namespace=NAMESPACE)
        return "app" not in service["spec"]["selector"] or service["spec"]["selector"].get("app") != "none"

    controller.until(mended)
    shop.kubectl("wait", "-n", NAMESPACE, "configmap", f"front-{CLASS}", "--for=create", f"--timeout={PATIENCE:.0f}s")
    controller.until(lambda: controller.fetch(address)[0] == 200)


def test_a_service_that_is_not_ours_is_left_alone(shop: Cluster, controller: Controller) -> None:
    foreign = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": f"taken-{CLASS}"}}
    shop.apply({**foreign, "spec": {"ports": [{"port": 1}]}}, gateway("taken"), namespace=NAMESPACE)

    def told() -> tuple[str, str]:
        return condition(
            shop.get("gateway", "taken", namespace=NAMESPACE).get("status", {"conditions": []}), "Programmed"
        )

    controller.until(lambda: told() == ("False", "NoResources"))
    assert any("is there already and is not Pointsman's" in line for line in controller.status()["problems"])
    found = shop.get("service", f"taken-{CLASS}", namespace=NAMESPACE)
    assert ([each["port"] for each in found["spec"]["ports"]], found["metadata"].get("ownerReferences")) == ([1], None)
    shop.kubectl("delete", "-n", NAMESPACE, "gateway/taken", f"service/taken-{CLASS}")


def test_entries_of_other_controllers_stay(address: str, shop: Cluster, controller: Controller) -> None:
    assert address
    shop.apply(route("shared", "front"), namespace=NAMESPACE)

    def parents() -> list[dict[str, Any]]:
        status = shop.get("httproute", "shared", namespace=NAMESPACE).get("status", {})
        found: list[dict[str, Any]] = status.get("parents", [])
        return found

    controller.until(lambda: [each["controllerName"] for each in parents()] == [NAMES[0]])
    theirs = {**parents()[0], "controllerName": "example.com/theirs", "parentRef": {"name": "other"}}
    patch = json.dumps({"status": {"parents": [theirs, *parents()]}})
    options = ("--subresource=status", "--type=merge", "-p", patch)
    shop.kubectl("patch", "-n", NAMESPACE, "httproute", "shared", *options)
    # A change of ours comes after it.
    shop.apply(route("shared", "front", service="absent"), namespace=NAMESPACE)
    controller.until(lambda: any(condition(each, "ResolvedRefs")[1] == "BackendNotFound" for each in parents()))
    assert [each["controllerName"] for each in parents()] == ["example.com/theirs", NAMES[0]]
    assert parents()[0] == theirs | {"parentRef": parents()[0]["parentRef"]}
    shop.kubectl("delete", "-n", NAMESPACE, "httproute", "shared")


def test_mistakes_are_events_too(address: str, shop: Cluster, controller: Controller) -> None:
    assert address
    shop.apply(route("wrong", "front", service="absent"), namespace=NAMESPACE)

    def said() -> bool:
        events = shop.get("events.events.k8s.io", namespace=NAMESPACE)["items"]
        return any(
            (each["regarding"]["name"], each["reason"], each["type"]) == ("wrong", "BackendNotFound", "Warning")
            for each in events
        )

    controller.until(said)
    shop.kubectl("delete", "-n", NAMESPACE, "httproute", "wrong")


def test_nothing_is_written_when_nothing_changes(address: str, shop: Cluster, controller: Controller) -> None:
    controller.until(lambda: controller.fetch(address)[0] == 200)

    def versions() -> list[str]:
        items = shop.get("gateways,httproutes", namespace=NAMESPACE)["items"]
        return [each["metadata"]["resourceVersion"] for each in items]

    # What the tests before did to routes is still being told of their Gateway.
    before: list[str] = []

    def settled() -> bool:
        last = before[:]
        before[:] = versions()
        time.sleep(2)
        return last == before == versions()

    controller.until(settled)
    # A pod of another namespace comes and goes: the World changes, no status does.
    shop.kubectl("run", "-n", "default", "passer-by", "--image=minikluster/python", "--restart=Never", "--", "-c", "1")
    shop.kubectl("wait", "-n", "default", "pod/passer-by", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=90s")
    shop.kubectl("delete", "-n", "default", "pod", "passer-by")
    assert versions() == before


def test_a_controller_that_is_killed_costs_nothing_that_works(
    address: str, shop: Cluster, controller: Controller
) -> None:
    controller.until(lambda: controller.fetch(address)[0] == 200)
    controller.stop(signal.SIGKILL)
    assert [controller.fetch(address)[0] for _ in range(5)] == [200] * 5
    # Meanwhile a route goes, and with it its entry.
    shop.kubectl("delete", "-n", NAMESPACE, "httproute", "echo")
    controller.start()
    controller.until(lambda: controller.fetch(address)[0] == 404)
    shop.apply(route("echo", "front"), namespace=NAMESPACE)
    controller.until(lambda: controller.fetch(address)[0] == 200)


def test_a_kind_whose_definition_comes_late_is_picked_up(shop: Cluster, controller: Controller) -> None:
    name = "inferencetrafficpolicies.inferenceextension.alibabacloud.com"
    definition = shop.get("crd", name)
    kept = {key: definition[key] for key in ("apiVersion", "kind", "spec")}
    kept["metadata"] = {key: value for key, value in definition["metadata"].items() if key in {"name", "annotations"}}
    shop.kubectl("delete", "crd", name, "--timeout=120s")
    shop.kubectl("create", "-f", "-", stdin=yaml.safe_dump(kept))
    shop.kubectl("wait", "crd", name, "--for=condition=Established", "--timeout=120s")
    policy = {
        "apiVersion": "inferenceextension.alibabacloud.com/v1alpha1",
        "kind": "InferenceTrafficPolicy",
        "metadata": {"name": "late"},
        "spec": {"poolRef": {"name": "none"}},
    }
    shop.apply(policy, namespace=NAMESPACE)

    def accounted() -> bool:
        status = shop.get("inferencetrafficpolicy", "late", namespace=NAMESPACE).get("status", {})
        return bool(status.get("conditions"))

    controller.until(accounted)
