"""What a user's manifests mean for requests, whatever the configuration looks like that brings it about."""

import json
from functools import cache

import pytest
from manifests import translation_of
from traffic import Outcome, Request, send

from translators import ModelFinder, Settings, Translation

GATEWAY = """
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: gw}
spec:
  gatewayClassName: any
  listeners:
    - {name: any, port: 8080, protocol: HTTP}
    - {name: wild, port: 8080, protocol: HTTP, hostname: '*.example.com'}
    - {name: own, port: 8080, protocol: HTTP, hostname: own.example.com}
"""
BACKENDS = """
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: files}
spec: {ports: [{port: 80}]}
---
apiVersion: inference.networking.x-k8s.io/v1alpha2
kind: InferencePool
metadata: {name: qwen}
spec: {selector: {app: qwen}, targetPortNumber: 8000}
---
apiVersion: inference.networking.x-k8s.io/v1alpha2
kind: InferencePool
metadata: {name: deepseek}
spec: {selector: {app: deepseek}, targetPortNumber: 8000}
---
apiVersion: inference.networking.x-k8s.io/v1alpha2
kind: InferenceModel
metadata: {name: lora}
spec: {modelName: lora, poolRef: {name: qwen}, targetModels: [{name: lora-v1}]}
"""

WEB, FILES = "service/default/web/80", "service/default/files/80"
QWEN, DEEPSEEK = "xinferencepool/default/qwen", "xinferencepool/default/deepseek"

_REFS = {
    "web": "{name: web, port: 80}",
    "files": "{name: files, port: 80}",
    "missing": "{name: missing, port: 80}",
    "qwen": "{group: inference.networking.x-k8s.io, kind: InferencePool, name: qwen}",
    "deepseek": "{group: inference.networking.x-k8s.io, kind: InferencePool, name: deepseek}",
}


@cache
def gateway(*rules: str, hostnames: str = "", finder: ModelFinder = "lua") -> Translation:
    """Translate rules: "MATCH -> BACKEND", where a match is YAML without its outer braces and may be empty."""
    lines = []
    for rule in rules:
        match, _, backend = rule.partition("->")
        filters = ", filters: [{type: ExternalAuth}]" if "unbuilt" in backend else ""
        name = backend.replace("unbuilt", "").strip()
        lines.append(f"    - {{matches: [{{{match.strip()}}}], backendRefs: [{_REFS[name]}]{filters}}}")
    route = "\n".join(
        [
            "apiVersion: gateway.networking.k8s.io/v1",
            "kind: HTTPRoute",
            "metadata: {name: route}",
            "spec:",
            "  parentRefs: [{name: gw}]",
            f"  hostnames: [{hostnames}]",
            "  rules:",
            *lines,
        ]
    )
    return translation_of(GATEWAY, BACKENDS, route, settings=Settings(model_finder=finder))


def model(name: str) -> str:
    return f"headers: [{{name: X-Gateway-Model-Name, value: {name}}}]"


def path(prefix: str) -> str:
    return f"path: {{value: {prefix}}}"


def chat(name: object, at: str = "/v1/chat/completions", **more: str) -> Request:
    return Request("POST", at, body={"messages": [], "model": name}, headers=more)


MODELS = (f"{model('qwen')} -> qwen", f"{model('deepseek-r1')} -> deepseek")


