"""The definitions themselves; that an API server takes them is shown in tests/kubernetes."""

from collections.abc import Iterator, Mapping
from typing import Any

import kinds
import msgspec
import pytest

from resources import KINDS, DecodeError, Duration, Quantity, decode
from resources.crds import definitions
from resources.fields import Fields, Port
from resources.schemas import Schema, schema_of

_PACKAGED = {
    "",
    "apiextensions.k8s.io",
    "apps",
    "autoscaling",
    "discovery.k8s.io",
    "gateway.networking.k8s.io",
    "policy",
}


def schemas(schema: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield schema
    for inner in (*schema.get("properties", {}).values(), schema.get("items"), schema.get("additionalProperties")):
        if inner is not None:
            yield from schemas(inner)


def test_every_definition_is_of_a_kind_that_is_read() -> None:
    for definition in definitions():
        spec = definition["spec"]
        kind = KINDS[spec["group"], spec["names"]["kind"]]
        assert tuple(version["name"] for version in spec["versions"]) == kind.VERSIONS
        assert [version["storage"] for version in spec["versions"]].count(True) == 1
        assert definition["metadata"]["name"] == f"{spec['names']['plural']}.{spec['group']}"


def test_every_kind_of_ours_or_of_a_vendor_has_one() -> None:
    """All but workloads, which their own operators bring."""
    made = {(each["spec"]["group"], each["spec"]["names"]["kind"]) for each in definitions()}
    others = {("leaderworkerset.x-k8s.io", "LeaderWorkerSet"), ("workloads.x-k8s.io", "RoleBasedGroup")}
    assert made == {key for key in KINDS if key[0] not in _PACKAGED} - others


def test_nothing_is_pruned() -> None:
    for definition in definitions():
        for version in definition["spec"]["versions"]:
            properties = version["schema"]["openAPIV3Schema"]["properties"]
            for schema in [each for name in ("spec", "status") for each in schemas(properties[name])]:
                if "properties" in schema or schema == {}:
                    assert schema["x-kubernetes-preserve-unknown-fields"] is True


class _Inner(Fields, frozen=True, kw_only=True):
    """What is inside."""

    port: Port


class _Sample(Fields, frozen=True, kw_only=True):
    """One of each.

    And more words.
    """

    inner: _Inner
    several: tuple[_Inner, ...] = ()
    maybe: _Inner | None = None
    amount: Quantity | None = None
    how_long: Duration = Duration.parse("90s")
    either: int | str = 0
    words: Mapping[str, str] = {}
    enabled: bool = False
    anything: Any = None


def test_schemas_say_what_structs_say() -> None:
    keep = {"x-kubernetes-preserve-unknown-fields": True}
    port = {"type": "integer", "format": "int32", "minimum": 1, "maximum": 65535}
    inner: Schema = {
        "type": "object",
        "description": "What is inside.",
        "properties": {"port": port},
        "required": ["port"],
        **keep,
    }
    types = [{"type": "integer"}, {"type": "string"}]
    found = schema_of(_Sample)
    amount = found["properties"].pop("amount")
    assert found == {
        "type": "object",
        "description": "One of each.",
        "properties": {
            "inner": inner,
            "several": {"type": "array", "items": inner},
            "maybe": inner,
            "howLong": {"type": "string", "pattern": "^([0-9]{1,5}(h|m|s|ms)){1,4}$", "default": "1m30s"},
            "either": {"anyOf": types, "x-kubernetes-int-or-string": True, "default": 0},
            "words": {"type": "object", "additionalProperties": {"type": "string"}},
            "enabled": {"type": "boolean", "default": False},
            "anything": keep,
        },
        "required": ["inner"],
        **keep,
    }
    assert (amount["anyOf"], amount["x-kubernetes-int-or-string"]) == (types, True)


def test_the_rules_in_the_definitions_are_those_of_decoding() -> None:
    broken = kinds.broken_rules()
    made = [
        (rule["message"], rule.get("fieldPath", ""))
        for definition in definitions()
        for version in definition["spec"]["versions"]
        for schema in schemas(version["schema"]["openAPIV3Schema"])
        for rule in schema.get("x-kubernetes-validations", ())
    ]
    assert {message for message, _ in made} == set(broken)
    for message, manifest in broken.items():
        with pytest.raises(DecodeError, match=message) as refused:
            decode(manifest)
        (place,) = {place for said, place in made if said == message}
        assert refused.value.field_path.endswith(place)


def test_what_no_schema_can_say_is_an_error() -> None:
    class Odd(Fields, frozen=True, kw_only=True):
        """Two structs in one place."""

        value: tuple[int, str]

    with pytest.raises(TypeError, match="no schema"):
        schema_of(Odd)


def test_a_definition_is_plain_data() -> None:
    assert msgspec.json.decode(msgspec.json.encode(definitions())) == list(definitions())
