"""One walk over a document beside the struct it decodes to: which of its fields are unknown, which are not built.

Nothing here knows a kind: the structs say what they know (`Fields.UNBUILT`, `Fields.SILENT`).
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec
from msgspec import inspect

from resources.fields import Fields


@dataclass(frozen=True, slots=True)
class Survey:
    """Paths of fields, as "spec.rules[0].retry"."""

    unknown: list[str] = field(default_factory=list)
    unbuilt: list[str] = field(default_factory=list)


# Where the walk is: the way to what is around it, and the step from there. Most ways are never written.
_Way = tuple["_Way", str | int] | None


def survey(document: Mapping[str, object], struct: type[Fields]) -> Survey:
    """Find the fields of a document that its struct does not read. The document may be of the wrong shape."""
    found = Survey()
    _walk(document, struct, None, found)
    return found


def _walk(value: object, struct: type[Fields], way: _Way, found: Survey) -> None:
    if not isinstance(value, Mapping):
        return
    if struct.BUILT_TYPES is not None and str(value.get("type")) not in struct.BUILT_TYPES:
        found.unbuilt.append(_path(way))
    children = _children(struct)
    for name, child in value.items():
        if name in children:
            if (inner := children[name]) is not None:
                _walk_each(child, inner, (way, name), found)
        elif name in struct.UNBUILT:
            # An empty list asks for nothing.
            if child not in ([], ()):
                found.unbuilt.append(_path((way, name)))
        elif name not in struct.SILENT:
            found.unknown.append(_path((way, name)))


def _walk_each(value: object, struct: type[Fields], way: _Way, found: Survey) -> None:
    if isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _walk(item, struct, (way, index), found)
    else:
        _walk(value, struct, way, found)


def _path(way: _Way) -> str:
    if way is None:
        return ""
    around, step = way
    return f"{_path(around)}[{step}]" if isinstance(step, int) else join(_path(around), step)


@functools.cache
def _children(struct: type[Fields]) -> Mapping[str, type[Fields] | None]:
    """Give the struct below each field of a struct; None for a field that has none."""
    return {
        each.encode_name: _struct_in(each.type)
        for each in inspect.type_info(struct).fields  # type: ignore[attr-defined]
        if each.name != "unbuilt"
    }


def _struct_in(kind: inspect.Type) -> type[Fields] | None:
    match kind:
        case inspect.Metadata(type=inner):
            return _struct_in(inner)
        case inspect.StructType(cls=cls):
            return cls if issubclass(cls, Fields) else None
        case inspect.VarTupleType(item_type=inner):
            return _struct_in(inner)
        case inspect.UnionType(types=types):
            return next((found for each in types if (found := _struct_in(each)) is not None), None)
        case _:
            return None


def choices(struct: type[msgspec.Struct], steps: tuple[str | int, ...]) -> tuple[str, ...]:
    """Name the values allowed at a place of a struct; () where any value is."""
    kind: inspect.Type = inspect.type_info(struct)
    for step in steps:
        inner = _below(kind, step)
        if inner is None:
            return ()
        kind = inner
    literals = [kind, *getattr(kind, "types", ())]
    return tuple(str(value) for each in literals if isinstance(each, inspect.LiteralType) for value in each.values)


def _below(kind: inspect.Type, step: str | int) -> inspect.Type | None:
    match kind:
        case inspect.Metadata(type=inner):
            return _below(inner, step)
        case inspect.UnionType(types=types):
            return next((found for each in types if (found := _below(each, step)) is not None), None)
        case inspect.StructType(fields=fields):
            return next((each.type for each in fields if each.encode_name == step), None)
        case inspect.VarTupleType(item_type=inner) if isinstance(step, int):
            return inner
        case _:
            return None


def join(path: str, name: str) -> str:
    """Append a field's name to a path; a name with dots in it stands in brackets."""
    if not name.replace("-", "").replace("_", "").isalnum():
        return f"{path}[{name}]"
    return f"{path}.{name}" if path else name
