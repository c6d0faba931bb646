"""The chart on a real API server: installed, used, upgraded and taken away, with the rights that it gives itself."""

import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import charts
import cluster_images
import pytest
import rights
import yaml
from certificates import pair
from controllers import PATIENCE, Controller
from minikluster import build
from minikluster.cluster import Cluster

GATEWAY_API = "gateway.networking.k8s.io/v1"
SYSTEM, SHOP = "chart-system", "chart-shop"
CLASS, OTHER = "chart", "chart-other"
NAME = "example.com/chart"
RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted", "pod-security.kubernetes.io/warn": "restricted"}
POLICIES = "inferencetrafficpolicies.inferenceextension.alibabacloud.com"

# Something of every kind that is read, and a status on each kind that has one of ours; Envoys of both sorts.
OBJECTS = """
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: EnvoyProxy
metadata: {name: many}
spec:
  provider:
    type: Kubernetes
    kubernetes: {envoyHpa: {minReplicas: 1, maxReplicas: 2}, envoyPDB: {minAvailable: 1}}
---
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: EnvoyProxy
metadata: {name: daemons}
spec: {provider: {type: Kubernetes, kubernetes: {envoyDaemonSet: {}}}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: front}
spec:
  gatewayClassName: chart
  listeners:
    - {name: http, port: 80, protocol: HTTP}
    - {name: https, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: certificate}]}}
  infrastructure: {parametersRef: {group: gateway.envoyproxy.io, kind: EnvoyProxy, name: many}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: side}
spec:
  gatewayClassName: chart
  listeners: [{name: http, port: 80, protocol: HTTP}]
  infrastructure: {parametersRef: {group: gateway.envoyproxy.io, kind: EnvoyProxy, name: daemons}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: models}
spec:
  parentRefs: [{name: front}]
  rules:
    - matches: [{path: {value: /v1}}]
      backendRefs: [{group: inference.networking.k8s.io, kind: InferencePool, name: pool}]
    - matches: [{path: {value: /old}}]
      backendRefs: [{group: inference.networking.x-k8s.io, kind: InferencePool, name: old}]
---
apiVersion: inference.networking.k8s.io/v1
kind: InferencePool
metadata: {name: pool}
spec: {selector: {matchLabels: {app: server}}, targetPorts: [{number: 8000}]}
---
apiVersion: inference.networking.x-k8s.io/v1alpha2
kind: InferencePool
metadata: {name: old}
spec: {selector: {app: server}, targetPortNumber: 8000, extensionRef: {name: old-picker}}
---
apiVersion: inference.networking.x-k8s.io/v1alpha2
kind: InferenceModel
metadata: {name: base}
spec: {modelName: base, poolRef: {name: old}}
---
apiVersion: llm-d.ai/v1alpha2
kind: InferenceObjective
metadata: {name: batch}
spec: {priority: -10, poolRef: {name: pool}}
---
apiVersion: inference.networking.x-k8s.io/v1alpha2
kind: InferenceObjective
metadata: {name: chat}
spec: {priority: 10, poolRef: {name: pool}}
---
apiVersion: llm-d.ai/v1alpha2
kind: InferenceModelRewrite
metadata: {name: code}
spec: {poolRef: {name: pool}, rules: [{matches: [{model: {value: code}}], targets: [{modelRewrite: code-v1}]}]}
---
apiVersion: inference.networking.x-k8s.io/v1alpha2
kind: InferenceModelRewrite
metadata: {name: talk}
spec: {poolRef: {name: pool}, rules: [{matches: [{model: {value: talk}}], targets: [{modelRewrite: talk-v1}]}]}
---
apiVersion: inferenceextension.alibabacloud.com/v1alpha1
kind: InferenceTrafficPolicy
metadata: {name: runtime}
spec: {poolRef: {name: old}, modelServerRuntime: sglang}
---
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: ClientTrafficPolicy
metadata: {name: limit}
spec:
  connection: {bufferLimit: 20Mi}
  targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: front}]
---
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: BackendTrafficPolicy
metadata: {name: timeout}
spec:
  timeout: {http: {requestTimeout: 24h}}
  targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: front}]
"""

