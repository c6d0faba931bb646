"""What documents decode to, and how a wrong one is told of."""

import contextlib
import io
from collections.abc import Mapping
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.pretty import Pretty

from resources import (
    BackendTrafficPolicy,
    ClientTrafficPolicy,
    DecodeError,
    Deployment,
    Duration,
    EndpointSlice,
    Gateway,
    GatewayClass,
    HTTPPathMatch,
    HTTPRoute,
    HTTPRouteMatch,
    InferenceModel,
    InferencePool,
    Key,
    Namespace,
    Object,
    Pod,
    ReferenceGrant,
    Secret,
    Service,
    Upsert,
    World,
    XInferencePool,
    decode,
)

T = TypeVar("T", bound=Object)
Document = dict[str, Any]

GATEWAY_API = "gateway.networking.k8s.io/v1"
X_INFERENCE = "inference.networking.x-k8s.io/v1alpha2"
ENVOY_GATEWAY = "gateway.envoyproxy.io/v1alpha1"


def document(api_version: str, kind: str, spec: Mapping[str, object] | None = None, **metadata: object) -> Document:
    result: Document = {"apiVersion": api_version, "kind": kind, "metadata": {"name": "it", **metadata}}
    return result if spec is None else {**result, "spec": spec}


def route(*rules: Mapping[str, object], **spec: object) -> Document:
    return document(GATEWAY_API, "HTTPRoute", {**spec, "rules": list(rules)})


def secret(**fields: object) -> Document:
    return {**document("v1", "Secret"), "type": "kubernetes.io/tls", **fields}


TO_A = {"name": "a", "port": 1}


def mirrored(mirror: Document, kind: str = "RequestMirror") -> Document:
    return {"rules": [{"filters": [{"type": kind, "requestMirror": mirror}]}]}


def gateway(*listeners: Mapping[str, object], **spec: object) -> Document:
    return document(GATEWAY_API, "Gateway", {"gatewayClassName": "c", "listeners": list(listeners), **spec})


def decoded(kind: type[T], source: Document) -> T:
    found = decode(source).object
    assert isinstance(found, kind)
    return found


def refusal(source: Mapping[str, object]) -> str:
    with pytest.raises(DecodeError) as caught:
        decode(source)
    return str(caught.value)


HTTP = {"name": "http", "port": 80, "protocol": "HTTP"}
B = {"name": "b"}
POOL = {"name": "pool", "group": "inference.networking.k8s.io", "kind": "InferencePool"}


class TestIdentity:
    def test_a_namespaced_object_without_a_namespace_is_in_default(self) -> None:
        found = decoded(HTTPRoute, route())
        assert found.metadata.namespace == "default"
        assert found.key == Key("gateway.networking.k8s.io", "HTTPRoute", "default", "it")
        assert str(found.key) == "HTTPRoute default/it"

    def test_a_cluster_scoped_object_has_no_namespace(self) -> None:
        spec = {"controllerName": "example.com/c"}
        found = decoded(GatewayClass, document(GATEWAY_API, "GatewayClass", spec, namespace="left-over"))
        assert found.metadata.namespace is None
        assert str(found.key) == "GatewayClass it"

    def test_the_two_groups_of_pools_are_two_kinds(self) -> None:
        old = {"selector": {"app": "x"}, "targetPortNumber": 8000}
        new = {"selector": {"matchLabels": {"app": "x"}}, "targetPorts": [{"number": 8000}]}
        experimental = decoded(XInferencePool, document(X_INFERENCE, "InferencePool", old))
        stable = decoded(InferencePool, document("inference.networking.k8s.io/v1", "InferencePool", new))
        assert experimental.key != stable.key

    def test_both_versions_of_a_kind_are_one_kind(self) -> None:
        beta = {**route(), "apiVersion": "gateway.networking.k8s.io/v1beta1"}
        assert decode(beta) == decode(route())

    def test_equal_objects_hash_alike(self) -> None:
        one, two = (decoded(HTTPRoute, route({"backendRefs": [POOL]})) for _ in range(2))
        assert one == two
        assert hash(one) == hash(two)
        assert hash(one.spec) == hash(two.spec)


