"""The Helm chart, without a cluster."""

import json
from typing import Any

import charts
import pytest
import yaml

from pointsman.definitions import as_yaml

VALUES = yaml.safe_load((charts.CHART / "values.yaml").read_text())
SCHEMA = json.loads((charts.CHART / "values.schema.json").read_text())

with_helm = pytest.mark.skipif(charts.helm() is None, reason="no Helm is at hand: `minikluster build --helm` makes one")


def test_the_definitions_are_those_of_the_program() -> None:
    assert (charts.CHART / "crds" / "pointsman.yaml").read_text() == as_yaml(), "`make manifest` writes it anew"


def properties(schema: dict[str, Any], values: dict[str, Any], path: str = "") -> list[str]:
    """The paths at which schema and values differ, where the schema names properties."""
    known = schema.get("properties", {})
    found = [f"{path}{name}" for name in known.keys() ^ values.keys() if name != "global"]
    for name in known.keys() & values.keys():
        if "properties" in known[name]:
            found += properties(known[name], values[name], f"{path}{name}.")
    return found


def test_the_schema_knows_every_value_and_no_other() -> None:
    assert properties(SCHEMA, VALUES) == []


def test_every_value_is_documented() -> None:
    lines = (charts.CHART / "values.yaml").read_text().splitlines()
    for number, line in enumerate(lines):
        if line and not line.startswith((" ", "#")):
            block = lines[:number][::-1]
            # A comment stands over each value, or over the block that it belongs to.
            assert next(each for each in block if not each or each.startswith("#")).startswith("#"), line


@with_helm
def test_it_is_clean() -> None:
    said = charts.run("lint", "--strict", charts.CHART).stdout
    assert "0 chart(s) failed" in said
    assert "WARNING" not in said


@with_helm
def test_the_rendered_manifest_is_current() -> None:
    assert charts.manifest() == charts.INSTALL.read_text(), "`make manifest` writes it anew"


@with_helm
@pytest.mark.parametrize(
    ("value", "named"),
    [
        ("replicas=many", "replicas"),
        ("image.tags=x", "image"),
        ("ports.xds=80", "ports.xds"),
        ("controllerNames={nonsense}", "controllerNames"),
        ("modelFinder=grep", "modelFinder"),
        ("envoy.namespace=Infra", "envoy.namespace"),
        # To name no Secret is to name them all, for the API server.
        (
            "readableSecrets.any=false,readableSecrets.names.shop=null,readableSecrets.names.a={}",
            "readableSecrets.names.a",
        ),
        ("readableSecrets.any=false,readableSecrets.names.Shop={a}", "Shop"),
        ("readableSecrets.all=true", "readableSecrets"),
    ],
)
def test_a_mistaken_value_is_refused_by_name(value: str, named: str) -> None:
    done = charts.run("template", "p", charts.CHART, "--set", value, check=False)
    assert done.returncode != 0
    assert named.rsplit(".", maxsplit=1)[-1] in done.stderr
    assert "schema" in done.stderr


@with_helm
def test_namespaces_that_are_watched_have_rights_of_their_own() -> None:
    found = charts.rendered("-n", "system", "--set", "watchNamespaces={a,b}", "--set", "envoy.namespace=b")
    bindings = [each for each in found if each["kind"] == "RoleBinding"]
    # And in the controller's own are the Leases and the authority.
    assert [each["metadata"]["namespace"] for each in bindings] == ["a", "b", "system"]
    assert [each["roleRef"]["kind"] for each in bindings] == ["ClusterRole", "ClusterRole", "Role"]
    (everywhere,) = [each for each in found if each["kind"] == "ClusterRoleBinding"]
    (role,) = [each for each in found if each["metadata"]["name"] == everywhere["roleRef"]["name"] and "rules" in each]
    resources = {name for rule in role["rules"] for name in rule["resources"]}
    classes = {"gatewayclasses", "gatewayclasses/status"}
    assert resources == {*classes, "customresourcedefinitions", "namespaces", "tokenreviews"}
    refused = charts.run("template", "p", charts.CHART, "--set", "watchNamespaces={a},envoy.namespace=c", check=False)
    assert "envoy.namespace: has to be one of watchNamespaces" in refused.stderr


@with_helm
def test_secrets_are_read_by_name_where_that_is_wanted() -> None:
    def readers(*options: str) -> list[tuple[str, str, list[str]]]:
        found = charts.rendered("-n", "system", *options)
        return [
            (each["kind"], each["metadata"].get("namespace", ""), rule.get("resourceNames", []))
            for each in found
            for rule in each.get("rules", ())
            # In the controller's own namespace it keeps some itself.
            if "secrets" in rule["resources"]
            and "list" in rule["verbs"]
            and each["metadata"].get("namespace") != "system"
        ]

    assert readers() == [("ClusterRole", "", [])]
    assert readers("--set", "readableSecrets.any=false") == []
    chosen = "readableSecrets.any=false,readableSecrets.names.shop={a,b},readableSecrets.names.vault={c}"
    assert readers("--set", chosen) == [("Role", "shop", ["a", "b"]), ("Role", "vault", ["c"])]
    bindings = [each for each in charts.rendered("--set", chosen) if each["kind"] == "RoleBinding"]
    assert {each["metadata"]["namespace"]: each["roleRef"]["name"] for each in bindings}["vault"].endswith("-secrets")
    refused = charts.run("template", "p", charts.CHART, "--set", "readableSecrets.names.shop={a}", check=False)
    assert "readableSecrets.names: restricts nothing" in refused.stderr


@with_helm
@pytest.mark.parametrize("options", [(), ("--set", "readableSecrets.any=false,readableSecrets.names.shop={a}")])
def test_no_right_reaches_further_than_it_has_to(options: tuple[str, ...]) -> None:
    for role in charts.rendered(*options):
        for rule in role.get("rules", ()):
            assert "*" not in {*rule["verbs"], *rule["resources"], *rule["apiGroups"]}
            # Whoever may do these may do anything.
            assert not {"escalate", "bind", "impersonate", "deletecollection"} & set(rule["verbs"])
            if "secrets" in rule["resources"]:
                # In the controller's own namespace it makes some.
                assert set(rule["verbs"]) <= {"list", "watch"} or role["kind"] == "Role"
