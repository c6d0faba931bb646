"""Worlds made of plausible and of broken objects, for properties that hold for all of them.

Names are few, so that objects refer to, shadow and conflict with one another; values are of the kind that decodes but
means trouble.
"""

from collections.abc import Mapping
from functools import cache
from typing import TypeAlias

from certificates import Pair, pair
from hypothesis import strategies as st

from resources import KINDS, DecodeError, Delete, Key, Object, Upsert, World, decode

Document: TypeAlias = Mapping[str, object]
Change: TypeAlias = Upsert | Delete

GATEWAY_API = "gateway.networking.k8s.io/v1"
POOL_API = "inference.networking.k8s.io/v1"
X_API = "inference.networking.x-k8s.io/v1alpha2"
LLM_D_API = "llm-d.ai/v1alpha2"
TRAFFIC_API = "inferenceextension.alibabacloud.com/v1alpha1"
POLICY_API = "gateway.envoyproxy.io/v1alpha1"

names = st.sampled_from(["a", "a", "a", "b"])
many_names = st.sampled_from(["a", "b", "c", "d", "e"])
namespaces = st.sampled_from(["default"] * 9 + ["other"])
ports = st.sampled_from([80, 80, 8080])
words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=5)
hostnames = st.sampled_from(
    ["a.example.com", "b.example.com", "*.example.com", "x.a.example.com", "*.a.example.com", "example.com", "a.org"]
)
expressions = st.one_of(
    st.sampled_from(["", ".*", "/v1/.*", "a|b", "(", "(?=a)", "[", "a{1001}", "*", r"\d+", r"\C", "é", "(?i)A", "$^"]),
    words,
)
durations = st.sampled_from(["0s", "1ms", "10s", "24h", "99999h"])
times = st.sampled_from([None, None, "2025-01-01T00:00:00Z", "2025-02-01T00:00:00Z"])
labels = st.one_of(
    st.dictionaries(st.sampled_from(["app", "tier"]), st.sampled_from(["a", "b"]), max_size=2),
    st.just({"app": "a", "pointsman.dev/picker": "true"}),
)
some_labels = st.dictionaries(st.sampled_from(["app", "tier"]), st.sampled_from(["a", "b"]), min_size=1, max_size=2)
groups = st.sampled_from(["gateway.networking.k8s.io", "", POOL_API.partition("/")[0], X_API.partition("/")[0]])


_OMITTED = object()


