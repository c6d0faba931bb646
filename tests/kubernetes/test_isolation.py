"""A controller that loses its connections to the API server, some or all of them, and an API server that is away."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from cluster_network import Relay, traffic
from controllers import CLASS, NAMES, NODE, PATIENCE, Controller
from minikluster.cluster import Cluster

NAMESPACE, AWAY = "isolation", "away"
GATEWAY_API = "gateway.networking.k8s.io/v1"
# Each is a connection: at least one for each kind that every cluster has.
WATCHES = 10
# How long the API server is away (seconds), beside the time that it takes to start again. Memory may grow by so much
# meanwhile, for reasons of its own (bytes); what came to pass during it is known so soon after its return (seconds).
_OUTAGE = float(os.environ.get("POINTSMAN_OUTAGE", "0"))
_GROWTH = 32 << 20
_CATCHING_UP = 60.0
_LEASE = "outage"
# Answers with its pod's name.
_SERVER = """
import http.server, socket
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        name = socket.gethostname().encode()
        self.send_response(200)
        self.send_header("content-length", str(len(name)))
        self.end_headers()
        self.wfile.write(name)
    def log_message(self, *_): pass
http.server.ThreadingHTTPServer(("", 8080), Handler).serve_forever()
"""


def objects() -> list[dict[str, Any]]:
    labels = {"app": "echo"}
    container = {"name": "echo", "image": "minikluster/python", "args": ["-c", _SERVER]}
    container |= {"readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1}}
    pod = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
    deployment = {"replicas": 1, "selector": {"matchLabels": labels}, "template": pod}
    listeners = [{"name": "http", "port": 80, "protocol": "HTTP"}]
    return [
        {
            "apiVersion": GATEWAY_API,
            "kind": "GatewayClass",
            "metadata": {"name": CLASS},
            "spec": {"controllerName": NAMES[0]},
        },
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "echo"}, "spec": deployment},
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "echo"},
            "spec": {"selector": labels, "ports": [{"port": 80, "targetPort": 8080}]},
        },
        {
            "apiVersion": GATEWAY_API,
            "kind": "Gateway",
            "metadata": {"name": "front"},
            "spec": {"gatewayClassName": CLASS, "listeners": listeners},
        },
        route("/first"),
    ]


def route(*paths: str) -> dict[str, Any]:
    matches = [{"path": {"type": "PathPrefix", "value": each}} for each in paths]
    rules = [{"matches": matches, "backendRefs": [{"name": "echo", "port": 80}]}]
    spec = {"parentRefs": [{"name": "front"}], "rules": rules}
    return {"apiVersion": GATEWAY_API, "kind": "HTTPRoute", "metadata": {"name": "echo"}, "spec": spec}


@contextmanager
def restarted(controller: Controller, namespace: str, *options: str) -> Iterator[Cluster]:
    """A controller with other options, and a Gateway with a route to pods."""
    cluster = controller.cluster
    controller.stop()
    controller.start(options)
    cluster.namespace(namespace)
    cluster.apply(*objects(), namespace=namespace)
    yield cluster
    cluster.kubectl("delete", "namespace", namespace, "--wait=false")
    cluster.kubectl("delete", "gatewayclass", CLASS)
    controller.stop()
    controller.start()


@pytest.fixture
def relay(controller: Controller, tmp_path: Path) -> Iterator[Relay]:
    """What the controller reaches the API server through."""
    cluster = controller.cluster
    with Relay.within(cluster, f"{NODE}:6443") as relay:
        content = yaml.safe_load(cluster.kubeconfig.read_text())
        for each in content["clusters"]:
            each["cluster"]["server"] = f"https://{NODE}:{relay.port}"
        path = tmp_path / "kubeconfig"
        path.write_text(yaml.safe_dump(content))
        with restarted(controller, NAMESPACE, "--kubeconfig", str(path)):
            yield relay


def scaled(cluster: Cluster, replicas: int) -> None:
    cluster.kubectl("scale", "-n", NAMESPACE, "deployment/echo", f"--replicas={replicas}")
    cluster.kubectl("rollout", "-n", NAMESPACE, "status", "deployment/echo", "--timeout=90s")


def test_connections_that_break_cost_no_request_and_no_news(controller: Controller, relay: Relay) -> None:
    cluster = controller.cluster
    address = controller.programmed("front", NAMESPACE)
    controller.until(lambda: controller.fetch(f"{address}/first")[0] == 200)
    with traffic(cluster, f"http://{address}/first") as told:
        # Every watch breaks, again and again; what changes in between is heard all the same.
        for paths in (("/first", "/second"), ("/first", "/third")):
            controller.until(lambda: relay.connections > WATCHES)
            relay.cut()
            cluster.apply(route(*paths), namespace=NAMESPACE)
            relay.cut()
            controller.until(lambda paths=paths: controller.fetch(address + paths[1])[0] == 200)  # type: ignore[misc]
        assert controller.fetch(f"{address}/second")[0] == 404

        # The API server is away, as the controller has it, while pods and routes of the cluster go on.
        relay.cut(away=True)
        asked = told.answered
        scaled(cluster, 2)
        cluster.apply(route("/first", "/fourth"), namespace=NAMESPACE)
        controller.until(lambda: told.answered > asked + 50)
        assert len(told.answers) == 1
        assert controller.fetch(f"{address}/fourth")[0] == 404
        relay.cut()
        controller.until(lambda: controller.fetch(f"{address}/fourth")[0] == 200)
        controller.until(lambda: len(told.answers) == 2)
        status = cluster.get("gateway", "front", namespace=NAMESPACE)["status"]
        assert all(each["status"] == "True" for each in status["conditions"])
    assert told.failed == []


def answers(cluster: Cluster) -> bool:
    try:
        return bool(cluster.kubectl("get", "--raw", "/readyz"))
    except RuntimeError:
        return False


def ready(cluster: Cluster) -> int:
    """How many pods Kubernetes says are ready."""
    slices = cluster.get("endpointslices", "-l", "kubernetes.io/service-name=echo", namespace=AWAY)["items"]
    return sum(each["conditions"]["ready"] for found in slices for each in found["endpoints"] or ())


def renewed(cluster: Cluster) -> str:
    """When the Lease was renewed last, in its holder's words."""
    return str(cluster.get("lease", _LEASE, namespace="default")["spec"].get("renewTime"))


