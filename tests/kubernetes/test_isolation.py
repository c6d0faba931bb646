"""A controller that loses its connections to the API server, one watch or all of them, while the cluster goes on."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from cluster_network import Relay, traffic
from controllers import CLASS, NAMES, NODE, Controller
from minikluster.cluster import Cluster

NAMESPACE = "isolation"
GATEWAY_API = "gateway.networking.k8s.io/v1"
# Each is a connection: at least one for each kind that every cluster has.
WATCHES = 10
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


@pytest.fixture
def relay(controller: Controller, tmp_path: Path) -> Iterator[Relay]:
    """What the controller reaches the API server through."""
    cluster = controller.cluster
    controller.stop()
    with Relay.within(cluster, f"{NODE}:6443") as relay:
        content = yaml.safe_load(cluster.kubeconfig.read_text())
        for each in content["clusters"]:
            each["cluster"]["server"] = f"https://{NODE}:{relay.port}"
        path = tmp_path / "kubeconfig"
        path.write_text(yaml.safe_dump(content))
        controller.start(["--kubeconfig", str(path)])
        cluster.namespace(NAMESPACE)
        cluster.apply(*objects(), namespace=NAMESPACE)
        yield relay
        cluster.kubectl("delete", "namespace", NAMESPACE, "--wait=false")
        cluster.kubectl("delete", "gatewayclass", CLASS)
        controller.stop()
    controller.start()


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