def rarely(each: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    """Draw a field that is mostly left out, since it breaks much."""
    return st.integers(0, 9).flatmap(lambda drawn: each if drawn == 7 else st.just(_OMITTED))


def record(required: Mapping[str, object], **optional: st.SearchStrategy[object]) -> st.SearchStrategy[Document]:
    """Draw a mapping with these fields, of which the optional ones may be left out."""
    fixed = {key: value if isinstance(value, st.SearchStrategy) else st.just(value) for key, value in required.items()}
    drawn = st.fixed_dictionaries(fixed, optional={name.rstrip("_"): each for name, each in optional.items()})
    return drawn.map(lambda fields: {name: value for name, value in fields.items() if value is not _OMITTED})


pool_groups = st.sampled_from([POOL_API.partition("/")[0], X_API.partition("/")[0]])


def lists(each: st.SearchStrategy[Document], least: int = 0, most: int = 3) -> st.SearchStrategy[list[Document]]:
    return st.lists(each, min_size=least, max_size=most)


annotations = record(
    {},
    **{
        "inference.networking.x-k8s.io/model-server-runtime": rarely(st.sampled_from(["sglang", "TGI", "", "abacus"])),
        "inference.networking.x-k8s.io/routing-strategy": rarely(st.sampled_from(["DEFAULT", "PREFIX_CACHE", "é"])),
        "pointsman.dev/unlisted-models": rarely(st.sampled_from(["refuse", "serve", "perhaps"])),
    },
)


def an_object(api: str, kind: str, spec: st.SearchStrategy[Document], **more: object) -> st.SearchStrategy[Document]:
    own = many_names if kind in {"HTTPRoute", "InferenceModel"} else names
    metadata = record(
        {"name": own, "namespace": namespaces, "labels": labels, "creationTimestamp": times},
        annotations=annotations if kind == "InferencePool" else rarely(annotations),
    )
    return record({"apiVersion": api, "kind": kind, "metadata": metadata, "spec": spec, **more})


parameters = record(
    {"name": names},
    group=st.just(POLICY_API.partition("/")[0]),
    kind=st.sampled_from(["EnvoyProxy"] * 4 + ["ConfigMap"]),
).map(lambda ref: {"group": "", "kind": "EnvoyProxy", **ref})
gateway_classes = an_object(
    GATEWAY_API,
    "GatewayClass",
    record(
        {"controllerName": "example.com/gateway"},
        parametersRef=rarely(parameters.map(lambda ref: {**ref, "namespace": "default"})),
    ),
)
proxies = an_object(
    POLICY_API,
    "EnvoyProxy",
    record(
        {}, concurrency=st.just(2), bootstrap=rarely(st.just({"value": ""})), mergeGateways=rarely(st.just(value=True))
    ),
)
namespace_objects = record(
    {"apiVersion": "v1", "kind": "Namespace", "metadata": record({"name": namespaces, "labels": labels})}
)
allowed = record(
    {},
    namespaces=record({}, from_=st.sampled_from(["All", "Same", "Selector"]), selector=record({"matchLabels": labels})),
    kinds=lists(record({"kind": st.sampled_from(["HTTPRoute", "GRPCRoute"])}), most=2),
)
certificate_refs = st.lists(
    record({"name": names}, namespace=rarely(namespaces), kind=rarely(st.just("ConfigMap"))), max_size=2
)
plain_listeners = record(
    {"name": many_names, "port": ports, "protocol": st.sampled_from(["HTTP"] * 9 + ["TCP"])},
    hostname=hostnames,
    allowedRoutes=rarely(allowed),
)
secure_listeners = record(
    {
        "name": many_names,
        "port": st.sampled_from([443, 443, 443, 80]),
        "protocol": st.just("HTTPS"),
        "tls": record({"certificateRefs": certificate_refs}, options=rarely(st.just({"a.org/b": "c"}))),
    },
    hostname=hostnames,
    allowedRoutes=rarely(allowed),
)
listeners = st.one_of(plain_listeners, plain_listeners, secure_listeners)
_PAIRS = [pair("a.example.com"), pair("b.example.com"), Pair(b"Hello", b"Hello")]
_PAIRS.append(Pair(_PAIRS[0].chain, _PAIRS[1].key))
secrets = st.builds(
    lambda name, namespace, made, kind: {**made.secret(name, namespace), "type": kind},
    names,
    namespaces,
    st.sampled_from(_PAIRS),
    st.sampled_from(["kubernetes.io/tls"] * 5 + ["Opaque"]),
)
gateways = an_object(
    GATEWAY_API,
    "Gateway",
    record(
        {
            "gatewayClassName": st.just("a"),
            "listeners": st.lists(listeners, min_size=1, max_size=3, unique_by=lambda each: str(each["name"])),
        },
        backendTLS=rarely(st.just({})),
        infrastructure=rarely(record({"parametersRef": parameters})),
    ),
)
parents = record(
    {"name": names},
    sectionName=rarely(st.sampled_from(["a", "b", "missing"])),
    namespace=rarely(namespaces),
    port=rarely(ports),
    kind=rarely(st.just("Service")),
)
matched_text = st.one_of(
    record({"type": "Exact", "value": words}), record({"type": "RegularExpression", "value": expressions})
)
header_names = st.sampled_from(["x-a", "X-A", "X-Gateway-Model-Name", "host", "content-type", "x-gateway-model-name"])


@cache
def named_text(kind: str) -> st.SearchStrategy[Document]:
    name = header_names if kind == "header" else st.sampled_from(["a", "A", "model"])
    return st.tuples(name, matched_text).map(lambda drawn: {"name": drawn[0], **drawn[1]})


paths = st.one_of(
    record(
        {
            "type": st.sampled_from(["Exact", "PathPrefix"]),
            "value": st.sampled_from(["/", "/v1", "/v1/", "/v1/models", "/v1/chat", "/%20", "/ä"]),
        }
    ),
    record({"type": "RegularExpression", "value": expressions}),
)
matches = record(
    {},
    path=paths,
    headers=lists(named_text("header")),
    queryParams=lists(named_text("query"), most=2),
    method=st.sampled_from(["GET", "POST"]),
)
weights = st.sampled_from([1, 2, 3, 0, 1_000_000])
unbuilt_filters = record({"type": st.sampled_from(["ExternalAuth", "Unheard"])})
odd_texts = st.sampled_from(["a", "100%", "%REQ(a)%", "é", "a b", "%", "a", "a", "a\r\nb"])
written = record({"name": st.sampled_from(["x-a", "X-A", "x-b", "x-a", "x-b", "host"]), "value": odd_texts})
header_changes = record(
    {"set": st.lists(written, max_size=2, unique_by=lambda each: str(each["name"]))},
    add=st.lists(written, max_size=2, unique_by=lambda each: str(each["name"])),
    remove=rarely(st.lists(st.sampled_from(["x-a", "X-B", "host", "a b", ""]), max_size=2, unique=True)),
)
header_filters = st.one_of(
    record({"type": "RequestHeaderModifier", "requestHeaderModifier": header_changes}),
    record({"type": "ResponseHeaderModifier", "responseHeaderModifier": header_changes}),
)
new_paths = st.sampled_from(["", "/", "/x", "/x/", "/50%25", "/x", "/x/y", "x", "/a?b", "/a\\1"])
path_changes = st.one_of(
    new_paths.map(lambda path: {"type": "ReplaceFullPath", "replaceFullPath": path}),
    new_paths.map(lambda path: {"type": "ReplacePrefixMatch", "replacePrefixMatch": path}),
)
redirect_filters = record(
    {
        "type": "RequestRedirect",
        "requestRedirect": record(
            {},
            scheme=st.sampled_from(["http", "https"]),
            hostname=st.just("a.org"),
            path=path_changes,
            port=ports,
            statusCode=st.sampled_from([301, 302, 303, 307, 308]),
        ),
    }
)
rewrite_filters = record(
    {"type": "URLRewrite", "urlRewrite": record({"path": path_changes}, hostname=st.just("a.org"))}
)
cors_filters = record(
    {
        "type": "CORS",
        "cors": record(
            {},
            allowOrigins=st.sampled_from([["*"], ["https://a.org", "http://*.b.org:80"], [f"https://*.{'long' * 30}"]]),
            allowMethods=st.sampled_from([["*"], ["GET"]]),
            exposeHeaders=st.sampled_from([["*"], ["x-a"]]),
            allowCredentials=st.booleans(),
        ),
    }
)
mirrored = st.one_of(
    record({"name": names, "port": ports}, namespace=rarely(namespaces)),
    record({"name": names, "kind": "InferencePool", "group": pool_groups}),
)
mirrors = record(
    {
        "type": "RequestMirror",
        "requestMirror": st.one_of(
            record({"backendRef": mirrored}, percent=st.sampled_from([0, 1, 100])),
            record(
                {"backendRef": mirrored},
                fraction=record(
                    {"numerator": st.sampled_from([0, 1, 3])}, denominator=st.sampled_from([3, 7, 2_000_000_000])
                ),
            ),
        ),
    }
)
built_filters = st.lists(
    st.one_of(header_filters, rewrite_filters, cors_filters, mirrors),
    min_size=1,
    max_size=3,
    unique_by=lambda each: str(each["type"]),
)
filters = lists(unbuilt_filters, most=1)
backend_refs = st.one_of(
    record(
        {"name": names, "port": ports},
        namespace=rarely(namespaces),
        weight=weights,
        filters=st.one_of(st.just([]), st.just([]), lists(header_filters, 1, 1), rarely(filters)),
    ),
    record(
        {"name": names, "kind": "InferencePool", "group": pool_groups},
        namespace=rarely(namespaces),
        weight=weights,
    ),
    record({"name": names, "kind": st.sampled_from(["Bucket", "InferencePool"]), "group": groups}),
)
rules = record(
    {"backendRefs": st.one_of(lists(backend_refs, 1), lists(backend_refs, 1), st.just([]))},
    name=names,
    matches=lists(matches),
    filters=st.one_of(st.just([]), st.just([]), lists(mirrors), built_filters, rarely(filters)),
    timeouts=record({}, request=durations, backendRequest=durations),
    retry=rarely(st.just({"attempts": 1})),
)
routes = an_object(
    GATEWAY_API,
    "HTTPRoute",
    record({"parentRefs": lists(parents, 1, 1), "rules": lists(rules, 1)}, hostnames=st.lists(hostnames, max_size=2)),
)
grants = an_object(
    "gateway.networking.k8s.io/v1beta1",
    "ReferenceGrant",
    record(
        {
            "from": lists(
                record(
                    {
                        "group": "gateway.networking.k8s.io",
                        "kind": st.sampled_from(["HTTPRoute", "Gateway"]),
                        "namespace": namespaces,
                    }
                ),
                1,
                2,
            ),
            "to": lists(
                record({"group": groups, "kind": st.sampled_from(["Service", "InferencePool", "Secret"])}, name=names),
                1,
                2,
            ),
        }
    ),
)
services = an_object(
    "v1",
    "Service",
    record(
        {
            "ports": lists(
                record(
                    {"port": ports},
                    name=names,
                    protocol=rarely(st.just("UDP")),
                    appProtocol=st.just("kubernetes.io/h2c"),
                )
            )
        },
        type=rarely(st.just("ExternalName")),
    ),
)
_SOUND_SERVICE: Document = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "a"},
    "spec": {"ports": [{"name": "a", "port": 80}, {"name": "b", "port": 8080, "appProtocol": "kubernetes.io/h2c"}]},
}
addresses = st.sampled_from(["10.0.0.1", "10.0.0.2", "fd00::1"])
slices = record(
    {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": record({"name": names, "labels": record({"kubernetes.io/service-name": names})}),
        "addressType": st.sampled_from(["IPv4", "IPv6", "FQDN"]),
    },
    ports=lists(record({}, name=names, port=ports), most=2),
    endpoints=lists(
        record(
            {"addresses": st.lists(addresses, min_size=1, max_size=2)},
            conditions=record({}, ready=st.booleans()),
            targetRef=record({"kind": "Pod", "name": names}),
        )
    ),
)
pods = record(
    {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": record(
            {"name": names, "namespace": namespaces, "labels": labels},
            annotations=record(
                {},
                **{
                    "inference.networking.k8s.io/active-ports": st.sampled_from(["80", "8080,80", "", "80,80,x"]),
                    "pointsman.dev/listening-ports": st.sampled_from(
                        ["8080=5000", "80=1,8080=x", "8080=99999999999", "="]
                    ),
                },
            ),
            deletionTimestamp=st.just("2025-01-01T00:00:00Z"),
        ),
        "status": record(
            {"conditions": lists(record({"type": "Ready", "status": st.sampled_from(["True", "True", "False"])}))},
            podIP=addresses,
        ),
    }
)
picker_refs = record(
    {"name": st.sampled_from(["picker"] * 9 + ["a"])},
    kind=rarely(st.just("Oracle")),
    failureMode=st.sampled_from(["FailOpen", "FailClose"]),
)
pools = an_object(
    POOL_API,
    "InferencePool",
    record(
        {
            "selector": record({"matchLabels": some_labels}),
            "targetPorts": st.lists(ports, min_size=1, max_size=2, unique=True).map(
                lambda numbers: [{"number": number} for number in numbers]
            ),
        },
        endpointPickerRef=picker_refs.map(lambda ref: {**ref, "port": {"number": 9002}}),
        appProtocol=rarely(st.just("kubernetes.io/h2c")),
    ),
)
x_pools = an_object(
    X_API,
    "InferencePool",
    record({"selector": some_labels, "targetPortNumber": ports}, extensionRef=picker_refs),
)
models = an_object(
    X_API,
    "InferenceModel",
    record(
        {"modelName": st.one_of(names, words), "poolRef": record({"name": names}, group=groups)},
        criticality=st.sampled_from(["Critical", "Sheddable"]),
        targetModels=lists(record({"name": st.one_of(names, words)})),
    ),
)
stable_refs = record({"name": names}, group=rarely(groups))
objectives = an_object(
    X_API, "InferenceObjective", record({"poolRef": stable_refs}, priority=st.sampled_from([-1, 0, 1 << 30]))
)
rewrites = an_object(
    X_API,
    "InferenceModelRewrite",
    record(
        {
            "poolRef": stable_refs,
            "rules": lists(
                record(
                    {"targets": lists(record({"modelRewrite": st.one_of(names, words)}), 1)},
                    matches=lists(record({"model": record({"value": st.one_of(names, words)})})),
                )
            ),
        }
    ),
)


