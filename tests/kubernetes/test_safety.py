"""Who is served what on a real API server, where keys are, and what the pods that we make are content with."""

import asyncio
import base64
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import stranger
from controllers import CLASS, NAMES, XDS, Controller
from minikluster.cluster import Cluster

from pointsman.failure import Failure
from pointsman.trust import NAME, Trust
from sources.kubernetes import Api

NAMESPACE = "sealed"
GATEWAY_API = "gateway.networking.k8s.io/v1"
POOL = {
    "apiVersion": "inference.networking.x-k8s.io/v1alpha2",
    "kind": "InferencePool",
    "metadata": {"name": "pool"},
    "spec": {"selector": {"app": "none"}, "targetPortNumber": 8000, "extensionRef": {"name": "epp"}},
}
PICKER = f"picker/{NAMESPACE}/epp/9002"


NO_ENVOYS = {
    "apiVersion": "gateway.envoyproxy.io/v1alpha1",
    "kind": "EnvoyProxy",
    "metadata": {"name": "none"},
    "spec": {"provider": {"type": "Kubernetes", "kubernetes": {"envoyDeployment": {"replicas": 0}}}},
}


def gateway(name: str, **more: object) -> dict[str, Any]:
    listeners = [{"name": "http", "port": 80, "protocol": "HTTP"}]
    spec = {"gatewayClassName": CLASS, "listeners": listeners, **more}
    return {"apiVersion": GATEWAY_API, "kind": "Gateway", "metadata": {"name": name}, "spec": spec}


def route() -> dict[str, Any]:
    backend = {"group": "inference.networking.x-k8s.io", "kind": "InferencePool", "name": "pool"}
    spec = {"parentRefs": [{"name": "front"}], "rules": [{"backendRefs": [backend]}]}
    return {"apiVersion": GATEWAY_API, "kind": "HTTPRoute", "metadata": {"name": "pool"}, "spec": spec}


@pytest.fixture(scope="module")
def sealed(controller: Controller) -> Iterator[Cluster]:
    """Two Gateways and a pool in a namespace whose pods have to meet the restricted Pod Security Standard."""
    cluster = controller.cluster
    cluster.namespace(NAMESPACE)
    cluster.kubectl("label", "namespace", NAMESPACE, "pod-security.kubernetes.io/enforce=restricted")
    gateway_class = {"apiVersion": GATEWAY_API, "kind": "GatewayClass", "metadata": {"name": CLASS}}
    cluster.apply({**gateway_class, "spec": {"controllerName": NAMES[0]}})
    # The neighbour's service account is there, and no Envoy of it.
    cluster.apply(NO_ENVOYS, POOL, namespace=NAMESPACE)
    parameters = {"group": "gateway.envoyproxy.io", "kind": "EnvoyProxy", "name": "none"}
    other = gateway("other", infrastructure={"parametersRef": parameters})
    cluster.apply(gateway("front"), other, route(), namespace=NAMESPACE)
    controller.programmed("front", NAMESPACE)
    controller.rolled_out("epp", NAMESPACE)
    yield cluster
    cluster.kubectl("delete", "namespace", NAMESPACE, "--wait=false")
    cluster.kubectl("delete", "gatewayclass", CLASS)


def test_pods_meet_the_restricted_standard_and_their_picker_is_reached(sealed: Cluster, controller: Controller) -> None:
    # The namespace is not content with any pod.
    with pytest.raises(RuntimeError, match="violates PodSecurity"):
        sealed.kubectl("run", "-n", NAMESPACE, "careless", "--image=minikluster/python")
    containers = [
        container
        for pod in sealed.get("pods", namespace=NAMESPACE)["items"]
        for container in (*pod["spec"]["containers"], *pod["spec"].get("initContainers", ()))
    ]
    assert {each["name"] for each in containers} == {"envoy", "drain", "picker"}
    assert all(each["securityContext"]["readOnlyRootFilesystem"] for each in containers)
    # That there is no pod to pick is the picker's own word, told over TLS.
    address = sealed.get("gateway", "front", namespace=NAMESPACE)["status"]["addresses"][0]["value"]
    controller.until(lambda: "no_ready_endpoint" in controller.fetch(f"{address}/v1/models/x")[1])


