"""What a GatewayClass says of the versions of the Gateway API's definitions."""

from typing import Any

import pytest
from manifests import world_of

from translators import DEFINITIONS, Memo, Settings, translate

CLASS = """
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: ours}
spec: {controllerName: example.com/ours}
"""


def definition(name: str, version: str | None) -> str:
    annotation = f"{{gateway.networking.k8s.io/bundle-version: {version}}}" if version else "{}"
    kind = "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition"
    return f"---\n{kind}\nmetadata: {{name: {name}, annotations: {annotation}}}\nspec: {{scope: Cluster}}\n"


def supported(*definitions: str) -> tuple[str, str, str] | None:
    (status,) = translate(world_of(CLASS + "".join(definitions)), Settings(), Memo()).statuses
    conditions: Any = status.body["conditions"]
    assert conditions[0]["status"] == "True"
    found = [each for each in conditions if each["type"] == "SupportedVersion"]
    return (found[0]["status"], found[0]["reason"], found[0]["message"]) if found else None


def test_without_definitions_nothing_is_said_of_them() -> None:
    assert supported() is None


@pytest.mark.parametrize("version", ["v1.0.0", "v1.6.3", "v1.6.0-rc.1"])
def test_known_versions_are_supported(version: str) -> None:
    found = supported(*(definition(each, version) for each in DEFINITIONS))
    assert found == ("True", "SupportedVersion", "")


@pytest.mark.parametrize("version", ["v1.7.0", "v2.0.0", "monthly", None])
def test_one_of_another_version_or_of_none_is_named(version: str | None) -> None:
    first, *others = DEFINITIONS
    found = supported(definition(first, version), *(definition(each, "v1.6.3") for each in others))
    assert found is not None
    assert found[:2] == ("False", "UnsupportedVersion")
    assert first in found[2]
    assert others[0] not in found[2]