def in_both_groups(each: st.SearchStrategy[Document]) -> st.SearchStrategy[Document]:
    return st.tuples(each, st.sampled_from([X_API, LLM_D_API])).map(lambda drawn: {**drawn[0], "apiVersion": drawn[1]})


traffic_policies = an_object(
    TRAFFIC_API,
    "InferenceTrafficPolicy",
    record(
        {"poolRef": record({"name": names}, group=rarely(groups))},
        modelServerRuntime=st.sampled_from(["sglang", "sglang", "SGLang", "vllm", "?"]),
        profile=record(
            {},
            pd=record(
                {"pdRoleLabelName": st.sampled_from(["app", "tier"])},
                trafficPolicy=record({}, prefixCache=record({}, mode=st.sampled_from(["estimate", "?"]))),
                prefillPolicyRef=st.sampled_from(["prefixCache", "?"]),
                decodePolicyRef=st.sampled_from(["prefixCache", "?"]),
                kvTransfer=record({"bootstrapPort": ports}),
            ),
        ),
    ),
)
declarations = st.one_of(models, in_both_groups(objectives), in_both_groups(rewrites), traffic_policies)
targets = record({"kind": st.sampled_from(["Gateway", "HTTPRoute", "Service"]), "name": names}, sectionName=names)
client_policies = an_object(
    POLICY_API,
    "ClientTrafficPolicy",
    record(
        {"targetRefs": lists(targets)},
        connection=record({}, bufferLimit=st.sampled_from(["0", "1", "20Mi", "4Gi", "8Ei", 1.0])),
        tls=rarely(st.just({})),
    ),
)
backend_policies = an_object(
    POLICY_API,
    "BackendTrafficPolicy",
    record(
        {"targetRefs": lists(targets)},
        timeout=record({}, http=record({}, requestTimeout=durations)),
        retry=rarely(st.just({})),
        targetSelectors=rarely(st.just([{"kind": "Gateway"}])),
    ),
)