BESIDE = {
    "apiVersion": GATEWAY_API,
    "kind": "Gateway",
    "metadata": {"name": "beside"},
    "spec": {"gatewayClassName": CLASS, "listeners": [{"name": "http", "port": 80, "protocol": "HTTP"}]},
}
NOWHERE = {"name": "absent", "port": 1}

# The Secrets that may be read in the end. There is one more, which no Gateway names.
READABLE = ("certificate", "other")

# Rights that a test sees no use of, and why they are given.
UNSEEN: dict[rights.Right, str] = {
    rights.Right("", "secrets", "update"): "the authority has another root when the first has lived for five years",
}


@pytest.fixture(scope="module")
def helm(pytestconfig: pytest.Config) -> None:
    """Helm is there, built where it is not."""
    if charts.helm() is not None:
        return
    if shutil.which("go") is None:
        pytest.skip("no Helm is at hand, and no Go to build it")
    capture = pytestconfig.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        pytestconfig.get_terminal_writer().line("\nBuilding helm: once, for about two minutes ...", flush=True)
        try:
            build.build(build.HELM)
        except subprocess.CalledProcessError as error:
            pytest.skip(f"no Helm is at hand, and it cannot be built: {error}")


def test_it_is_clean_and_what_is_rendered_of_it_is_current(helm: None) -> None:
    # Here too, where Helm is built if need be; tests/deployment goes without it.
    del helm
    assert "0 chart(s) failed" in charts.run("lint", "--strict", charts.CHART).stdout
    assert charts.manifest() == charts.INSTALL.read_text(), "`make manifest` writes it anew"


class Release:
    """The chart in a cluster, and what one sees of it."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.requests = rights.Requests(cluster.state / "logs" / "audit.log", SYSTEM, "gw-pointsman")

    def helm(self, *arguments: str, **values: object) -> str:
        """Run Helm for the release; values by their paths, with "__" for "."."""
        ours = {"controllerNames[0]": NAME, "gatewayClass__name": CLASS, "envoy__image": cluster_images.ENVOY}
        repository, _, tag = cluster_images.POINTSMAN.partition(":")
        given = {**ours, "image__repository": repository, "image__tag": tag, **values}
        options = [f"--set={name.replace('__', '.')}={value}" for name, value in given.items()]
        if arguments[0] == "uninstall":
            options = []
        program = charts.helm()
        assert program is not None
        return self.cluster.run([program, *arguments, "--namespace", SYSTEM, *options])

    def until(self, holds: Callable[[], bool], seconds: float = PATIENCE) -> None:
        """Wait until something holds."""
        end = time.monotonic() + seconds
        while not holds():
            if time.monotonic() > end:
                log = self.cluster.kubectl("logs", "-n", SYSTEM, "deployment/gw-pointsman", "--tail=30")
                raise AssertionError(f"not within {seconds} s\n{log}")
            time.sleep(0.5)

    def apply(self, kind: str, name: str, **spec: object) -> None:
        """Apply an object of the Gateway API."""
        item = {"apiVersion": GATEWAY_API, "kind": kind, "metadata": {"name": name}, "spec": spec}
        self.cluster.apply(item, namespace=SHOP)

    def programmed(self) -> None:
        """Wait until all Gateways are."""
        for namespace in (SHOP, SYSTEM):
            wait = ("wait", "-n", namespace, "gateway", "--all", "--for=condition=Programmed")
            self.cluster.kubectl(*wait, f"--timeout={PATIENCE:.0f}s")

    def made(self, kinds: str = "cm,deploy,ds,hpa,pdb,sa,secret,svc") -> list[str]:
        """The names of what is made for Gateways."""
        label = "gateway.networking.k8s.io/gateway-name"
        found = [
            each for name in (SHOP, SYSTEM) for each in self.cluster.get(kinds, "-l", label, namespace=name)["items"]
        ]
        return [each["metadata"]["name"] for each in found]

    def pods(self) -> list[dict[str, Any]]:
        """The controller's Pods, without those that are ending."""
        found = self.cluster.get("pods", "-l", "app.kubernetes.io/instance=gw", namespace=SYSTEM)["items"]
        return [each for each in found if "deletionTimestamp" not in each["metadata"]]


