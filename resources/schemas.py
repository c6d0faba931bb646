"""OpenAPI schemas, as Kubernetes takes them, of the structs that read its objects.

Structural schemas: a type at every level, no references. What a struct does not know is kept all the same: manifests
have fields that mean something to others.
"""

from collections.abc import Mapping
from functools import singledispatch
from typing import Any

from msgspec import inspect

from resources.durations import Duration
from resources.fields import Fields, Rule
from resources.quantities import Quantity

Schema = dict[str, Any]
"""A JSONSchemaProps (apiextensions.k8s.io/v1)."""

_KEEP = {"x-kubernetes-preserve-unknown-fields": True}
_INT32 = 1 << 31
_BOUNDS = {"min_length": "minLength", "max_length": "maxLength"}
_ITEM_BOUNDS = {"min_length": "minItems", "max_length": "maxItems"}
_ENTRY_BOUNDS = {"min_length": "minProperties", "max_length": "maxProperties"}


def schema_of(struct: type[Fields]) -> Schema:
    """Return the schema of a struct. TypeError for a type that schemas cannot say."""
    return _schema(inspect.type_info(struct))


@singledispatch
def _schema(kind: inspect.Type) -> Schema:
    raise TypeError(f"no schema for {kind}")


@_schema.register
def _(kind: inspect.StructType) -> Schema:
    properties: dict[str, Schema] = {}
    for field in kind.fields:
        properties[field.encode_name] = _schema(field.type)
        if (default := _default(field.default)) is not None:
            properties[field.encode_name]["default"] = default
    rules = [_rule(rule) for rule in kind.cls.RULES] if issubclass(kind.cls, Fields) else []
    required = [field.encode_name for field in kind.fields if field.required]
    return {
        "type": "object",
        "description": (kind.cls.__doc__ or "").partition("\n")[0],
        "properties": properties,
        **({"required": required} if required else {}),
        **({"x-kubernetes-validations": rules} if rules else {}),
        **_KEEP,
    }


def _rule(rule: Rule) -> Schema:
    place = {"fieldPath": f".{rule.field}"} if rule.field else {}
    return {"rule": rule.expression, "message": rule.message, **place}


def _default(value: object) -> object:
    """Return what the API server is to put where a field is left out; None for nothing.

    An empty list, mapping or struct says no more than that nothing was said.
    """
    if isinstance(value, Duration):
        return str(value)
    return value if isinstance(value, str | int | float) and value != "" else None


@_schema.register
def _(kind: inspect.StrType) -> Schema:
    return {"type": "string", **_bounds(kind, _BOUNDS), **_pattern(kind.pattern)}


@_schema.register
def _(kind: inspect.IntType) -> Schema:
    lowest = kind.ge if kind.ge is not None or kind.gt is None else kind.gt + 1
    highest = kind.le if kind.le is not None or kind.lt is None else kind.lt - 1
    small = lowest is not None and highest is not None and lowest >= -_INT32 and highest < _INT32
    bounds = {"minimum": lowest, "maximum": highest}
    present = {name: bound for name, bound in bounds.items() if bound is not None}
    return {"type": "integer", "format": "int32" if small else "int64", **present}


@_schema.register
def _(_: inspect.FloatType) -> Schema:
    return {"type": "number"}


@_schema.register
def _(_: inspect.BoolType) -> Schema:
    return {"type": "boolean"}


@_schema.register
def _(_: inspect.DateTimeType) -> Schema:
    return {"type": "string", "format": "date-time"}


@_schema.register
def _(_: inspect.AnyType) -> Schema:
    return dict(_KEEP)


@_schema.register
def _(kind: inspect.LiteralType) -> Schema:
    return {"type": "string", "enum": sorted(map(str, kind.values))}


@_schema.register
def _(kind: inspect.VarTupleType) -> Schema:
    return {"type": "array", "items": _schema(kind.item_type), **_bounds(kind, _ITEM_BOUNDS)}


@_schema.register
def _(kind: inspect.DictType) -> Schema:
    # There is no word for the keys' limits: what breaks them is reported when it is read.
    return {"type": "object", "additionalProperties": _schema(kind.value_type), **_bounds(kind, _ENTRY_BOUNDS)}


@_schema.register
def _(kind: inspect.CustomType) -> Schema:
    if kind.cls is Duration:
        return {"type": "string", **_pattern(f"^{Duration.PATTERN}$")}
    if kind.cls is Quantity:
        return {**_integer_or_text(), **_pattern(f"^{Quantity.PATTERN}$")}
    raise TypeError(f"no schema for {kind}")


@_schema.register
def _(kind: inspect.UnionType) -> Schema:
    """Return the schema of what may be left out, or of a number that may be text; schemas know no other unions."""
    members = [each for each in kind.types if not isinstance(each, inspect.NoneType)]
    if len(members) == 1:
        return _schema(members[0])
    if {type(each) for each in members} == {inspect.IntType, inspect.StrType}:
        return _integer_or_text()
    raise TypeError(f"no schema for {kind}")


def _integer_or_text() -> Schema:
    return {"anyOf": [{"type": "integer"}, {"type": "string"}], "x-kubernetes-int-or-string": True}


def _pattern(pattern: str | None) -> Schema:
    # Python ends a text with \Z, which RE2 does not know: there, $ is the end of the text and nothing else.
    return {} if pattern is None else {"pattern": pattern.replace(r"\Z", "$")}


def _bounds(kind: inspect.Type, names: Mapping[str, str]) -> Schema:
    bounds = {word: getattr(kind, name) for name, word in names.items()}
    return {word: bound for word, bound in bounds.items() if bound is not None}
