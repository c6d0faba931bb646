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
from controllers import CLASS, NAMES, OWN_NAMESPACE, XDS, Controller
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


def route(gateway: str) -> dict[str, Any]:
    backend = {"group": "inference.networking.x-k8s.io", "kind": "InferencePool", "name": "pool"}
    spec = {"parentRefs": [{"name": gateway}], "rules": [{"backendRefs": [backend]}]}
    return {"apiVersion": GATEWAY_API, "kind": "HTTPRoute", "metadata": {"name": "pool"}, "spec": spec}


def foreign_secret() -> dict[str, Any]:
    """One of the name that ours would have."""
    metadata = {"name": f"late-{CLASS}-identity"}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {"tls.key": "precious"}}


@pytest.fixture(scope="module")
def sealed(controller: Controller) -> Iterator[Cluster]:
    """Two Gateways and a pool in a namespace whose pods have to meet the restricted Pod Security Standard.

    Beside them, one and a pool in the controller's own namespace, where somebody else has a Secret.
    """
    cluster = controller.cluster
    cluster.namespace(NAMESPACE)
    cluster.kubectl("label", "namespace", NAMESPACE, "pod-security.kubernetes.io/enforce=restricted")
    gateway_class = {"apiVersion": GATEWAY_API, "kind": "GatewayClass", "metadata": {"name": CLASS}}
    cluster.apply({**gateway_class, "spec": {"controllerName": NAMES[0]}})
    # The neighbour's service account is there, and no Envoy of it.
    cluster.apply(NO_ENVOYS, POOL, namespace=NAMESPACE)
    parameters = {"group": "gateway.envoyproxy.io", "kind": "EnvoyProxy", "name": "none"}
    other = gateway("other", infrastructure={"parametersRef": parameters})
    cluster.apply(gateway("front"), other, route("front"), namespace=NAMESPACE)
    cluster.apply(foreign_secret(), gateway("inner"), POOL, route("inner"), namespace=OWN_NAMESPACE)
    cluster.apply(NO_ENVOYS, gateway("late", infrastructure={"parametersRef": parameters}), namespace=OWN_NAMESPACE)
    for name, namespace in (("front", NAMESPACE), ("inner", OWN_NAMESPACE)):
        controller.programmed(name, namespace)
        controller.rolled_out("epp", namespace)
    yield cluster
    made = ("gateway/inner", "gateway/late", "httproute/pool", "envoyproxy/none", f"secret/late-{CLASS}-identity")
    pool = "inferencepool.inference.networking.x-k8s.io/pool"
    cluster.kubectl("delete", "-n", OWN_NAMESPACE, *made, pool, "--ignore-not-found")
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
    for name, namespace in (("front", NAMESPACE), ("inner", OWN_NAMESPACE)):
        address = sealed.get("gateway", name, namespace=namespace)["status"]["addresses"][0]["value"]
        controller.until(lambda address=address: "no_ready_endpoint" in controller.fetch(f"{address}/v1/models/x")[1])  # type: ignore[misc]


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
    questions = json.dumps({"roots": roots, "questions": [*expected], "pairs": [()] * len(expected)})
    answers = json.loads(sealed.run([sys.executable, stranger.__file__, XDS], stdin=questions))
    assert dict(zip(expected, answers, strict=True)) == expected