@pytest.fixture
def release(helm: None, apis: Cluster) -> Iterator[Release]:
    """A cluster without another controller: statuses that it had written already, this one would not write."""
    del helm
    others = list(Controller.running)
    for other in others:
        other.stop()
    for name in (SYSTEM, SHOP):
        apis.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": RESTRICTED}})
    yield Release(apis)
    apis.kubectl("delete", "namespace", SHOP, SYSTEM, "--timeout=300s")
    for other in others:
        other.start()


def test_an_installation_lives_with_the_rights_that_it_has(release: Release) -> None:
    waiting = ("--wait", f"--timeout={PATIENCE:.0f}s")
    _all_is_taken(release)
    release.helm("install", "gw", str(charts.CHART), *waiting)
    for name in (*READABLE, "unnamed"):
        release.cluster.apply(pair(f"{name}.example.com").secret(name, SHOP), namespace=SHOP)
    release.cluster.kubectl("apply", "-n", SHOP, "-f", "-", stdin=OBJECTS)
    # The Envoys of one prove themselves by a certificate, the others by tokens.
    release.cluster.apply(BESIDE, namespace=SYSTEM)
    release.programmed()
    assert release.made("secret") == [f"beside-{CLASS}-identity"]
    # A mistake is an Event.
    release.apply("HTTPRoute", "wrong", parentRefs=[{"name": "front"}], rules=[{"backendRefs": [NOWHERE]}])
    _everything_is_renamed(release)
    _a_definition_goes(release)

    # Other values make another Pod, which serves before the first one goes.
    values = {"podDisruptionBudget__create": "true", "podLabels__again": "yes"}
    release.helm("upgrade", "gw", str(charts.CHART), *waiting, **values, **_readable(*READABLE[:1]))
    (pod,) = release.pods()
    assert pod["metadata"]["labels"]["again"] == "yes"
    told = release.cluster.run([*cluster_images.PROGRAM, "status", f"{pod['status']['podIP']}:19000", "--json"])
    assert {each["name"] for each in json.loads(told)["gateways"]} == {
        f"{SHOP}/front",
        f"{SHOP}/side",
        f"{SYSTEM}/beside",
    }
    _secrets_are_read_by_name(
        release, lambda: release.helm("upgrade", "gw", str(charts.CHART), *waiting, **values, **_readable(*READABLE))
    )

    roles = release.cluster.get("clusterroles,roles", "-A", "-l", "app.kubernetes.io/instance=gw")["items"]
    granted = rights.granted(roles)
    assert len(granted) > 50
    # The last of it may still be under way.
    with suppress(AssertionError):
        release.until(lambda: granted - UNSEEN.keys() <= release.requests.used(), 20)
    unused = sorted(map(str, granted - release.requests.used() - UNSEEN.keys()))
    refused = [each for each in release.requests.refused() if f"metadata.name%3D{READABLE[1]}," not in each]
    assert (refused, unused) == ([], [])
    _it_goes(release, waiting)


def _all_is_taken(release: Release) -> None:
    """The API server takes all that the chart can render."""
    everything = {"podDisruptionBudget__create": "true", "watchNamespaces[0]": SHOP, "priorityClassName": "high"}
    text = release.helm("template", "gw", str(charts.CHART), "--include-crds", **everything)
    assert "RoleBinding" in text
    dry = ("--server-side", "--dry-run=server", "--force-conflicts")
    taken = release.cluster.kubectl("apply", *dry, "-f", "-", stdin=text).splitlines()
    assert len(taken) == len([each for each in yaml.safe_load_all(text) if each])


def _readable(*names: str) -> dict[str, str]:
    """Values with which no Secrets can be read but these."""
    listed = {f"readableSecrets__names__{SHOP}[{number}]": name for number, name in enumerate(names)}
    return {"readableSecrets__any": "false", **listed}