@pytest.mark.parametrize("finder", ["lua", "ai_protocol_manager"])
class TestChoosingByTheModel:
    def test_the_body_says_which_pool(self, finder: ModelFinder) -> None:
        assert send(gateway(*MODELS, finder=finder), chat("qwen")).answer == QWEN
        assert send(gateway(*MODELS, finder=finder), chat("deepseek-r1")).answer == DEEPSEEK

    def test_a_model_that_no_route_serves_is_404(self, finder: ModelFinder) -> None:
        assert send(gateway(*MODELS, finder=finder), chat("gpt-4")).answer == "404"

    def test_the_clients_own_header_steers_nothing(self, finder: ModelFinder) -> None:
        table = gateway(*MODELS, finder=finder)
        assert send(table, chat("qwen", **{"X-Gateway-Model-Name": "deepseek-r1"})).answer == QWEN
        assert send(table, Request("GET", "/", headers={"x-gateway-model-name": "qwen"})).answer == "404"

    def test_the_client_cannot_pretend_to_be_examined(self, finder: ModelFinder) -> None:
        forged = chat("gpt-4", **{"X-Pointsman-Examined": "1", "X-Gateway-Model-Name": "qwen"})
        assert send(gateway(*MODELS, finder=finder), forged).answer == "404"

    def test_a_body_without_a_model_is_400(self, finder: ModelFinder) -> None:
        assert send(gateway(*MODELS, finder=finder), Request("POST", "/v1/chat", body={"messages": []})).status == 400

    def test_a_model_with_control_characters_is_400(self, finder: ModelFinder) -> None:
        for name in ("a\x00b", "\n", "qwen\x7f", "a\x85b"):
            assert send(gateway(*MODELS, finder=finder), chat(name)).status == 400, name
        assert send(gateway(f"{model('qwén')} -> qwen", finder=finder), chat("qwén")).answer == QWEN

    def test_a_form_has_no_model(self, finder: ModelFinder) -> None:
        upload = Request("POST", "/", headers={"content-type": "Multipart/form-data"}, body={"model": "qwen"})
        assert send(gateway(*MODELS, finder=finder), upload).status == 400
        assert send(gateway(*MODELS, " -> web", finder=finder), upload).answer == WEB

    def test_a_path_rule_of_higher_precedence_takes_its_requests_unexamined(self, finder: ModelFinder) -> None:
        table = gateway(f"{path('/v1')}, {model('qwen')} -> qwen", f"{path('/v1/files')} -> files", finder=finder)
        taken = send(table, chat("qwen", "/v1/files"))
        assert (taken.answer, taken.examined) == (FILES, False)
        assert send(table, chat("qwen", "/v1/chat")).answer == QWEN

    def test_a_path_rule_of_lower_precedence_takes_other_models(self, finder: ModelFinder) -> None:
        table = gateway(f"{path('/v1')}, {model('qwen')} -> qwen", f"{path('/v1')} -> web", finder=finder)
        assert send(table, chat("qwen", "/v1/chat")).answer == QWEN
        assert send(table, chat("gpt-4", "/v1/chat")).answer == WEB

    def test_what_only_rules_without_a_model_can_take_is_not_examined(self, finder: ModelFinder) -> None:
        table = gateway(f"{path('/v1')}, method: POST, {model('qwen')} -> qwen", " -> web", finder=finder)
        for request in (Request("POST", "/upload", body=b"\x00"), Request("GET", "/v1/chat")):
            outcome = send(table, request)
            assert (outcome.answer, outcome.examined) == (WEB, False)

    def test_rules_with_other_conditions_examine_for_themselves(self, finder: ModelFinder) -> None:
        gold = "headers: [{name: x-gateway-model-name, value: qwen}, {name: x-tenant, value: gold}]"
        table = gateway(f"{gold} -> deepseek", f"{model('qwen')} -> qwen", finder=finder)
        assert send(table, chat("qwen", **{"X-Tenant": "gold"})).answer == DEEPSEEK
        assert send(table, chat("qwen")).answer == QWEN

    def test_a_model_may_be_matched_by_an_expression(self, finder: ModelFinder) -> None:
        lora = "headers: [{name: X-Gateway-Model-Name, type: RegularExpression, value: 'lora-.*'}]"
        table = gateway(f"{lora} -> qwen", f"{model('lora-2')} -> deepseek", finder=finder)
        assert send(table, chat("lora-1")).answer == QWEN
        assert send(table, chat("my-lora-1")).answer == "404"

    def test_a_rule_that_cannot_be_done_answers_500_for_its_model_only(self, finder: ModelFinder) -> None:
        table = gateway(f"{model('qwen')} -> web unbuilt", MODELS[1], finder=finder)
        assert send(table, chat("qwen")).answer == "500"
        assert send(table, chat("deepseek-r1")).answer == DEEPSEEK