documents: st.SearchStrategy[Document] = st.one_of(
    gateways, gateways, routes, routes, routes, services, services, slices, pods, pools, x_pools, declarations, proxies,
    client_policies, backend_policies, grants, gateway_classes, namespace_objects, secrets,
)  # fmt: skip


def _decoded(document: Document) -> Object | None:
    try:
        return decode(document).object
    except DecodeError:
        return None


def _objects(of: st.SearchStrategy[Document], least: int, most: int) -> st.SearchStrategy[list[Object]]:
    """Draw the objects of some documents; those that do not decode are left out."""
    return st.lists(of, min_size=least, max_size=most).map(
        lambda drawn: [found for each in drawn if (found := _decoded(each)) is not None]
    )


some_objects: st.SearchStrategy[list[Object]] = st.tuples(
    _objects(gateways, 1, 2),
    _objects(routes, 1, 5),
    _objects(services, 1, 2),
    _objects(secrets, 0, 2),
    _objects(st.one_of(pools, x_pools), 1, 3),
    _objects(declarations, 0, 3),
    _objects(st.one_of(pods, slices), 0, 3),
    _objects(documents, 0, 5),
).map(lambda drawn: [each for group in drawn for each in group])
"""Objects of which some belong together, in an order that ends where their importance does."""

