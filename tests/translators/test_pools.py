"""What a pool means: when its picker needs the bodies, which models it has, and who may pick for it."""

import pytest
from manifests import translation_of

from protos.pointsman.picker.v1 import pool_pb2
from translators import Translation, ir

CODE = ir.StringMatch("x-gateway-model-name", "Exact", "code")
ANY = ir.StringMatch("x-gateway-model-name", "RegularExpression", ".*")


def pool(
    strategy: ir.Strategy = "default",
    unlisted: ir.Unlisted = "standard",
    models: tuple[ir.Model, ...] = (),
    rewrites: tuple[ir.Rewrite, ...] = (),
) -> ir.Pool:
    return ir.Pool(
        "ns/p", "c", "o", fail_open=False, strategy=strategy, unlisted=unlisted, models=models, rewrites=rewrites
    )


def rewrite(target: str, *models: str) -> ir.Rewrite:
    return ir.Rewrite(models, (ir.Target(target, 1),))


@pytest.mark.parametrize(
    ("which", "without", "by_name", "by_expression"),
    [
        (pool(), False, False, False),
        (pool(strategy="prefix cache"), True, True, True),
        (pool(unlisted="refused"), True, False, False),
        (pool(rewrites=(rewrite("code-v1", "code"),)), True, True, True),
        (pool(rewrites=(rewrite("chat-v1", "chat"),)), True, False, True),
        (pool(rewrites=(rewrite("fallback"),)), True, True, True),
        # The first that applies leaves the name as it is.
        (pool(rewrites=(rewrite("code", "code"), rewrite("fallback"))), True, False, True),
        (pool(models=(ir.Model("code", "Standard", ()),)), True, False, False),
        (pool(models=(ir.Model("code", "Standard", (ir.Target("code-v1", 1),)),)), True, True, True),
    ],
)
def test_the_picker_sees_the_bodies_where_it_needs_them(
    which: ir.Pool, *, without: bool, by_name: bool, by_expression: bool
) -> None:
    assert (which.wants_body(None), which.wants_body(CODE), which.wants_body(ANY)) == (without, by_name, by_expression)


GATEWAY = """
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: gw}
spec: {gatewayClassName: any, listeners: [{name: http, port: 8080, protocol: HTTP}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: route}
spec:
  parentRefs: [{name: gw}]
  rules: [{backendRefs: [{group: GROUP, kind: InferencePool, name: p}]}]
"""
STABLE, EXPERIMENTAL = "inference.networking.k8s.io", "inference.networking.x-k8s.io"
V1 = """
apiVersion: inference.networking.k8s.io/v1
kind: InferencePool
metadata: {name: p}
spec:
  selector: {matchLabels: {app: a}}
  targetPorts: [{number: 8000}]
  endpointPickerRef: {name: picker, port: {number: 9002}}
"""
V1ALPHA2 = """
apiVersion: inference.networking.x-k8s.io/v1alpha2
kind: InferencePool
metadata: {name: p}
spec: {selector: {app: a}, targetPortNumber: 8000, extensionRef: {name: picker}}
"""
SERVICE = "{apiVersion: v1, kind: Service, metadata: {name: picker, labels: {LABELS}}, spec: {ports: [{port: 9002}]}}"
OURS = "pointsman.dev/picker: 'true'"


def to_pool(group: str, *texts: str) -> Translation:
    return translation_of(GATEWAY.replace("GROUP", group), *texts)


def picked_by_us(translation: Translation) -> list[str]:
    pools = [each for each in translation.gateways["default/gw"] if isinstance(each.message, pool_pb2.Pool)]
    return [each.name for each in pools if each.type_url.endswith(".Pool")]


def conditions(translation: Translation, group: str) -> dict[str, str]:
    status = next(each for each in translation.statuses if (each.key.group, each.key.kind) == (group, "InferencePool"))
    parents = status.body["parents" if group == STABLE else "parent"]
    assert isinstance(parents, list)
    assert [parent["parentRef"]["name"] for parent in parents] == ["gw"]
    return {each["type"]: each["reason"] for each in parents[0]["conditions"] if each["status"] == "False"}


def test_a_v1alpha2_pool_whose_picker_does_not_exist_is_ours() -> None:
    found = to_pool(EXPERIMENTAL, V1ALPHA2)
    assert (picked_by_us(found), conditions(found, EXPERIMENTAL)) == (["default/p"], {})


def test_a_v1_pool_whose_picker_does_not_exist_is_broken() -> None:
    found = to_pool(STABLE, V1)
    assert (picked_by_us(found), conditions(found, STABLE)) == ([], {"ResolvedRefs": "InvalidExtensionRef"})


@pytest.mark.parametrize(("group", "manifest"), [(STABLE, V1), (EXPERIMENTAL, V1ALPHA2)])
def test_a_service_with_our_label_means_our_own_picker(group: str, manifest: str) -> None:
    found = to_pool(group, manifest, SERVICE.replace("LABELS", OURS))
    assert (picked_by_us(found), conditions(found, group)) == (["default/p"], {})


@pytest.mark.parametrize("labels", ["", "pointsman.dev/picker: 'false'"])
@pytest.mark.parametrize(("group", "manifest"), [(STABLE, V1), (EXPERIMENTAL, V1ALPHA2)])
def test_any_other_service_is_not_ours(group: str, manifest: str, labels: str) -> None:
    assert picked_by_us(to_pool(group, manifest, SERVICE.replace("LABELS", labels))) == []