def _secrets_are_read_by_name(release: Release, allow: Callable[[], object]) -> None:
    """None is asked for that no Gateway names, and one that may not be read is the trouble of its listener alone."""
    first, second = READABLE
    # Of those that are made in the controller's own namespace the metadata is followed.
    made = (SYSTEM, "")
    assert release.requests.followed("secrets") == {made, (SHOP, first)}
    release.programmed()
    name = {"op": "replace", "path": "/spec/listeners/1/tls/certificateRefs/0/name", "value": second}
    release.cluster.kubectl("patch", "-n", SHOP, "gateway", "front", "--type=json", "-p", json.dumps([name]))

    def said() -> str:
        listeners = release.cluster.get("gateway", "front", namespace=SHOP)["status"]["listeners"]
        (message,) = [each["message"] for each in listeners[1]["conditions"] if each["type"] == "ResolvedRefs"]
        return str(message)

    release.until(lambda: f"Secret {SHOP}/{second} cannot be read" in said())
    allow()
    release.until(lambda: "cannot be read" not in said())
    release.programmed()
    address = release.cluster.get("gateway", "front", namespace=SHOP)["status"]["addresses"][0]["value"]
    host = f"{second}.example.com"
    trusted = release.cluster.state / f"{host}.pem"
    curl = [
        "curl",
        "-sS",
        "-m",
        "5",
        "--cacert",
        str(trusted),
        "--resolve",
        f"{host}:443:{address}",
        f"https://{host}/",
    ]

    def shown() -> bool:
        try:
            release.cluster.run(curl)
        except RuntimeError:
            return False
        return True

    trusted.write_bytes(pair(host).chain)
    release.until(shown)
    # A renewed one is shown as well.
    renewed = pair(host, serial=2)
    trusted.write_bytes(renewed.chain)
    release.cluster.apply(renewed.secret(second, SHOP), namespace=SHOP)
    release.until(shown)
    assert release.requests.followed("secrets") == {made, (SHOP, first), (SHOP, second)}


def _everything_is_renamed(release: Release) -> None:
    """Another class gives all that is made another name; what bears the old ones goes."""
    release.apply("GatewayClass", OTHER, controllerName=NAME)
    patch = json.dumps({"spec": {"gatewayClassName": OTHER}})
    for namespace, name in ((SHOP, "front"), (SHOP, "side"), (SYSTEM, "beside")):
        release.cluster.kubectl("patch", "-n", namespace, "gateway", name, "--type=merge", "-p", patch)

    def renamed() -> bool:
        names = release.made()
        return bool(names) and all(name.removesuffix("-identity").endswith(f"-{OTHER}") for name in names)

    release.until(renamed)
    release.programmed()
    assert release.made("secret") == [f"beside-{OTHER}-identity"]


def _a_definition_goes(release: Release) -> None:
    """One that goes is asked for once more, before its kind is forgotten."""
    definition = release.cluster.get("crd", POLICIES)
    release.cluster.kubectl("delete", "crd", POLICIES, "--timeout=120s")
    asked = rights.Right("apiextensions.k8s.io", "customresourcedefinitions", "get")
    release.until(lambda: asked in release.requests.used())
    metadata = {key: definition["metadata"].get(key) for key in ("name", "labels", "annotations")}
    release.cluster.apply({**definition, "metadata": metadata, "status": {}})


def _it_goes(release: Release, waiting: tuple[str, ...]) -> None:
    """What was made goes with the Gateways and pools, the rest with the release, and definitions stay."""
    pools = ("inferencepools.inference.networking.k8s.io", "inferencepools.inference.networking.x-k8s.io")
    release.cluster.kubectl("delete", "-n", SHOP, ",".join(("gateway", "httproute", *pools)), "--all")
    release.cluster.kubectl("delete", "-n", SYSTEM, "gateway", "--all")
    label = "app.kubernetes.io/managed-by=pointsman"
    release.until(lambda: not release.cluster.get("cm,deploy,ds,sa,svc", "-l", label, namespace=SHOP)["items"])
    release.until(lambda: release.made() == [])
    release.helm("uninstall", "gw", *waiting)
    kinds = "all,pdb,sa,clusterrole,clusterrolebinding,gatewayclass"
    release.until(lambda: not release.cluster.get(kinds, "-A", "-l", "app.kubernetes.io/instance=gw")["items"])
    assert release.cluster.get("crd", POLICIES)["metadata"]["name"] == POLICIES
    release.cluster.kubectl("delete", "gatewayclass", OTHER)
