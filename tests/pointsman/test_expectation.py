from pathlib import Path

from pointsman.expectation import Case, cases
from resources import World
from sources import FolderSource

BASE = """
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: gw}
spec:
  gatewayClassName: c
  listeners: [{name: http, protocol: HTTP, port: 8080%s}]
---
apiVersion: inference.networking.x-k8s.io/v1alpha2
kind: InferencePool
metadata: {name: one}
spec: {selector: {app: one}, targetPortNumber: 8000, extensionRef: {name: x}}
---
apiVersion: inference.networking.k8s.io/v1
kind: InferencePool
metadata: {name: two}
spec:
  selector: {matchLabels: {app: two}}
  targetPorts: [{number: 8000}]
---
{apiVersion: v1, kind: Pod, metadata: {name: pod-one, labels: {app: one, more: x}}, spec: {containers: []}}
---
{apiVersion: v1, kind: Pod, metadata: {name: pod-two, labels: {app: two}}, spec: {containers: []}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: chat}
spec:
  parentRefs: [{name: gw}]
"""
MATCH = "{name: X-Gateway-Model-Name, value: %s}"


def found(tmp_path: Path, route: str, listener: str = "") -> list[Case]:
    (tmp_path / "all.yaml").write_text(BASE % listener + route)
    reading = FolderSource([tmp_path]).read()
    assert reading.problems == ()
    return list(cases(World().apply(reading.changes)))


def summary(case: Case) -> tuple[str, str, list[str]]:
    return case.model, case.rule, sorted(case.pods)


def test_each_model_leads_to_the_pods_of_its_rules_pool(tmp_path: Path) -> None:
    route = f"""
  rules:
  - matches: [{{headers: [{MATCH % "a"}]}}]
    backendRefs: [{{group: inference.networking.x-k8s.io, kind: InferencePool, name: one}}]
  - matches: [{{headers: [{MATCH % "b"}]}}]
    backendRefs: [{{group: inference.networking.k8s.io, kind: InferencePool, name: two}}]
"""
    assert [summary(case) for case in found(tmp_path, route)] == [
        ("a", "default/chat rule 0", ["pod-one"]),
        ("b", "default/chat rule 1", ["pod-two"]),
    ]


def test_weighted_pools_may_all_serve(tmp_path: Path) -> None:
    route = f"""
  rules:
  - matches: [{{headers: [{MATCH % "a"}]}}]
    backendRefs:
    - {{group: inference.networking.x-k8s.io, kind: InferencePool, name: one, weight: 9}}
    - {{group: inference.networking.k8s.io, kind: InferencePool, name: two, weight: 1}}
"""
    (case,) = found(tmp_path, route)
    assert sorted(case.pods) == ["pod-one", "pod-two"]
    assert sorted(case.pools) == ["default/one", "default/two"]


def test_the_longer_path_wins(tmp_path: Path) -> None:
    route = f"""
  rules:
  - matches: [{{headers: [{MATCH % "a"}]}}]
    backendRefs: [{{group: inference.networking.x-k8s.io, kind: InferencePool, name: one}}]
  - matches: [{{path: {{value: /v1}}, headers: [{MATCH % "a"}]}}]
    backendRefs: [{{group: inference.networking.k8s.io, kind: InferencePool, name: two}}]
"""
    assert [summary(case) for case in found(tmp_path, route)] == [("a", "default/chat rule 1", ["pod-two"])]


def test_a_rule_without_a_model_is_asked_for_the_declared_ones(tmp_path: Path) -> None:
    route = """
  rules:
  - backendRefs: [{group: inference.networking.x-k8s.io, kind: InferencePool, name: one}]
---
apiVersion: inference.networking.x-k8s.io/v1alpha2
kind: InferenceModel
metadata: {name: m}
spec: {modelName: declared, poolRef: {name: one}}
"""
    assert [summary(case) for case in found(tmp_path, route)] == [("declared", "default/chat rule 0", ["pod-one"])]


def test_the_host_is_one_that_listener_and_route_serve(tmp_path: Path) -> None:
    route = f"""
  hostnames: ["*.example.com", other.org]
  rules:
  - matches: [{{headers: [{MATCH % "a"}, {{name: x-team, value: blue}}]}}]
    backendRefs: [{{group: inference.networking.x-k8s.io, kind: InferencePool, name: one}}]
"""
    (case,) = found(tmp_path, route, ', hostname: "llm.example.com"')
    assert case.host == "llm.example.com"
    assert case.headers == (("x-team", "blue"),)


def test_what_a_service_may_serve_is_not_asked(tmp_path: Path) -> None:
    route = f"""
  rules:
  - matches: [{{headers: [{MATCH % "a"}]}}]
    backendRefs:
    - {{group: inference.networking.x-k8s.io, kind: InferencePool, name: one}}
    - {{name: service, port: 80}}
"""
    assert found(tmp_path, route) == []


def test_what_no_chat_completion_can_match_is_not_asked(tmp_path: Path) -> None:
    route = f"""
  rules:
  - matches:
    - {{path: {{type: Exact, value: /v1/embeddings}}, headers: [{MATCH % "a"}]}}
    - {{method: GET, headers: [{MATCH % "a"}]}}
    backendRefs: [{{group: inference.networking.x-k8s.io, kind: InferencePool, name: one}}]
"""
    assert found(tmp_path, route) == []