def test_a_body_that_is_no_json_is_400() -> None:
    assert send(gateway(*MODELS), Request("POST", "/v1/chat", body=b"{")).status == 400


def test_a_model_that_is_no_string_is_400() -> None:
    for name in (None, 7, "", ["qwen"], {"a": 1}, True):
        assert send(gateway(*MODELS), chat(name)).status == 400, name


class TestPrecedence:
    def test_an_exact_path_wins_over_an_expression_and_that_over_a_prefix(self) -> None:
        table = gateway(
            f"{path('/v1/chat')} -> web",
            "path: {type: RegularExpression, value: '/v1/.*'} -> files",
            "path: {type: Exact, value: /v1/chat} -> qwen",
        )
        assert send(table, Request("GET", "/v1/chat")).answer == QWEN
        assert send(table, Request("GET", "/v1/chat/more")).answer == FILES

    def test_a_longer_prefix_wins(self) -> None:
        table = gateway(" -> web", f"{path('/a/b')} -> files", f"{path('/a')} -> qwen")
        assert send(table, Request("GET", "/a/b/c")).answer == FILES
        assert send(table, Request("GET", "/a/bc")).answer == QWEN
        assert send(table, Request("GET", "/ab")).answer == WEB

    def test_a_trailing_slash_of_a_prefix_means_nothing(self) -> None:
        table = gateway(f"{path('/a/')} -> files")
        assert send(table, Request("GET", "/a")).answer == FILES
        assert send(table, Request("GET", "/ab")).answer == "404"

    def test_then_the_method_counts_then_headers_then_query_parameters(self) -> None:
        headers = "headers: [{name: a, value: '1'}, {name: b, value: '1'}]"
        query = "queryParams: [{name: a, value: '1'}, {name: b, value: '1'}, {name: c, value: '1'}]"
        table = gateway(f"{query} -> web", f"{headers} -> files", "method: GET -> qwen", " -> deepseek")
        full = Request("GET", "/", headers={"A": "1", "B": "1"}, query={"a": "1", "b": "1", "c": "1"})
        assert send(table, full).answer == QWEN
        assert send(table, Request("PUT", "/", headers=full.headers, query=full.query)).answer == FILES
        assert send(table, Request("PUT", "/", query=full.query)).answer == WEB
        assert send(table, Request("PUT", "/")).answer == DEEPSEEK

    def test_of_equal_matches_the_first_rule_wins(self) -> None:
        assert send(gateway(" -> web", " -> files"), Request("GET", "/")).answer == WEB


class TestHostnames:
    def test_a_route_with_hostnames_serves_no_other(self) -> None:
        table = gateway(" -> web", hostnames="a.example.com, '*.org'")
        assert send(table, Request("GET", "/", host="a.example.com")).answer == WEB
        assert send(table, Request("GET", "/", host="x.y.org")).answer == WEB
        for host in ("b.example.com", "org", "any.test"):
            assert send(table, Request("GET", "/", host=host)).answer == "404"

    def test_a_route_without_hostnames_serves_all_of_its_listeners(self) -> None:
        for host in ("own.example.com", "a.example.com", "any.test"):
            assert send(gateway(" -> web"), Request("GET", "/", host=host)).answer == WEB

    def test_a_route_that_names_the_host_wins_over_one_with_a_wildcard_whatever_the_paths(self) -> None:
        wild = route_on("wild", "'*.example.com'", "path: {type: Exact, value: /deep/path}", "web")
        whole = route_on("whole", "own.example.com", "", "files")
        table = translation_of(GATEWAY, BACKENDS, wild, whole)
        assert send(table, Request("GET", "/deep/path", host="own.example.com")).answer == FILES
        assert send(table, Request("GET", "/deep/path", host="a.example.com")).answer == WEB

    def test_a_request_belongs_to_the_listener_with_the_most_specific_hostname(self) -> None:
        table = translation_of(GATEWAY, BACKENDS, route_on("wild", "", "", "web", section="wild"))
        assert send(table, Request("GET", "/", host="a.example.com")).answer == WEB
        assert send(table, Request("GET", "/", host="own.example.com")).answer == "404"
        assert send(table, Request("GET", "/", host="any.test")).answer == "404"


