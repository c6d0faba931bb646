"""Manifests as plain mappings, short to write: what integration tests put into folders."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

Manifest = Mapping[str, Any]

CONTROLLER = "gateway.envoyproxy.io/gatewayclass-controller"
STABLE = "inference.networking.k8s.io"
EXPERIMENTAL = "inference.networking.x-k8s.io"
MODEL_HEADER = "X-Gateway-Model-Name"
_TIMING = "simulator.pointsman.dev/"


def write(file: Path, *manifests: Manifest) -> Path:
    """Replace a file by these manifests at once, as editors and kubectl-like tools do."""
    return replace(file, yaml.safe_dump_all(manifests, sort_keys=False))


def replace(file: Path, text: str) -> Path:
    """Replace a file's text at once."""
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_name(f".{file.name}")
    draft.write_text(text)
    draft.replace(file)
    return file


def gateway_class(name: str = "ours") -> Manifest:
    return _manifest("gateway.networking.k8s.io/v1", "GatewayClass", name, {"controllerName": CONTROLLER})


def gateway(name: str = "edge", *, class_name: str = "ours", port: int = 8080) -> Manifest:
    """Port 8080 stands for the free port that the running gateway gets."""
    spec = {"gatewayClassName": class_name, "listeners": [{"name": "http", "protocol": "HTTP", "port": port}]}
    return _manifest("gateway.networking.k8s.io/v1", "Gateway", name, spec)


def buffer_limit(limit: str, name: str = "edge") -> Manifest:
    target = {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": name}
    spec = {"targetRefs": [target], "connection": {"bufferLimit": limit}}
    return _manifest("gateway.envoyproxy.io/v1alpha1", "ClientTrafficPolicy", "buffer-limit", spec)


def route(name: str, *rules: Manifest, gateway: str = "edge", hostnames: Sequence[str] = ()) -> Manifest:
    spec: dict[str, Any] = {"parentRefs": [{"name": gateway}], "rules": list(rules)}
    if hostnames:
        spec["hostnames"] = list(hostnames)
    return _manifest("gateway.networking.k8s.io/v1", "HTTPRoute", name, spec)


def rule(
    *backends: Manifest, model: str | None = None, headers: Mapping[str, str] | None = None, **more: Any
) -> Manifest:
    """A rule with one match: a model, other headers, or everything."""
    wanted = {**({MODEL_HEADER: model} if model else {}), **(headers or {})}
    match = [{"headers": [{"name": key, "value": value} for key, value in wanted.items()]}] if wanted else []
    return {**({"matches": match} if match else {}), "backendRefs": list(backends), **more}


def to_pool(name: str, *, group: str = EXPERIMENTAL, weight: int = 1) -> Manifest:
    return {"group": group, "kind": "InferencePool", "name": name, "weight": weight}


def to_service(name: str, *, port: int = 8000, weight: int = 1) -> Manifest:
    return {"name": name, "port": port, "weight": weight}


def pool(name: str, app: str, *, failure_mode: str | None = None, port: int = 8000) -> Manifest:
    """A pool of API version v1alpha2."""
    extension = {"name": "no-such-service", **({"failureMode": failure_mode} if failure_mode else {})}
    spec = {"selector": {"app": app}, "targetPortNumber": port, "extensionRef": extension}
    return _manifest(f"{EXPERIMENTAL}/v1alpha2", "InferencePool", name, spec)


def stable_pool(name: str, app: str, *, failure_mode: str | None = None, port: int = 8000) -> Manifest:
    """A pool of API version v1; it names `own_picker`."""
    picker = {"name": "own-picker", "port": {"number": 9002}}
    picker |= {"failureMode": failure_mode} if failure_mode else {}
    spec = {"selector": {"matchLabels": {"app": app}}, "targetPorts": [{"number": port}], "endpointPickerRef": picker}
    return _manifest(f"{STABLE}/v1", "InferencePool", name, spec)


def own_picker() -> Manifest:
    """The Service by which a pool says that Pointsman's own picker is meant."""
    labels = {"pointsman.dev/picker": "true"}
    made = _manifest("v1", "Service", "own-picker", {"ports": [{"port": 9002}]})
    return {**made, "metadata": {**made["metadata"], "labels": labels}}


def picker_service(name: str, *, protocol: str | None = None) -> Manifest:
    """The Service of a picker that is not Pointsman's own."""
    return _manifest("v1", "Service", name, {"ports": [_picker_port(protocol)]})


def _picker_port(protocol: str | None) -> Manifest:
    return {"name": "grpc", "port": 9002, **({"appProtocol": protocol} if protocol else {})}


def picker_slice(name: str, *ports: int) -> Manifest:
    """The EndpointSlice of such a picker, whose replicas listen on these ports of 127.0.0.1."""
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": f"{name}-1", "labels": {"kubernetes.io/service-name": name}},
        "addressType": "IPv4",
        "ports": [{"name": "grpc", "port": port} for port in ports],
        "endpoints": [{"addresses": ["127.0.0.1"]}],
    }


def picked_pool(name: str, app: str, picker: str, failure_mode: str = "FailClose") -> Manifest:
    """A pool of API version v1alpha2 that names its picker."""
    made = pool(name, app, failure_mode=failure_mode)
    return {**made, "spec": {**made["spec"], "extensionRef": {"name": picker, "failureMode": failure_mode}}}