class TestRefusals:
    def test_object_and_field_are_named(self) -> None:
        wrong = route({"backendRefs": [{"name": "a", "port": 80}, {"name": "b", "port": "http"}]})
        assert refusal(wrong) == "HTTPRoute default/it: spec.rules[0].backendRefs[1].port: expected int, got str"

    @pytest.mark.parametrize(
        ("source", "complaint"),
        [
            ({}, "object: apiVersion: required"),
            ({"apiVersion": "v1"}, "object: kind: required"),
            ({"apiVersion": 1, "kind": "Service"}, "Service: apiVersion: expected str, got int"),
            ({"apiVersion": "v1", "kind": []}, "object: kind: expected str, got array"),
            ({"apiVersion": "v1", "kind": "Service"}, "Service: metadata: required"),
            ({"apiVersion": "v1", "kind": "Service", "metadata": 3}, "Service: metadata: expected object, got int"),
            ({"apiVersion": "v1", "kind": "Service", "metadata": {}}, "Service: metadata.name: required"),
            (document("v1", "Service", name="Chat"), "Service Chat: metadata.name: expected a DNS name"),
            (document("v1", "Service", name="chat\n"), "metadata.name: expected a DNS name"),
            (document("v1", "Service", name=7), "Service: metadata.name: expected str, got int"),
            (document("v1", "Service", namespace="a.b"), "metadata.namespace: expected a DNS label"),
            (document("v1", "Service", labels={"a": "b", "c.d/e": 1}), "metadata.labels[c.d/e]: expected str, got int"),
            (document("v1", "Service", creationTimestamp="soon"), "metadata.creationTimestamp: invalid RFC3339"),
            (document(GATEWAY_API, "HTTPRoute"), "HTTPRoute default/it: spec: required"),
            (document(f"{GATEWAY_API}alpha2", "HTTPRoute", {}), "apiVersion: HTTPRoute is read in version"),
        ],
    )
    def test_envelope(self, source: Document, complaint: str) -> None:
        assert complaint in refusal(source)

    @pytest.mark.parametrize(
        ("rule", "complaint"),
        [
            ({"matches": [{"path": {"value": "v1"}}]}, "matches[0].path.value: must start with '/'"),
            ({"matches": [{"path": {"value": "/a//b"}}]}, "matches[0].path.value: must not contain '//'"),
            ({"matches": [{"path": {"value": "/a/.."}}]}, "matches[0].path.value: must not end with '/..'"),
            (
                {"matches": [{"path": {"type": "Glob"}}]},
                "matches[0].path.type: expected one of Exact, PathPrefix,",
            ),
            (
                {"matches": [{"path": {"value": "/" + "a" * 1024}}]},
                "matches[0].path.value: expected str of length <= 1024",
            ),
            (
                {"matches": [{"headers": [{"name": "a b", "value": "c"}]}]},
                "matches[0].headers[0].name: expected a header",
            ),
            ({"matches": [{"headers": [{"name": "a", "value": ""}]}]}, "matches[0].headers[0].value: expected str of"),
            ({"matches": [{"headers": [{"value": "c"}]}]}, "matches[0].headers[0].name: required"),
            ({"matches": [{"method": "get"}]}, "matches[0].method: expected one of CONNECT,"),
            ({"matches": [{}] * 65}, "matches: expected array of length <= 64"),
            ({"backendRefs": [{"name": "a"}]}, "backendRefs[0].port: is required when the backend is a Service"),
            ({"backendRefs": [{"name": "a", "port": 0}]}, "backendRefs[0].port: expected int >= 1"),
            ({"backendRefs": [{**POOL, "weight": -1}]}, "backendRefs[0].weight: expected int >= 0"),
            ({"backendRefs": [{**POOL, "weight": True}]}, "backendRefs[0].weight: expected int, got bool"),
            ({"backendRefs": [POOL] * 17}, "backendRefs: expected array of length <= 16"),
            ({"backendRefs": [None]}, "backendRefs[0]: expected object, got null"),
            ({"timeouts": {"request": "1d"}}, "timeouts.request: expected a duration like 1h30m or 500ms, got '1d'"),
            ({"timeouts": {"request": 5}}, "timeouts.request: expected a duration like 1h30m, got int"),
            (
                {"timeouts": {"request": "1s", "backendRequest": "2s"}},
                "timeouts.backendRequest: must not be longer",
            ),
            ({"filters": [{}]}, "filters[0].type: required"),
        ],
    )
    def test_rules_of_a_route(self, rule: Document, complaint: str) -> None:
        assert refusal(route(rule)).startswith(f"HTTPRoute default/it: spec.rules[0].{complaint}")

    @pytest.mark.parametrize(
        ("spec", "complaint"),
        [
            ({"hostnames": ["Example.com"]}, "spec.hostnames[0]: expected a lower-case DNS name"),
            ({"hostnames": ["a.*.com"]}, "spec.hostnames[0]: expected a lower-case DNS name"),
            ({"parentRefs": [{"name": "g"}, {"name": "g"}]}, "spec.parentRefs[1]: two references to one parent need"),
            ({"parentRefs": [{"name": "g", "sectionName": "a"}] * 2}, "spec.parentRefs[1]: the same section"),
            ({"rules": [{"name": "a"}, {"name": "a"}]}, "spec.rules[0].name: rule name 'a' is used twice"),
            ({"rules": [{"matches": [{}] * 60}] * 3}, "spec.rules: more than 128 matches in one route"),
            (mirrored({}), "filters[0].requestMirror.backendRef: required"),
            (mirrored({"backendRef": {"name": "a"}}), "backendRef.port: is required when the backend is a Service"),
            (mirrored({"backendRef": TO_A, "percent": 101}), "requestMirror.percent: expected int <= 100"),
            (
                mirrored({"backendRef": TO_A, "percent": 1, "fraction": {"numerator": 1}}),
                "requestMirror.fraction: only",
            ),
            (
                mirrored({"backendRef": TO_A, "fraction": {"numerator": 2, "denominator": 1}}),
                "fraction.numerator: must",
            ),
            (
                mirrored({"backendRef": TO_A}, "ExternalAuth"),
                "filters[0].requestMirror: must be set if the type is Req",
            ),
            ({"rules": [{"filters": [{"type": "RequestMirror"}]}]}, "filters[0].requestMirror: must be set if"),
            ({"rules": [{}] * 17}, "spec.rules: expected array of length <= 16"),
        ],
    )
    def test_routes(self, spec: Document, complaint: str) -> None:
        assert complaint in refusal(document(GATEWAY_API, "HTTPRoute", spec))

    @pytest.mark.parametrize(
        ("listeners", "complaint"),
        [
            ([], "spec.listeners: expected array of length >= 1"),
            ([HTTP, {**HTTP, "port": 81}], "spec.listeners[0].name: listener name 'http' is used twice"),
            ([HTTP, {**HTTP, "name": "b"}], "spec.listeners[0]: another listener has the same port"),
            ([{**HTTP, "port": 70000}], "spec.listeners[0].port: expected int <= 65535"),
            ([{**HTTP, "protocol": "TCP", "hostname": "a.b"}], "listeners[0].hostname: protocol TCP has no hostnames"),
            ([{**HTTP, "allowedRoutes": {"namespaces": {"from": "Some"}}}], "expected one of All, Same, Selector"),
            ([{"port": 80, "protocol": "HTTP"}], "spec.listeners[0].name: required"),
        ],
    )
    def test_gateways(self, listeners: list[Document], complaint: str) -> None:
        assert complaint in refusal(gateway(*listeners))

    @pytest.mark.parametrize(
        ("api_version", "kind", "spec", "complaint"),
        [
            (X_INFERENCE, "InferencePool", {"selector": {"a": "b"}}, "spec.targetPortNumber: required"),
            (X_INFERENCE, "InferencePool", {"selector": {}, "targetPortNumber": 1}, "object of length >= 1"),
            (
                X_INFERENCE,
                "InferencePool",
                {"selector": {"-": ""}, "targetPortNumber": 1},
                "key: expected a label",
            ),
            (
                "inference.networking.k8s.io/v1",
                "InferencePool",
                {"selector": {"matchLabels": {"a": "b"}}, "targetPorts": [{"number": 1}, {"number": 1}]},
                "spec.targetPorts: port numbers must differ",
            ),
            (
                "inference.networking.k8s.io/v1",
                "InferencePool",
                {
                    "selector": {"matchLabels": {"a": "b"}},
                    "targetPorts": [{"number": 1}],
                    "endpointPickerRef": {"name": "x"},
                },
                "spec.endpointPickerRef.port: is required when kind is Service",
            ),
            (X_INFERENCE, "InferenceModel", {"poolRef": {"name": "p"}}, "spec.modelName: required"),
            (
                X_INFERENCE,
                "InferenceModel",
                {
                    "modelName": "m",
                    "poolRef": {"name": "p"},
                    "targetModels": [{"name": "a", "weight": 1}, {"name": "b"}],
                },
                "spec.targetModels: weights must be set for all target models or for none",
            ),
            (
                X_INFERENCE,
                "InferenceModel",
                {"modelName": "m", "poolRef": {"name": "p"}, "criticality": "critical"},
                "spec.criticality: expected one of Critical, Sheddable, Standard; got 'critical'",
            ),
            (
                ENVOY_GATEWAY,
                "ClientTrafficPolicy",
                {"connection": {"bufferLimit": "20MB"}},
                "spec.connection.bufferLimit: expected a quantity like 20Mi, got '20MB'",
            ),
            (
                ENVOY_GATEWAY,
                "BackendTrafficPolicy",
                {"targetRef": {"kind": "Gateway", "name": "a"}, "targetRefs": [{"kind": "Gateway", "name": "a"}]},
                "spec.targetRefs: only one of targetRef and targetRefs may be set",
            ),
        ],
    )
    def test_other_kinds(self, api_version: str, kind: str, spec: Document, complaint: str) -> None:
        assert complaint in refusal(document(api_version, kind, spec))

    def test_the_key_is_known_wherever_the_document_tells_it(self) -> None:
        with pytest.raises(DecodeError) as caught:
            decode(route({"matches": 3}))
        assert caught.value.key == Key("gateway.networking.k8s.io", "HTTPRoute", "default", "it")
        assert caught.value.steps == ("spec", "rules", 0, "matches")

    def test_the_key_is_unknown_where_the_name_is_wrong(self) -> None:
        with pytest.raises(DecodeError) as caught:
            decode(document("v1", "Service", name="It"))
        assert caught.value.key is None

    json = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=8,
    )

    @given(
        kind=st.sampled_from(["HTTPRoute", "Gateway", "ReferenceGrant"]),
        spec=st.fixed_dictionaries({}, optional={"rules": json, "parentRefs": json, "listeners": json, "from": json})
        | json,
        metadata=st.fixed_dictionaries({}, optional={"name": json, "labels": json, "namespace": json}) | json,
    )
    def test_no_document_does_worse_than_be_refused(self, kind: str, spec: object, metadata: object) -> None:
        with contextlib.suppress(DecodeError):
            decode({"apiVersion": GATEWAY_API, "kind": kind, "metadata": metadata, "spec": spec})