keys: st.SearchStrategy[Key] = st.builds(
    lambda kind, namespace, name: Key(kind.GROUP, kind.KIND, namespace if kind.NAMESPACED else "", name),
    st.sampled_from(list(KINDS.values())),
    namespaces,
    names,
)
changes: st.SearchStrategy[list[Change]] = st.tuples(
    some_objects.map(lambda found: [Upsert(each) for each in found]),
    st.lists(keys.map(Delete), max_size=4),
).map(lambda drawn: [*drawn[0], *drawn[1]])
few_changes: st.SearchStrategy[list[Change]] = st.tuples(
    _objects(documents, 0, 3).map(lambda found: [Upsert(each) for each in found]),
    st.lists(keys.map(Delete), max_size=2),
).map(lambda drawn: [*drawn[0], *drawn[1]])
pod_changes: st.SearchStrategy[list[Change]] = _objects(st.one_of(pods, slices), 0, 4).map(
    lambda found: [Upsert(each) for each in found]
)
histories: st.SearchStrategy[list[list[Change]]] = st.tuples(
    changes, st.lists(few_changes, min_size=1, max_size=3)
).map(lambda drawn: [drawn[0], *drawn[1]])
"""Batches of changes, the first of which makes a world."""
worlds: st.SearchStrategy[World] = changes.map(World().apply)


