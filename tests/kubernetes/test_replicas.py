"""Two controllers in pods, as an installation has them: all serve Envoys, one of them writes.

All Envoys are in the controllers' own namespace, and prove themselves by certificates, which every leader issues anew.
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cluster_images
import pytest
import yaml
from cluster_network import traffic
from controllers import install_apis
from minikluster.cluster import Cluster

SYSTEM, NAMESPACE, NAME = "pointsman-system", "shop", "pointsman"
GATEWAY_API = "gateway.networking.k8s.io/v1"
PATIENCE = 120.0

INSTALLATION = f"""
apiVersion: v1
kind: Namespace
metadata: {{name: {SYSTEM}}}
---
apiVersion: v1
kind: ServiceAccount
metadata: {{name: {NAME}, namespace: {SYSTEM}}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {{name: {NAME}}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin}}
subjects: [{{kind: ServiceAccount, name: {NAME}, namespace: {SYSTEM}}}]
---
apiVersion: v1
kind: Service
metadata: {{name: {NAME}, namespace: {SYSTEM}}}
spec: {{selector: {{app: {NAME}}}, ports: [{{name: xds, port: 18000}}, {{name: xds-mtls, port: 18001}}]}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {NAME}, namespace: {SYSTEM}}}
spec:
  replicas: 2
  strategy: {{rollingUpdate: {{maxUnavailable: 0, maxSurge: 2}}}}
  selector: {{matchLabels: {{app: {NAME}}}}}
  template:
    metadata: {{labels: {{app: {NAME}}}}}
    spec:
      serviceAccountName: {NAME}
      containers:
        - name: controller
          image: {cluster_images.POINTSMAN}
          args: [controller, --lease, {SYSTEM}/{NAME}, --xds, "0.0.0.0:18000", --admin, "0.0.0.0:19000",
                 --advertise, "{NAME}.{SYSTEM}.svc.cluster.local:18000", --xds-mtls, "0.0.0.0:18001",
                 --advertise-mtls, "{NAME}.{SYSTEM}.svc.cluster.local:18001", --envoy-namespace, {SYSTEM},
                 --envoy-image, "{cluster_images.ENVOY}", --image, "{cluster_images.POINTSMAN}"]
          env: [{{name: POD_NAME, valueFrom: {{fieldRef: {{fieldPath: metadata.name}}}}}}]
          readinessProbe: {{httpGet: {{path: /readyz, port: 19000}}, periodSeconds: 1}}
---
apiVersion: {GATEWAY_API}
kind: GatewayClass
metadata: {{name: {NAME}}}
spec: {{controllerName: pointsman.dev/gateway-controller}}
---
apiVersion: v1
kind: Namespace
metadata: {{name: {NAMESPACE}}}
---
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: EnvoyProxy
metadata: {{name: strict, namespace: {NAMESPACE}}}
spec:
  bootstrap:
    type: Merge
    # Some of the regular expressions that we let pass are too long for these Envoys.
    value: |
      layered_runtime: {{layers: [{{name: strict, static_layer: {{re2.max_program_size.error_level: 50}}}}]}}
---
apiVersion: v1
kind: Pod
metadata: {{name: echo, namespace: {NAMESPACE}, labels: {{app: echo}}}}
spec:
  containers:
    - {{name: echo, image: minikluster/python, args: [-m, http.server, "8080"]}}