class TestDefaults:
    def test_a_rule_without_matches_takes_every_request(self) -> None:
        every = (HTTPRouteMatch(path=HTTPPathMatch(type="PathPrefix", value="/")),)
        rules: list[Document] = [
            {},
            {"matches": []},
            {"matches": None},
            {"matches": [{}]},
            {"matches": [{"path": None}]},
        ]
        for rule in rules:
            assert decoded(HTTPRoute, route(rule)).spec.rules[0].matches == every

    def test_a_route_without_rules_has_one(self) -> None:
        assert len(decoded(HTTPRoute, document(GATEWAY_API, "HTTPRoute", {})).spec.rules) == 1

    def test_references(self) -> None:
        spec = decoded(HTTPRoute, route({"backendRefs": [{"name": "a", "port": 1}]}, parentRefs=[{"name": "g"}])).spec
        parent, backend = spec.parent_refs[0], spec.rules[0].backend_refs[0]
        assert (parent.group, parent.kind, parent.namespace) == ("gateway.networking.k8s.io", "Gateway", None)
        assert (backend.group, backend.kind, backend.weight) == ("", "Service", 1)

    def test_listeners_take_routes_of_their_own_namespace(self) -> None:
        allowed = decoded(Gateway, gateway(HTTP)).spec.listeners[0].allowed_routes
        assert (allowed.namespaces.from_, allowed.kinds) == ("Same", ())

    def test_pickers_fail_closed(self) -> None:
        spec = {"selector": {"a": "b"}, "targetPortNumber": 8000, "extensionRef": {"name": "x"}}
        ref = decoded(XInferencePool, document(X_INFERENCE, "InferencePool", spec)).spec.extension_ref
        assert ref is not None
        assert (ref.group, ref.kind, ref.port_number, ref.failure_mode) == ("", "Service", 9002, "FailClose")

    def test_a_pool_may_go_without_a_picker(self) -> None:
        spec = {"selector": {"matchLabels": {"a": "b"}}, "targetPorts": [{"number": 8000}]}
        pool = decoded(InferencePool, document("inference.networking.k8s.io/v1", "InferencePool", spec))
        assert pool.spec.endpoint_picker_ref is None
        assert pool.spec.app_protocol == "http"

    def test_mirrors(self) -> None:
        to_pool: Document = {"backendRef": {"name": "b", "kind": "InferencePool"}, "fraction": {"numerator": 5}}
        mirrors: list[Document] = [{"backendRef": TO_A}, to_pool]
        rule = {"filters": [{"type": "RequestMirror", "requestMirror": each} for each in mirrors]}
        first, second = (each.request_mirror for each in decoded(HTTPRoute, route(rule)).spec.rules[0].filters)
        assert first
        assert (first.backend_ref.kind, first.percent, first.fraction) == ("Service", None, None)
        assert second
        assert second.fraction
        assert (second.fraction.numerator, second.fraction.denominator) == (5, 100)

    def test_models(self) -> None:
        spec = {"modelName": "m", "poolRef": {"name": "p"}}
        model = decoded(InferenceModel, document(X_INFERENCE, "InferenceModel", spec)).spec
        assert model.pool_ref.group == "inference.networking.x-k8s.io"
        assert (model.criticality, model.target_models) == (None, ())

    def test_a_service_port_targets_itself(self) -> None:
        spec = {"ports": [{"port": 80}, {"port": 81, "targetPort": "http"}, {"port": 82, "targetPort": 8000}]}
        service = decoded(Service, document("v1", "Service", spec))
        assert [port.target_port for port in service.spec.ports] == [80, "http", 8000]

    def test_null_is_absent(self) -> None:
        source = route({"timeouts": None, "retry": None}, hostnames=None)
        source["metadata"]["creationTimestamp"] = None
        assert decode(source) == decode(route({}))