def annotated(manifest: Manifest, annotations: Mapping[str, str]) -> Manifest:
    """The same object with these annotations."""
    return {**manifest, "metadata": {**manifest["metadata"], "annotations": dict(annotations)}}


def model(name: str, pool: str, targets: Mapping[str, int] | None = None) -> Manifest:
    """Targets by weight."""
    wanted = [{"name": target, "weight": weight} for target, weight in (targets or {}).items()]
    spec = {"modelName": name, "poolRef": {"name": pool}, **({"targetModels": wanted} if wanted else {})}
    return _manifest(f"{EXPERIMENTAL}/v1alpha2", "InferenceModel", name, spec)


def deployment(
    app: str,
    flags: str,
    *,
    replicas: int = 1,
    port: int = 8000,
    strategy: Mapping[str, Any] | None = None,
    **timing: float,
) -> Manifest:
    """Replicas of `vllm serve`; timing by the simulator's annotations: decode_ms, prefill_us, startup_ms, ..."""
    annotations = {_TIMING + key.replace("_", "-"): str(value) for key, value in timing.items()}
    command = ["vllm", "serve", f"/models/{app}", "--port", str(port), *flags.split()]
    container = {
        "name": "vllm",
        "image": "vllm/vllm-openai:v0.11.0",
        "command": command,
        "ports": [{"name": "http", "containerPort": port}],
    }
    template = {"metadata": {"labels": {"app": app}, "annotations": annotations}, "spec": {"containers": [container]}}
    spec: dict[str, Any] = {"replicas": replicas, "selector": {"matchLabels": {"app": app}}, "template": template}
    if strategy:
        spec["strategy"] = {"type": "RollingUpdate", "rollingUpdate": strategy}
    return _manifest("apps/v1", "Deployment", app, spec)


def served_at(name: str, address: str, target: int, *, port: int = 8000) -> tuple[Manifest, Manifest]:
    """A Service without pods, and the endpoint that it has."""
    made = _manifest("v1", "Service", name, {"ports": [{"name": "http", "port": port}]})
    endpoints = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": f"{name}-1", "labels": {"kubernetes.io/service-name": name}},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": target}],
        "endpoints": [{"addresses": [address]}],
    }
    return made, endpoints


def service(app: str, *, port: int = 8000) -> Manifest:
    spec = {"selector": {"app": app}, "ports": [{"name": "http", "port": port, "targetPort": port}]}
    return _manifest("v1", "Service", app, spec)


def broken_rules() -> dict[str, Manifest]:
    """An object for each rule between fields that both we and API servers check, by what is said of it."""
    pool = {"selector": {"matchLabels": {"app": "server"}}, "targetPorts": [{"number": 8000}]}
    ours, theirs = "inference.networking.k8s.io/v1", "inference.networking.x-k8s.io/v1alpha2"
    gateway_group = "gateway.envoyproxy.io/v1alpha1"
    target = {"kind": "Gateway", "name": "gateway"}
    models = {"modelName": "m", "poolRef": {"name": "p"}, "targetModels": [{"name": "a", "weight": 1}, {"name": "b"}]}

    def proxy(**kubernetes: object) -> Manifest:
        spec = {"provider": {"type": "Kubernetes", "kubernetes": kubernetes}}
        return _manifest(gateway_group, "EnvoyProxy", "broken", spec)

    return {
        "is required when kind is Service": _manifest(
            ours, "InferencePool", "broken", {**pool, "endpointPickerRef": {"name": "picker"}}
        ),
        "port numbers must differ": _manifest(
            ours, "InferencePool", "broken", {**pool, "targetPorts": [{"number": 8000}, {"number": 8000}]}
        ),
        "weights must be set for all target models or for none": _manifest(theirs, "InferenceModel", "broken", models),
        "only one of targetRef and targetRefs may be set": _manifest(
            gateway_group, "BackendTrafficPolicy", "broken", {"targetRef": target, "targetRefs": [target]}
        ),
        "cannot be lower than minReplicas": proxy(envoyHpa={"minReplicas": 3, "maxReplicas": 2}),
        "one of minAvailable and maxUnavailable is required": proxy(envoyPDB={}),
        "only one of envoyDeployment and envoyDaemonSet may be set": proxy(envoyDeployment={}, envoyDaemonSet={}),
        "a bootstrap of type JSONPatch has jsonPatches, and one of another type has a value": _manifest(
            gateway_group, "EnvoyProxy", "broken", {"bootstrap": {"type": "JSONPatch", "value": "{}"}}
        ),
        "a DaemonSet is not scaled": proxy(envoyHpa={"maxReplicas": 2}, envoyDaemonSet={}),
    }


def pods(app: str, addresses: Iterable[str], *, port: int = 8000) -> list[Manifest]:
    """Pods that run already: app-0, app-1, ..."""
    container = {"name": "server", "image": "server", "ports": [{"name": "http", "containerPort": port}]}
    ready = [{"type": "Ready", "status": "True"}]
    return [
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": f"{app}-{index}", "labels": {"app": app}},
            "spec": {"containers": [container]},
            "status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}], "conditions": ready},
        }
        for index, address in enumerate(addresses)
    ]


def _manifest(version: str, kind: str, name: str, spec: Manifest) -> Manifest:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name}, "spec": spec}