def test_in_the_controllers_own_namespace_certificates_prove_it(sealed: Cluster, controller: Controller) -> None:
    def volumes(namespace: str, label: str) -> list[dict[str, Any]]:
        pods = sealed.get("pods", "-l", label, namespace=namespace)["items"]
        return [each for pod in pods for each in pod["spec"]["volumes"] if each["name"] == "identity"]

    front, inner = (f"gateway.networking.k8s.io/gateway-name={each}" for each in ("front", "inner"))
    picker = "pointsman.dev/picker-name=epp"
    for namespace, labels, kinds in (
        (NAMESPACE, (front, picker), {"name", "projected"}),
        (OWN_NAMESPACE, (inner, picker), {"name", "secret"}),
    ):
        assert [set(each) for label in labels for each in volumes(namespace, label)] == [kinds, kinds]
    assert sealed.get("secrets", namespace=NAMESPACE)["items"] == []

    def pair(name: str) -> tuple[str, ...]:
        data = sealed.get("secret", f"{name}-identity", namespace=OWN_NAMESPACE)["data"]
        return tuple(base64.b64decode(data[each]).decode() for each in ("tls.key", "tls.crt"))

    envoy, picker_pair = pair(f"inner-{CLASS}"), pair("epp")
    own, outer, seat = f"{OWN_NAMESPACE}/inner", f"{NAMESPACE}/front", f"picker/{OWN_NAMESPACE}/epp/9002"
    token = sealed.kubectl("create", "token", "-n", NAMESPACE, f"front-{CLASS}", "--audience=pointsman.dev/xds")
    asked = (
        (envoy, "", own, "envoy", "served"),
        (picker_pair, "", seat, "picker", "served"),
        (picker_pair, "", own, "envoy", "PERMISSION_DENIED"),
        (envoy, "", seat, "picker", "PERMISSION_DENIED"),
        # Nor does it help to have another's token beside it; and a token alone is nothing here.
        (envoy, token.strip(), outer, "envoy", "PERMISSION_DENIED"),
        ((), token.strip(), outer, "envoy", "UNAVAILABLE"),
    )
    roots = sealed.get("configmap", "epp", namespace=OWN_NAMESPACE)["data"]["ca.crt"]
    given = {"roots": roots, "pairs": [each[0] for each in asked], "questions": [each[1:4] for each in asked]}
    program = [sys.executable, stranger.__file__, controller.xds_mtls]
    answers = json.loads(sealed.run(program, stdin=json.dumps(given)))
    assert answers == [each[4] for each in asked]

    # One that is gone is made again; somebody else's is left as it is, and said.
    listing = ("get", "-n", OWN_NAMESPACE, "secrets", "-o", "name")
    name = f"secret/inner-{CLASS}-identity"
    sealed.kubectl("delete", "-n", OWN_NAMESPACE, name)
    controller.until(lambda: name in sealed.kubectl(*listing))
    late = f"Secret {OWN_NAMESPACE}/late-{CLASS}-identity: is there already and is not Pointsman's"
    controller.until(lambda: late in str(sealed.get("gateway", "late", namespace=OWN_NAMESPACE)["status"]))
    foreign = sealed.get("secret", f"late-{CLASS}-identity", namespace=OWN_NAMESPACE)
    assert (list(foreign["data"]), "labels" in foreign["metadata"]) == (["tls.key"], False)


def test_keys_and_tokens_are_shown_nowhere(sealed: Cluster, controller: Controller) -> None:
    assert sealed.get("secrets", namespace=NAMESPACE)["items"] == []
    pods = [
        (namespace, each["metadata"]["name"])
        for namespace in (NAMESPACE, OWN_NAMESPACE)
        for each in sealed.get("pods", namespace=namespace)["items"]
    ]
    texts = [controller.log, sealed.run(["curl", "-sf", f"http://{controller.admin}/config_dump"])]
    texts += [sealed.run(["curl", "-sf", f"http://{controller.admin}/{path}"]) for path in ("status", "metrics")]
    texts += [sealed.kubectl("logs", "-n", namespace, pod, "--all-containers") for namespace, pod in pods]
    for namespace, pod in pods:
        if pod.startswith(("front", "inner")):
            ask = ("curl", "-sf", "http://127.0.0.1:19000/config_dump?include_eds")
            dump = sealed.exec(pod, *ask, namespace=namespace)
            assert "pointsman/identity" in dump
            texts.append(dump)
            texts.append(sealed.exec(pod, "curl", "-sf", "http://127.0.0.1:19000/certs", namespace=namespace))
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