class TestPolicies:
    def test_one_target_or_several(self) -> None:
        target = {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "g", "sectionName": "http"}
        one = decoded(ClientTrafficPolicy, document(ENVOY_GATEWAY, "ClientTrafficPolicy", {"targetRef": target}))
        many = decoded(ClientTrafficPolicy, document(ENVOY_GATEWAY, "ClientTrafficPolicy", {"targetRefs": [target]}))
        assert one.spec.targets == many.spec.targets
        assert one.spec.targets[0].section_name == "http"

    def test_values(self) -> None:
        limit = document(ENVOY_GATEWAY, "ClientTrafficPolicy", {"connection": {"bufferLimit": "20Mi"}})
        timeout = document(ENVOY_GATEWAY, "BackendTrafficPolicy", {"timeout": {"http": {"requestTimeout": "24h"}}})
        assert decoded(ClientTrafficPolicy, limit).spec.connection.buffer_limit == 20 * 2**20
        assert decoded(BackendTrafficPolicy, timeout).spec.timeout.http.request_timeout == Duration(86_400_000)


class TestUnbuiltAndIgnored:
    def test_a_known_field_that_is_not_built_is_recorded(self) -> None:
        rules: list[Document] = [
            {"retry": {"attempts": 3}},
            {"backendRefs": [{**POOL, "filters": [{"type": "ExternalAuth"}]}]},
        ]
        found = decode(route(*rules))
        assert found.object is not None
        assert found.object.unbuilt == ("spec.rules[0].retry", "spec.rules[1].backendRefs[0].filters[0]")
        assert found.ignored == ()

    def test_the_same_goes_for_policies(self) -> None:
        spec = {
            "circuitBreaker": {},
            "retry": {},
            "timeout": {"tcp": {}, "http": {"requestTimeout": "1s", "streamIdleTimeout": "1s"}},
        }
        found = decode(document(ENVOY_GATEWAY, "BackendTrafficPolicy", spec))
        assert found.object is not None
        assert set(found.object.unbuilt) == {
            "spec.circuitBreaker",
            "spec.retry",
            "spec.timeout.tcp",
            "spec.timeout.http.streamIdleTimeout",
        }

    def test_a_filter_is_recorded_unless_its_type_is_built(self) -> None:
        mirror = {"backendRef": {"name": "a", "port": 1}}
        rule = {"filters": [{"type": "RequestMirror", "requestMirror": mirror}, {"type": "Later"}]}
        found = decoded(HTTPRoute, route(rule))
        assert [each.type for each in found.spec.rules[0].filters] == ["RequestMirror", "Later"]
        assert found.unbuilt == ("spec.rules[0].filters[1]",)

    def test_unknown_fields_are_named(self) -> None:
        source = {**route({"colour": "red"}), "extra": 1, "status": {"parents": []}, "unbuilt": ["spec"]}
        source["metadata"]["resourceVersion"] = "1"
        found = decode(source)
        assert set(found.ignored) == {"spec.rules[0].colour", "extra", "unbuilt"}
        assert found.object is not None
        assert found.object.unbuilt == ()

    def test_unknown_kinds_are_named(self) -> None:
        found = decode(document(ENVOY_GATEWAY, "EnvoyPatchPolicy", {}))
        assert (found.object, found.ignored) == (None, ("kind EnvoyPatchPolicy of gateway.envoyproxy.io/v1alpha1",))

    def test_lenient_kinds_have_no_ignored_fields(self) -> None:
        spec = {"containers": [{"name": "a", "lifecycle": {"x": 1}}], "tolerations": []}
        assert decode(document("v1", "Pod", spec)).ignored == ()