def route_on(name: str, hostnames: str, match: str, backend: str, section: str = "") -> str:
    parent = f"{{name: gw, sectionName: {section}}}" if section else "{name: gw}"
    return (
        f"{{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {{name: {name}}}, spec: {{"
        f"parentRefs: [{parent}], hostnames: [{hostnames}], "
        f"rules: [{{matches: [{{{match}}}], backendRefs: [{_REFS[backend]}]}}]}}}}"
    )


class TestListOfModels:
    def ids(self, outcome: Outcome) -> list[str]:
        return [each["id"] for each in json.loads(outcome.body)["data"]]

    LIST = Request("GET", "/v1/models")

    def test_it_names_the_models_that_routes_ask_for_and_those_of_pools(self) -> None:
        outcome = send(gateway(*MODELS, f"{path('/pool')} -> qwen"), self.LIST)
        assert (outcome.status, self.ids(outcome)) == (200, ["deepseek-r1", "lora", "qwen"])

    def test_a_rule_to_a_pool_gives_the_path_to_the_list(self) -> None:
        for match in (path("/v1"), "", "path: {type: Exact, value: /v1/models}", "method: GET"):
            assert self.ids(send(gateway(f"{match} -> qwen"), self.LIST)) == ["lora"]

    def test_a_rule_to_a_pool_by_an_expression_does_too(self) -> None:
        table = gateway("path: {type: RegularExpression, value: '/v1/.*'} -> qwen")
        assert self.ids(send(table, self.LIST)) == ["lora"]
        assert send(table, Request("GET", "/v1/files")).answer == QWEN

    def test_a_rule_to_a_service_keeps_the_path(self) -> None:
        assert send(gateway(f"{path('/v1')} -> web", *MODELS), self.LIST).answer == WEB
        assert send(gateway(f"{path('/v1/models')} -> web", " -> qwen"), self.LIST).answer == WEB

    def test_the_list_stands_under_the_conditions_of_the_rule(self) -> None:
        table = gateway("queryParams: [{name: a, value: '1'}] -> qwen", " -> web")
        assert send(table, Request("GET", "/v1/models", query={"a": "1"})).status == 200
        assert send(table, self.LIST).answer == WEB

    def test_other_methods_and_paths_go_to_the_pool(self) -> None:
        assert send(gateway(" -> qwen"), Request("POST", "/v1/models")).answer == QWEN
        assert send(gateway(" -> qwen"), Request("GET", "/v1/models/lora")).answer == QWEN

    def test_a_rule_that_cannot_be_done_answers_500_here_too(self) -> None:
        assert send(gateway(" -> qwen unbuilt"), self.LIST).answer == "500"


class TestBackends:
    def test_a_missing_backend_answers_500_for_its_rule_only(self) -> None:
        table = gateway(f"{path('/a')} -> missing", " -> web")
        assert send(table, Request("GET", "/a")).answer == "500"
        assert send(table, Request("GET", "/b")).answer == WEB

    def test_a_missing_backend_keeps_its_share(self) -> None:
        shares = (
            "{name: web, port: 80, weight: 7}, {name: missing, port: 80, weight: 3}, {name: files, port: 80, weight: 0}"
        )
        table = translation_of(GATEWAY, BACKENDS, route_on("a", "", "", "web").replace(_REFS["web"], shares))
        outcome = send(table, Request("GET", "/"))
        assert outcome.clusters == {WEB: 7, "nowhere": 3}
        assert outcome.action
        assert outcome.action.route
        assert outcome.action.route.cluster_not_found_response_code.name == "INTERNAL_SERVER_ERROR"