def test_an_api_server_that_is_away_costs_nothing_that_works(controller: Controller) -> None:
    with restarted(controller, AWAY, "--lease", f"default/{_LEASE}") as cluster:
        address = controller.programmed("front", AWAY)
        controller.until(lambda: controller.fetch(f"{address}/first")[0] == 200)
        before, memory = controller.status(), controller.memory
        with traffic(cluster, f"http://{address}/first") as told:
            cluster.stop("kube-apiserver")
            asked, end = told.answered, time.monotonic() + _OUTAGE
            controller.until(lambda: told.answered > asked + 50)
            while time.monotonic() < end:
                time.sleep(1)
            away = controller.status()
            assert (away["generation"], away["gateways"]) == (before["generation"], before["gateways"])
            cluster.up()
            controller.until(lambda: answers(cluster))
            start = time.monotonic()
            last = renewed(cluster)
            cluster.apply(route("/first", "/second"), namespace=AWAY)
            cluster.kubectl("scale", "-n", AWAY, "deployment/echo", "--replicas=2")
            controller.until(lambda: controller.fetch(f"{address}/second")[0] == 200)
            served = time.monotonic() - start
            controller.until(lambda: renewed(cluster) != last)
            leads = time.monotonic() - start

            def accounted() -> bool:
                item = cluster.get("httproute", "echo", namespace=AWAY)
                conditions = [one for each in item["status"]["parents"] for one in each["conditions"]]
                return {one["observedGeneration"] for one in conditions} == {item["metadata"]["generation"]}

            controller.until(accounted)
            said = time.monotonic() - start
            # Kubernetes itself takes half as long as it was away until it has caught up, at times.
            controller.until(lambda: ready(cluster) == 2, PATIENCE + _OUTAGE)
            start = time.monotonic()
            controller.until(lambda: len(told.answers) == 2)
            followed = time.monotonic() - start
        assert told.failed == []
        grown = controller.memory - memory
        text = (
            f"{told.answered} answers; served {served:.1f} s, leading {leads:.1f} s, said {said:.1f} s after, "
            f"pods {followed:.1f} s after Kubernetes said so; {grown} B more"
        )
        sys.stdout.write(f"{text}\n")
        assert max(served, leads, said, followed) < _CATCHING_UP, text
        assert grown < _GROWTH, text