class TestSecrets:
    def test_a_certificate_and_its_key_are_read_from_either_field(self) -> None:
        both = {"data": {"tls.crt": "QQ==", "tls.key": "Qg=="}}
        assert decoded(Secret, secret(**both)).data == {"tls.crt": b"A", "tls.key": b"B"}
        text = secret(data={"tls.crt": "QQ==", "tls.key": "eA=="}, stringData={"tls.key": "B"})
        assert decoded(Secret, text) == decoded(Secret, secret(**both))

    def test_a_certificate_needs_its_key(self) -> None:
        assert refusal(secret(data={"tls.crt": "QQ=="})) == (
            "Secret default/it: data: tls.key is required where the type is kubernetes.io/tls"
        )

    @pytest.mark.parametrize("field", ["data", "stringData"])
    def test_of_other_secrets_nothing_is_kept_or_judged(self, field: str) -> None:
        found = decoded(Secret, {**secret(), "type": "Opaque", field: {"token": ["hunter2"]}})
        assert (found.type, found.data, found.string_data) == ("Opaque", {}, {})

    def test_no_text_shows_what_a_secret_holds(self) -> None:
        found = decoded(Secret, secret(stringData={"tls.crt": "chain", "tls.key": "hunter2"}))
        console = Console(file=io.StringIO())
        console.print(found, Pretty(found), {"a": found})
        shown = f"{found} {found!r} {[found]} {World().apply([Upsert(found)])}" + str(console.file.getvalue())
        assert "hunter2" not in shown
        assert "68756e74657232" not in shown.lower()

    @pytest.mark.parametrize("value", ["hunter2!", 7, ["hunter2"], {"a": "hunter2"}])
    def test_no_complaint_quotes_what_a_secret_holds(self, value: object) -> None:
        assert "hunter2" not in refusal(secret(data={"tls.crt": "QQ==", "tls.key": value}))


