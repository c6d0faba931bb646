"""What a real API server makes of `pointsman crds`."""

import copy
import json
import sys
from collections.abc import Callable
from pathlib import Path

import flat_yaml
import kinds
import pytest
import scenarios
import yaml
from minikluster.cluster import Cluster
from minikluster.manifest import Manifest

from resources.crds import definitions

NewCluster = Callable[[str], Cluster]

_CRDS = [sys.executable, "-P", "-m", "pointsman", "crds"]
_NAMES = sorted(each["metadata"]["name"] for each in definitions())
_FLAT = 3
"""The scenario whose text has lost its indentation."""

_POOL: Manifest = {
    "apiVersion": "inference.networking.k8s.io/v1",
    "kind": "InferencePool",
    "metadata": {"name": "pool"},
    "spec": {"selector": {"matchLabels": {"app": "server"}}, "targetPorts": [{"number": 8000}]},
}
_POLICY: Manifest = {
    "apiVersion": "gateway.envoyproxy.io/v1alpha1",
    "kind": "ClientTrafficPolicy",
    "metadata": {"name": "policy"},
    "spec": {"targetRef": {"kind": "Gateway", "name": "gateway"}},
}


def test_what_is_missing_is_created_and_what_is_there_is_kept(new_cluster: NewCluster, tmp_path: Path) -> None:
    cluster = new_cluster("crds")
    foreign = copy.deepcopy(next(each for each in definitions() if each["metadata"]["name"].startswith("envoyproxies")))
    foreign["metadata"]["labels"] = {"app": "another"}
    foreign["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["description"] = "another's"
    (tmp_path / "foreign.yaml").write_text(json.dumps(foreign))
    cluster.kubectl("create", "-f", str(tmp_path / "foreign.yaml"))

    printed = cluster.run(_CRDS)
    assert [each["metadata"]["name"] for each in yaml.safe_load_all(printed)] == _NAMES
    said = dict(line.split(": ") for line in cluster.run([*_CRDS, "--apply"]).splitlines())
    assert said == dict.fromkeys(_NAMES, "created") | {foreign["metadata"]["name"]: "kept"}
    assert set(cluster.run([*_CRDS, "--apply"]).splitlines()) == {f"{name}: kept" for name in _NAMES}
    found = cluster.get("crd", foreign["metadata"]["name"])
    assert found["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["description"] == "another's"

    cluster.kubectl("wait", "crd", *_NAMES, "--for=condition=Established", "--timeout=120s")
    for item in cluster.get("crd", *_NAMES)["items"]:
        conditions = {each["type"]: each["status"] for each in item["status"]["conditions"]}
        assert conditions == {"NamesAccepted": "True", "Established": "True", **approval(item)}
    # The table of kubectl, with our columns.
    cluster.apply(_POOL)
    assert cluster.kubectl("get", "infpool").splitlines()[0].split() == ["NAME", "ACCEPTED", "AGE"]


def approval(item: Manifest) -> dict[str, str]:
    """Groups of Kubernetes's own want a word on who approved the definition; nobody did."""
    return {"KubernetesAPIApprovalPolicyConformant": "False"} if item["spec"]["group"].endswith(".k8s.io") else {}


def test_defaults_are_filled_in_and_unknown_fields_are_kept(apis: Cluster) -> None:
    pool = copy.deepcopy(_POOL)
    pool["spec"] |= {"endpointPickerRef": {"name": "picker", "port": {"number": 9002}}, "others": {"own": ["field"]}}
    taken = json.loads(apis.kubectl("create", "--dry-run=server", "-o", "json", "-f", "-", stdin=json.dumps(pool)))
    assert taken["spec"] == {
        **pool["spec"],
        "appProtocol": "http",
        "endpointPickerRef": {
            "kind": "Service",
            "name": "picker",
            "port": {"number": 9002},
            "failureMode": "FailClose",
        },
    }


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (
            ("targetPorts", 0, "number"),
            65536,
            r"spec.targetPorts\[0\].number: Invalid value: 65536: .* less than",
        ),
        (("targetPorts",), [], r"spec.targetPorts: Invalid value: \d+: .* at least 1 items"),
        (("selector", "matchLabels"), {}, "spec.selector.matchLabels"),
        (("selector", "matchLabels"), {"app": "no value"}, "spec.selector.matchLabels.app"),
        (("appProtocol",), "http3", 'spec.appProtocol: Unsupported value: "http3"'),
        (("endpointPickerRef",), {"kind": "Service"}, "spec.endpointPickerRef.name: Required value"),
        (("endpointPickerRef",), {"name": "x", "failureMode": "Fail"}, "spec.endpointPickerRef.failureMode"),
    ],
)
def test_what_no_pool_can_be_is_refused(apis: Cluster, path: tuple[str | int, ...], value: object, words: str) -> None:
    refused(apis, _POOL, path, value, words)


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("connection",), {"bufferLimit": "much"}, "spec.connection.bufferLimit"),
        (("targetRef", "kind"), "A Gateway", "spec.targetRef.kind"),
        (("targetRefs",), "all", "spec.targetRefs"),
    ],
)
def test_what_no_policy_can_be_is_refused(
    apis: Cluster, path: tuple[str | int, ...], value: object, words: str
) -> None:
    refused(apis, _POLICY, path, value, words)


def test_rules_between_fields_are_kept(apis: Cluster) -> None:
    for message, manifest in kinds.broken_rules().items():
        with pytest.raises(RuntimeError, match=message):
            apis.kubectl("create", "--dry-run=server", "-f", "-", stdin=json.dumps(manifest))


def refused(cluster: Cluster, good: Manifest, path: tuple[str | int, ...], value: object, words: str) -> None:
    """Show that an object is refused for one field alone."""
    create = ["create", "--dry-run=server", "-f", "-"]
    cluster.kubectl(*create, stdin=json.dumps(good))
    bad = copy.deepcopy(good)
    place = bad["spec"]
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    with pytest.raises(RuntimeError, match=words):
        cluster.kubectl(*create, stdin=json.dumps(bad))


@pytest.mark.skipif(not scenarios.SEEDS, reason=scenarios.WITHOUT)
@pytest.mark.parametrize("number", range(5))
def test_the_scenarios_manifests_are_taken_as_they_are(apis: Cluster, number: int) -> None:
    text = scenarios.text_of(number)
    blocks = flat_yaml.blocks(text) if number == _FLAT else scenarios.blocks(text)
    assert len(blocks) >= 4
    for block in blocks:
        given = [each for each in yaml.safe_load_all(block) if each]
        said = apis.kubectl("apply", "--dry-run=server", "-o", "name", "-f", "-", stdin=block)
        assert len(said.splitlines()) == len(given)
