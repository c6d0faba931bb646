"""The folder of manifests that Pointsman is measured with: a gateway that routes three models.

Two are of one pool, which picks by load; the third is of another, which looks at prompts too.  Both have all pods.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

PLAIN = "chat"
"""The model that its servers know by the same name: the picker sees the request's headers only."""

RENAMED = "chat-latest"
"""The model that its servers know as `chat`: the picker sees the body and rewrites it."""

CACHED = "chat-cached"
"""The model of the pool that compares prompts: the picker sees the body."""

_GATEWAY_API = "gateway.networking.k8s.io/v1"
_INFERENCE = "inference.networking.x-k8s.io"
_Manifest = Mapping[str, object]
_POOL_OF = {PLAIN: "bench", RENAMED: "bench", CACHED: "bench-cached"}


def write(folder: Path, *, port: int, pods: Sequence[str], pods_port: int) -> None:
    """Write the manifests: a Gateway on `port`, and Pods at the addresses `pods`, all on `pods_port`."""
    documents = [
        *_gateway(port),
        _pool("bench", "DEFAULT", pods_port),
        _pool("bench-cached", "PREFIX_CACHE", pods_port),
        *(_model(name, pool) for name, pool in _POOL_OF.items()),
        _route(),
        *(_pod(address) for address in pods),
    ]
    text = "---\n".join(json.dumps(document) + "\n" for document in documents)
    (folder / "manifests.yaml").write_text(text, encoding="utf-8")


def _gateway(port: int) -> list[_Manifest]:
    target = {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "bench"}
    return [
        {
            "apiVersion": _GATEWAY_API,
            "kind": "GatewayClass",
            "metadata": {"name": "bench"},
            "spec": {"controllerName": "gateway.envoyproxy.io/gatewayclass-controller"},
        },
        {
            "apiVersion": _GATEWAY_API,
            "kind": "Gateway",
            "metadata": {"name": "bench"},
            "spec": {"gatewayClassName": "bench", "listeners": [{"name": "http", "protocol": "HTTP", "port": port}]},
        },
        {
            "apiVersion": "gateway.envoyproxy.io/v1alpha1",
            "kind": "ClientTrafficPolicy",
            "metadata": {"name": "bench"},
            "spec": {"targetRefs": [target], "connection": {"bufferLimit": "20Mi"}},
        },
        {
            "apiVersion": "gateway.envoyproxy.io/v1alpha1",
            "kind": "BackendTrafficPolicy",
            "metadata": {"name": "bench"},
            "spec": {"targetRefs": [target], "timeout": {"http": {"requestTimeout": "24h"}}},
        },
    ]


def _pool(name: str, strategy: str, pods_port: int) -> _Manifest:
    return {
        "apiVersion": f"{_INFERENCE}/v1alpha2",
        "kind": "InferencePool",
        "metadata": {"name": name, "annotations": {"inference.networking.x-k8s.io/routing-strategy": strategy}},
        "spec": {
            "selector": {"app": "bench"},
            "targetPortNumber": pods_port,
            "extensionRef": {"name": "bench-picker"},
        },
    }


def _model(name: str, pool: str) -> _Manifest:
    return {
        "apiVersion": f"{_INFERENCE}/v1alpha2",
        "kind": "InferenceModel",
        "metadata": {"name": name},
        "spec": {
            "modelName": name,
            "criticality": "Critical",
            "poolRef": {"name": pool},
            "targetModels": [{"name": PLAIN if name == RENAMED else name, "weight": 100}],
        },
    }


def _route() -> _Manifest:
    rules = [
        {
            "matches": [{"headers": [{"name": "X-Gateway-Model-Name", "value": name}]}],
            "backendRefs": [{"group": _INFERENCE, "kind": "InferencePool", "name": pool}],
        }
        for name, pool in _POOL_OF.items()
    ]
    return {
        "apiVersion": _GATEWAY_API,
        "kind": "HTTPRoute",
        "metadata": {"name": "bench"},
        "spec": {"parentRefs": [{"name": "bench"}], "rules": rules},
    }


def _pod(address: str) -> _Manifest:
    name = "bench-" + address.replace(".", "-")
    ready = {"type": "Ready", "status": "True"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": "bench"}},
        "spec": {"containers": [{"name": "server", "image": "envoy"}]},
        "status": {"phase": "Running", "podIP": address, "conditions": [ready]},
    }