class TestCore:
    def test_pod(self) -> None:
        source = document("v1", "Pod", {"containers": [{"name": "a", "ports": [{"containerPort": 8000}]}]})
        source["status"] = {
            "podIP": "10.0.0.1",
            "podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}],
            "conditions": [{"type": "Ready", "status": "True"}],
        }
        pod = decoded(Pod, source)
        assert pod.addresses == ("10.0.0.1", "fd00::1")
        assert pod.ready
        source["metadata"]["deletionTimestamp"] = "2025-01-01T00:00:00Z"
        assert not decoded(Pod, source).ready

    def test_a_pod_of_which_nothing_but_its_address_is_said_is_ready(self) -> None:
        pod = document("v1", "Pod")
        assert not decoded(Pod, pod).ready
        assert decoded(Pod, {**pod, "status": {"podIP": "10.0.0.1"}}).ready
        starting = {"podIP": "10.0.0.1", "conditions": [{"type": "PodScheduled", "status": "True"}]}
        assert not decoded(Pod, {**pod, "status": starting}).ready

    def test_deployment(self) -> None:
        container = {
            "name": "server",
            "command": ["sh", "-c", "vllm serve x"],
            "env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}],
            "readinessProbe": {"tcpSocket": {"port": 8000}},
        }
        template = {"metadata": {"labels": {"app": "x"}}, "spec": {"containers": [container]}}
        spec = decoded(Deployment, document("apps/v1", "Deployment", {"template": template})).spec
        assert spec.replicas == 1
        assert spec.template.metadata.labels == {"app": "x"}
        assert spec.template.spec.containers[0].command == ("sh", "-c", "vllm serve x")
        probe = spec.template.spec.containers[0].readiness_probe
        assert probe is not None
        assert probe.tcp_socket is not None
        assert probe.tcp_socket.port == 8000

    def test_endpoint_slice(self) -> None:
        source = document("discovery.k8s.io/v1", "EndpointSlice")
        source |= {"addressType": "IPv4", "endpoints": [{"addresses": ["1.2.3.4"]}], "ports": [{"port": 80}]}
        found = decoded(EndpointSlice, source)
        assert found.endpoints[0].conditions.ready is None
        assert found.ports[0].port == 80

    def test_namespace_and_grant(self) -> None:
        assert decoded(Namespace, document("v1", "Namespace", labels={"a": "b"})).metadata.labels == {"a": "b"}
        spec = {"from": [{"group": "", "kind": "A", "namespace": "x"}], "to": [{"group": "", "kind": "Service"}]}
        grant = decoded(ReferenceGrant, document("gateway.networking.k8s.io/v1beta1", "ReferenceGrant", spec))
        assert grant.spec.from_[0].namespace == "x"
        assert grant.spec.to[0].name is None

    def test_selectors(self) -> None:
        expression = {"key": "tier", "operator": "NotIn", "values": ["dev"]}
        namespaces = {"from": "Selector", "selector": {"matchLabels": {"a": "b"}, "matchExpressions": [expression]}}
        allowed = {"namespaces": namespaces}
        listener = decoded(Gateway, gateway({**HTTP, "allowedRoutes": allowed})).spec.listeners[0]
        selector = listener.allowed_routes.namespaces.selector
        assert selector is not None
        assert selector.matches({"a": "b"})
        assert not selector.matches({"a": "b", "tier": "dev"})
        assert not selector.matches({})


@pytest.mark.parametrize("value", ["/a?b", "/a b", "/ä", "/a%zz", "/a\n"])
def test_a_path_holds_the_characters_of_a_path_only(value: str) -> None:
    said = refusal(route({"matches": [{"path": {"type": "Exact", "value": value}}]}))
    assert "spec.rules[0].matches[0].path.value: must be a path" in said


def test_text_that_is_no_unicode_is_refused() -> None:
    said = refusal(route({"matches": [{"headers": [{"name": "a", "value": "\ud800"}]}]}))
    assert said.endswith("spec.rules[0].matches[0].headers[0].value: is no valid Unicode text")


def test_addresses_are_ip_addresses() -> None:
    pod = {**document("v1", "Pod"), "status": {"podIP": "nowhere"}}
    assert refusal(pod).endswith("status.podIP: expected an IP address, got 'nowhere'")
    endpoints = {
        **document("discovery.k8s.io/v1", "EndpointSlice"),
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.0.0.300"]}],
    }
    assert refusal(endpoints).endswith("endpoints[0].addresses[0]: expected an IP address, got '10.0.0.300'")