def _sound(rules: list[Document]) -> World:
    """Make a world in which nothing but these rules can be wrong; each is a route of its own."""
    listener = {"name": "a", "port": 80, "protocol": "HTTP"}
    spec = {"gatewayClassName": "a", "listeners": [listener]}
    gateway = {"apiVersion": GATEWAY_API, "kind": "Gateway", "metadata": {"name": "a"}, "spec": spec}
    routes = [
        {
            "apiVersion": GATEWAY_API,
            "kind": "HTTPRoute",
            "metadata": {"name": f"a-{number}"},
            "spec": {"parentRefs": [{"name": "a"}], "rules": [rule]},
        }
        for number, rule in enumerate(rules)
    ]
    made = [gateway, _SOUND_SERVICE, *routes]
    return World().apply(Upsert(found) for each in made if (found := _decoded(each)) is not None)


sound_refs = record(
    {"name": "a", "port": st.sampled_from([80, 8080])}, weight=weights, filters=lists(header_filters, most=1)
)
prefixes = st.sampled_from(["/", "/v1", "/v1/", "/%20", f"/{'long' * 200}"])
one_match = prefixes.map(lambda prefix: [{"path": {"value": prefix}}])
filtered_rules = record({"backendRefs": lists(sound_refs, 1), "filters": built_filters, "matches": one_match})
redirecting_rules = record({"filters": st.tuples(redirect_filters).map(list), "matches": one_match})
worlds_of_filters: st.SearchStrategy[World] = lists(
    st.one_of(filtered_rules, filtered_rules, redirecting_rules), 1
).map(_sound)
"""Worlds of rules that have filters; large worlds have few that are in order otherwise."""