def test_everybody_is_served_what_is_its_own_and_strangers_nothing(sealed: Cluster) -> None:
    roots = sealed.get("configmap", "epp", namespace=NAMESPACE)["data"]["ca.crt"]

    def token(account: str, *options: str) -> str:
        audience = options or ("--audience=pointsman.dev/xds",)
        return sealed.kubectl("create", "token", "-n", NAMESPACE, account, *audience).strip()

    front, other, picker = (token(account) for account in (f"front-{CLASS}", f"other-{CLASS}", "epp"))
    own, theirs = f"{NAMESPACE}/front", f"{NAMESPACE}/other"
    expected = {
        (front, own, "envoy"): "served",
        (other, theirs, "envoy"): "served",
        ("", own, "envoy"): "UNAUTHENTICATED",
        # One for the API server is none for us.
        (token(f"front-{CLASS}", "--duration=10m"), own, "envoy"): "UNAUTHENTICATED",
        (front[:-8] + "AAAAAAAA", own, "envoy"): "UNAUTHENTICATED",
        (token("default"), own, "envoy"): "PERMISSION_DENIED",
        (other, own, "envoy"): "PERMISSION_DENIED",
        (picker, own, "envoy"): "PERMISSION_DENIED",
        (front, own, "picker"): "PERMISSION_DENIED",
        (front, PICKER, "picker"): "PERMISSION_DENIED",
    }
    questions = json.dumps({"roots": roots, "questions": [*expected]})
    answers = json.loads(sealed.run([sys.executable, stranger.__file__, XDS], stdin=questions))
    assert dict(zip(expected, answers, strict=True)) == expected


def test_keys_and_tokens_are_shown_nowhere(sealed: Cluster, controller: Controller) -> None:
    assert sealed.get("secrets", namespace=NAMESPACE)["items"] == []
    pods = [each["metadata"]["name"] for each in sealed.get("pods", namespace=NAMESPACE)["items"]]
    texts = [controller.log, sealed.run(["curl", "-sf", f"http://{controller.admin}/config_dump"])]
    texts += [sealed.run(["curl", "-sf", f"http://{controller.admin}/{path}"]) for path in ("status", "metrics")]
    texts += [sealed.kubectl("logs", "-n", NAMESPACE, pod, "--all-containers") for pod in pods]
    for pod in pods:
        if pod.startswith("front"):
            dump = sealed.exec(
                pod, "curl", "-sf", "http://127.0.0.1:19000/config_dump?include_eds", namespace=NAMESPACE
            )
            assert "pointsman/identity" in dump
            texts.append(dump)
            texts.append(sealed.exec(pod, "curl", "-sf", "http://127.0.0.1:19000/certs", namespace=NAMESPACE))
    kept = sealed.get("secret", NAME)["data"]["ca.key"]
    for text in texts:
        assert "PRIVATE KEY" not in text
        # How every signed token begins: {"alg": in base64.
        assert "eyJhbGci" not in text
        assert kept[:40] not in text


def test_the_authority_is_made_once_kept_and_never_guessed(apis: Cluster) -> None:
    apis.namespace("authority")
    with apis.inside():
        asyncio.run(_follow_an_authority(apis))
    apis.kubectl("delete", "namespace", "authority", "--wait=false")


async def _follow_an_authority(cluster: Cluster) -> None:
    api = await Api.connect(Path(cluster.state) / "kubeconfig")
    try:
        replicas = [Trust(api, "authority") for _ in range(5)]
        found = await asyncio.gather(*(each.load() for each in replicas))
        assert len({each.bundle for each in found}) == 1
        path = f"/api/v1/namespaces/authority/secrets/{NAME}"
        # One that is deleted is made again as it was, by whoever knows it.
        await api.delete(path)
        assert (await replicas[0].load()).bundle == found[0].bundle
        assert (await Trust(api, "authority").load()).bundle == found[0].bundle
        broken = {"data": {"ca.crt": base64.b64encode(b"none").decode()}}
        body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": NAME}, **broken}
        await api.put(path, body)
        with pytest.raises(Failure, match=rf"Secret authority/{NAME}: data\[ca.crt\]: no certificates in PEM"):
            await Trust(api, "authority").load()
    finally:
        await api.close()