---
apiVersion: v1
kind: Service
metadata: {{name: echo, namespace: {NAMESPACE}}}
spec: {{selector: {{app: echo}}, ports: [{{port: 80, targetPort: 8080}}]}}
"""


def gateway(*hostnames: str) -> dict[str, Any]:
    """A Gateway of one port, so that its Envoy stays whatever the listeners are."""
    http = {"name": "http", "port": 80, "protocol": "HTTP"}
    more = [{**http, "name": each, "hostname": f"{each}.example.com"} for each in hostnames]
    proxy = {"group": "gateway.envoyproxy.io", "kind": "EnvoyProxy", "name": "strict"}
    spec = {"gatewayClassName": NAME, "infrastructure": {"parametersRef": proxy}, "listeners": [http, *more]}
    return {"apiVersion": GATEWAY_API, "kind": "Gateway", "metadata": {"name": "front"}, "spec": spec}


def route(name: str, path: str, header: str = "") -> dict[str, Any]:
    """A route to the Service. header: a regular expression that a header has to match."""
    headers = [{"type": "RegularExpression", "name": "x-user", "value": header}] if header else []
    matches = [{"path": {"type": "PathPrefix", "value": path}, "headers": headers}]
    rewrite = {"type": "URLRewrite", "urlRewrite": {"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/"}}}
    rules = [{"matches": matches, "filters": [rewrite], "backendRefs": [{"name": "echo", "port": 80}]}]
    spec = {"parentRefs": [{"name": "front"}], "rules": rules}
    return {"apiVersion": GATEWAY_API, "kind": "HTTPRoute", "metadata": {"name": name}, "spec": spec}


@dataclass
class Installation:
    cluster: Cluster

    def until(self, holds: Callable[[], bool]) -> None:
        end = time.monotonic() + PATIENCE
        while not holds():
            if time.monotonic() > end:
                logs = self.cluster.kubectl("logs", "-n", SYSTEM, "-l", f"app={NAME}", "--tail=30")
                raise AssertionError(f"not within {PATIENCE} s\n{logs}")
            time.sleep(0.2)

    def leader(self) -> str:
        """The pod that holds the Lease; "" while none does."""
        try:
            lease = self.cluster.get("lease", NAME, namespace=SYSTEM)
        except RuntimeError:
            return ""
        return str(lease["spec"].get("holderIdentity") or "")

    def ready(self) -> None:
        self.cluster.kubectl("rollout", "-n", SYSTEM, "status", f"deployment/{NAME}", "--timeout=120s")

    def programmed(self) -> dict[str, Any]:
        conditions = self.cluster.get("gateway", "front", namespace=NAMESPACE).get("status", {}).get("conditions", ())
        found: list[dict[str, Any]] = [each for each in conditions if each["type"] == "Programmed"]
        return found[0] if found else {"status": "Unknown"}

    def serves(self, name: str) -> None:
        """Add a route; it is served, and its status is written."""
        self.cluster.apply(route(name, f"/{name}"), namespace=NAMESPACE)

        def accounted() -> bool:
            status = self.cluster.get("httproute", name, namespace=NAMESPACE).get("status", {})
            return [each["conditions"][0]["status"] for each in status.get("parents", ())] == ["True"]

        self.until(accounted)
        # The network may not know yet that an Envoy is ready behind the Service.
        ask = f"curl -s -o /dev/null -w '%{{http_code}}' http://{self.address}/{name} || true"
        self.until(lambda: self.cluster.run(["sh", "-c", ask]) == "200")

    def certificate(self) -> str:
        """That by which Envoys prove themselves at present."""
        secret = self.cluster.get("secret", f"{NAMESPACE}-front-{NAME}-identity", namespace=SYSTEM)
        return str(secret["data"]["tls.crt"])

    @property
    def address(self) -> str:
        status = self.cluster.get("gateway", "front", namespace=NAMESPACE)["status"]
        return str(status["addresses"][0]["value"])

    def pods(self) -> list[dict[str, Any]]:
        """The replicas, without those that are ending."""
        items: list[dict[str, Any]] = self.cluster.get("pods", "-l", f"app={NAME}", namespace=SYSTEM)["items"]
        return [each for each in items if "deletionTimestamp" not in each["metadata"]]

    def envoys_at(self) -> str:
        """The replica that the Envoy is connected to."""
        for pod in self.pods():
            url = f"http://{pod['status'].get('podIP')}:19000/status"
            try:
                status = json.loads(self.cluster.run(["curl", "-s", "-m", "5", url]))
            except (RuntimeError, ValueError):
                continue
            if any(node["role"] == "envoy" for node in status["nodes"]):
                return str(pod["metadata"]["name"])
        return ""

    def apart(self) -> bool:
        """Whether the Envoy is connected to a replica that does not lead; otherwise the other one is made to."""
        here, leader = self.envoys_at(), self.leader()
        if here and leader not in {"", here}:
            return True
        others = {each["metadata"]["name"] for each in self.pods()} - {here}
        if here and others:
            spec = yaml.safe_dump({"spec": {"holderIdentity": min(others)}})
            self.cluster.kubectl("patch", "-n", SYSTEM, "lease", NAME, "--type=merge", "-p", spec)
        return False


@pytest.fixture(scope="module")
def installation(new_cluster: Callable[[str], Cluster]) -> Installation:
    cluster = new_cluster("replicas")
    install_apis(cluster)
    cluster.kubectl("apply", "-f", "-", stdin=INSTALLATION)
    installation = Installation(cluster)
    installation.ready()
    cluster.kubectl("wait", "-n", NAMESPACE, "pod/echo", "--for=condition=Ready", "--timeout=120s")
    return installation


def test_replicas_come_and_go_and_nobody_notices(installation: Installation) -> None:
    cluster = installation.cluster
    cluster.apply(gateway(), namespace=NAMESPACE)
    cluster.kubectl(
        "wait", "-n", NAMESPACE, "gateway/front", "--for=condition=Programmed", f"--timeout={PATIENCE:.0f}s"
    )
    installation.serves("first")
    since = installation.programmed()["lastTransitionTime"]
    with traffic(cluster, f"http://{installation.address}/first") as told:
        installation.until(lambda: told.answered > 10)

        # The leader is killed: another one leads.
        killed, certificate = installation.leader(), installation.certificate()
        cluster.kubectl("delete", "-n", SYSTEM, "pod", killed, "--grace-period=0", "--force")
        installation.until(lambda: installation.leader() not in {"", killed})
        installation.until(lambda: installation.certificate() != certificate)
        installation.serves("second")
        installation.ready()

        # All of them are replaced, one by one.
        before = {each["metadata"]["name"] for each in installation.pods()}
        cluster.kubectl("rollout", "-n", SYSTEM, "restart", f"deployment/{NAME}")
        installation.ready()
        installation.until(lambda: installation.leader() not in {"", *before})
        installation.serves("third")
        assert installation.programmed()["lastTransitionTime"] == since

        # What an Envoy says to a replica that does not lead is heard by the one that does.
        installation.until(installation.apart)
        cluster.apply(gateway("more"), namespace=NAMESPACE)
        installation.until(lambda: installation.programmed().get("observedGeneration") == 2)
        assert installation.programmed()["status"] == "True"

        # So is what it refuses; what it had goes on serving.
        installation.until(installation.apart)
        cluster.apply(route("third", "/third", header="[a-z]{80}"), namespace=NAMESPACE)
        installation.until(lambda: installation.programmed()["status"] == "False")
        refused = installation.programmed()
        assert refused["reason"] == "Invalid"
        assert refused["message"].startswith(
            f"HTTPRoute {NAMESPACE}/third on Gateway {NAMESPACE}/front: refused by Envoy: regex '[a-z]{{80}}' RE2"
        )
        cluster.apply(route("third", "/third", header="[a-z]+"), namespace=NAMESPACE)
        installation.until(lambda: installation.programmed()["status"] == "True")
    assert told.failed == []
    assert cluster.get("secrets", namespace=NAMESPACE)["items"] == []
