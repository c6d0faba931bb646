"""Worlds in order whose objects change, come and go one after another.

`odd_worlds` has objects of every shape, of which few refer to one another; here every object is referred to, and has a
few forms, one of which is that it is not there. So whatever is remembered of one is put to the test by a change of it.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import product

from certificates import pair
from hypothesis import strategies as st

from resources import Delete, Object, Upsert, decode

GATEWAY_API = "gateway.networking.k8s.io/v1"
POOL_API = "inference.networking.k8s.io/v1"
X_API = "inference.networking.x-k8s.io/v1alpha2"
POLICY_API = "gateway.envoyproxy.io/v1alpha1"
TRAFFIC_API = "inferenceextension.alibabacloud.com/v1alpha1"
CONTROLLER = "example.com/gateway"

Json = Mapping[str, object]
Change = Upsert | Delete
Spec = Mapping[str, object]


def an_object(api: str, kind: str, name: str, **fields: object) -> Object:
    namespace, _, own = name.rpartition("/")
    metadata: dict[str, object] = {"name": own, **({"namespace": namespace} if namespace else {})}
    for field in ("labels", "annotations", "creationTimestamp"):
        if field in fields:
            metadata[field] = fields.pop(field)
    found = decode({"apiVersion": api, "kind": kind, "metadata": metadata, **fields}).object
    assert found is not None
    return found


def _classes() -> Iterator[Object]:
    for controller in (CONTROLLER, "example.com/other"):
        yield an_object(GATEWAY_API, "GatewayClass", "a", spec={"controllerName": controller})
    ref = {"group": "gateway.envoyproxy.io", "kind": "EnvoyProxy", "namespace": "default", "name": "proxy"}
    yield an_object(GATEWAY_API, "GatewayClass", "a", spec={"controllerName": CONTROLLER, "parametersRef": ref})


def _proxies() -> Iterator[Object]:
    for merged in (True, False):
        yield an_object(POLICY_API, "EnvoyProxy", "default/proxy", spec={"mergeGateways": merged})


def _listener(name: str, port: int = 80, hostname: str | None = None, takes: str = "Same", **more: object) -> Json:
    allowed: dict[str, object] = {"from": takes}
    if takes == "Selector":
        allowed["selector"] = {"matchLabels": {"team": "a"}}
    host = {"hostname": hostname} if hostname else {}
    return {"name": name, "port": port, "protocol": "HTTP", "allowedRoutes": {"namespaces": allowed}, **host, **more}


def _gateways(name: str) -> Iterator[Object]:
    tls = {"protocol": "HTTPS", "tls": {"certificateRefs": [{"name": "certificate"}]}}
    for listeners in (
        [_listener("all", takes="All"), _listener("wild", hostname="*.example.com", takes="Selector")],
        [_listener("all", takes="All"), _listener("wild", hostname="a.example.com", takes="All")],
        [_listener("all", takes="Selector"), _listener("more", port=8080, takes="All")],
        [_listener("all", 443, "*.example.com", "All", **tls), _listener("wild", 443, "a.example.com", "All", **tls)],
    ):
        yield an_object(GATEWAY_API, "Gateway", name, spec={"gatewayClassName": "a", "listeners": listeners})
    yield an_object(GATEWAY_API, "Gateway", name, spec={"gatewayClassName": "b", "listeners": [_listener("all")]})


_MODEL = {"headers": [{"name": "x-gateway-model-name", "value": "chat"}]}
_POOL = {"group": "inference.networking.k8s.io", "kind": "InferencePool", "name": "pool"}
_SERVICE = {"name": "server", "port": 80}
_MIRROR = {"type": "RequestMirror", "requestMirror": {"backendRef": {**_SERVICE, "namespace": "other"}}}
_RULES: Sequence[Json] = (
    {"backendRefs": [_SERVICE]},
    {"backendRefs": [{**_SERVICE, "namespace": "other", "weight": 3}, _SERVICE], "matches": [{"method": "POST"}]},
    {"name": "named", "backendRefs": [_POOL], "matches": [_MODEL, {"path": {"value": "/v1"}}]},
    {"backendRefs": [{**_POOL, "namespace": "other"}, _POOL], "timeouts": {"request": "1s"}},
    {"backendRefs": [_POOL], "filters": [_MIRROR]},
    {"filters": [{"type": "RequestRedirect", "requestRedirect": {"scheme": "https"}}]},
    {"backendRefs": [_SERVICE], "retry": {"attempts": 1}},
)
_HOSTNAMES: Sequence[Sequence[str]] = ((), ("a.example.com",), ("*.example.com", "a.example.com"), ("b.example.com",))
_TO_ALL = {"name": "gateway", "namespace": "default"}


def _routes(name: str, shift: int) -> Iterator[Object]:
    parents: Sequence[Sequence[Json]] = (
        [_TO_ALL],
        [{**_TO_ALL, "sectionName": "all"}, {**_TO_ALL, "sectionName": "wild"}],
        [_TO_ALL, {"name": "gateway", "namespace": "other"}],
    )
    forms = [*product(parents, _HOSTNAMES, _RULES)]
    for number in range(shift, len(forms), 5):
        refs, hostnames, rule = forms[number]
        rules = [rule, {"backendRefs": [_SERVICE], "matches": [{"path": {"type": "Exact", "value": f"/{name}"}}]}]
        spec = {"parentRefs": refs, "hostnames": hostnames, "rules": rules[: 1 + number % 2]}
        born = {"creationTimestamp": f"2025-01-0{number % 3 + 1}T00:00:00Z"} if number % 4 else {}
        yield an_object(GATEWAY_API, "HTTPRoute", name, spec=spec, **born)


def _services(name: str, **labels: str) -> Iterator[Object]:
    for port in ({"port": 80}, {"port": 80, "appProtocol": "kubernetes.io/h2c"}, {"port": 8080}):
        yield an_object("v1", "Service", name, labels=labels, spec={"ports": [{**port, "name": "http"}]})
    yield an_object("v1", "Service", name, spec={"type": "ExternalName", "externalName": "a.org"})


def _pickers() -> Iterator[Object]:
    ports = [{"name": "grpc", "port": 9002, "appProtocol": "kubernetes.io/h2c"}]
    for labels in ({}, {"pointsman.dev/picker": "true"}):
        yield an_object("v1", "Service", "default/picker", labels=labels, spec={"ports": ports})


def _slices(service: str, name: str) -> Iterator[Object]:
    for addresses in (("10.0.0.1",), ("10.0.0.1", "10.0.0.2"), ()):
        yield an_object(
            "discovery.k8s.io/v1",
            "EndpointSlice",
            f"default/{service}-1",
            labels={"kubernetes.io/service-name": service},
            addressType="IPv4",
            ports=[{"name": name, "port": 8000}],
            endpoints=[{"addresses": [each], "targetRef": {"kind": "Pod", "name": "pod"}} for each in addresses],
        )


def _pods(name: str, address: str) -> Iterator[Object]:
    for ready, labels in (("True", {"app": "a"}), ("False", {"app": "a"}), ("True", {"app": "a", "role": "prefill"})):
        status = {"podIP": address, "conditions": [{"type": "Ready", "status": ready}]}
        told = {"annotations": {"pointsman.dev/plaintext": "true"}} if ready == "False" else {}
        yield an_object("v1", "Pod", name, labels=labels, status=status, **told)


def _pools(name: str) -> Iterator[Object]:
    spec: Json = {"selector": {"matchLabels": {"app": "a"}}, "targetPorts": [{"number": 8000}]}
    picker = {"name": "picker", "port": {"number": 9002}}
    yield an_object(POOL_API, "InferencePool", name, spec=spec)
    for mode in ("FailOpen", "FailClose"):
        asked = {**spec, "endpointPickerRef": {**picker, "failureMode": mode}}
        hint = {"annotations": {"pointsman.dev/subset-hint": "true"}}
        yield an_object(POOL_API, "InferencePool", name, spec=asked, **(hint if mode == "FailOpen" else {}))
    prefix = {"inference.networking.x-k8s.io/routing-strategy": "PREFIX_CACHE"}
    yield an_object(POOL_API, "InferencePool", name, spec=spec, annotations=prefix)


def _grants() -> Iterator[Object]:
    source = [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "namespace": "default"}]
    service, pool = {"group": "", "kind": "Service"}, {"group": POOL_API.partition("/")[0], "kind": "InferencePool"}
    for to in ([service], [pool], [service, pool], [{**service, "name": "another"}]):
        yield an_object(GATEWAY_API + "beta1", "ReferenceGrant", "other/grant", spec={"from": source, "to": to})


def _backend_policies() -> Iterator[Object]:
    for target in (
        {"kind": "HTTPRoute", "name": "a"},
        {"kind": "HTTPRoute", "name": "a", "sectionName": "named"},
        {"kind": "Gateway", "name": "gateway"},
        {"kind": "Gateway", "name": "gateway", "sectionName": "wild"},
    ):
        refs = {"targetRefs": [{"group": "gateway.networking.k8s.io", **target}]}
        timeout = {"timeout": {"http": {"requestTimeout": "7s"}}}
        yield an_object(POLICY_API, "BackendTrafficPolicy", "default/policy", spec={**refs, **timeout})
        yield an_object(POLICY_API, "BackendTrafficPolicy", "default/policy", spec={**refs, "retry": {}})


def _client_policies() -> Iterator[Object]:
    refs = {"targetRefs": [{"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "gateway"}]}
    for more in ({"connection": {"bufferLimit": "1Mi"}}, {"connection": {"bufferLimit": "2Mi"}}, {"http3": {}}):
        yield an_object(POLICY_API, "ClientTrafficPolicy", "default/client", spec={**refs, **more})


def _declarations() -> Iterator[Object]:
    ref = {"name": "pool", "group": POOL_API.partition("/")[0]}
    for more in ({}, {"targetModels": [{"name": "chat-2"}]}):
        yield an_object(X_API, "InferenceModel", "default/chat", spec={"modelName": "chat", "poolRef": ref, **more})


def _traffic() -> Iterator[Object]:
    split = {"pd": {"pdRoleLabelName": "role", "kvTransfer": {"bootstrapPort": 8998}}}
    for profile in ({}, split):
        spec = {"poolRef": {"name": "pool"}, "modelServerRuntime": "sglang", "profile": profile}
        yield an_object(TRAFFIC_API, "InferenceTrafficPolicy", "default/traffic", spec=spec)


def _namespaces() -> Iterator[Object]:
    for labels in ({"team": "a"}, {"team": "b"}):
        yield an_object("v1", "Namespace", "other", labels=labels)


def _certificates() -> Iterator[Object]:
    for name in ("a.example.com", "b.example.com"):
        made = {**pair(name).secret("certificate", "default"), "type": "kubernetes.io/tls"}
        found = decode(made).object
        assert found is not None
        yield found


FORMS: Sequence[Sequence[Object]] = [
    list(each)
    for each in (
        _classes(),
        _proxies(),
        _gateways("default/gateway"),
        _gateways("other/gateway"),
        _routes("default/a", 0),
        _routes("default/b", 1),
        _routes("default/c", 2),
        _routes("other/d", 3),
        _services("default/server"),
        _services("other/server"),
        _pickers(),
        _slices("server", "http"),
        _slices("picker", "grpc"),
        _pods("default/pod", "10.0.0.1"),
        _pods("default/pod-2", "10.0.0.2"),
        _pools("default/pool"),
        _pools("other/pool"),
        _grants(),
        _backend_policies(),
        _client_policies(),
        _declarations(),
        _traffic(),
        _namespaces(),
        _certificates(),
    )
]
"""The forms of each object, the first one of which makes sense beside all other first ones."""

changes: st.SearchStrategy[Change] = st.sampled_from(FORMS).flatmap(
    lambda forms: st.sampled_from([*map(Upsert, forms), Delete(forms[0].key)])
)
histories: st.SearchStrategy[list[list[Change]]] = st.lists(
    st.lists(changes, min_size=1, max_size=2), min_size=4, max_size=16
).map(lambda batches: [[Upsert(forms[0]) for forms in FORMS], *batches])
"""Batches of changes, the first of which makes a world that is in order."""
