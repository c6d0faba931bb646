"""Envoy's bootstrap as an EnvoyProxy has it: ours, with more in it, with changes, or another one in its place.

Some of it is the ground that everything else stands on: how Envoy finds the control plane and says who it is, and where
its pod is asked whether it is ready. That part is put into a bootstrap that lacks it, and may be no other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from string import Template
from typing import Any

import betterproto2
import msgspec
import yaml
from envoy_data_plane.envoy.config.bootstrap import v3 as bootstrap

from resources.envoy_proxy import ProxyBootstrap
from translators.infrastructure.patches import PatchError, json_patch, merge_patch

_WHOLE = ("admin", "dynamic_resources")
_LISTS = {"listeners": ("pointsman-readiness",),
          "clusters": ("pointsman-control-plane", "pointsman-admin", "pointsman-picker")}  # fmt: skip
_OPAQUE = "@type"


class BootstrapError(ValueError):
    """A bootstrap that no Envoy of ours can have; `field` is where to mend it, from `spec.bootstrap` on."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


def bootstrap_of(ours: str, given: ProxyBootstrap | None) -> str:
    """Return the bootstrap (YAML) of an EnvoyProxy, `ours` where it has none. Raises BootstrapError."""
    if given is None:
        return ours
    result = _result(ours, msgspec.json.encode(given))
    if isinstance(result, BootstrapError):
        raise result
    return result


def bootstrap_fault(template: str, given: ProxyBootstrap | None) -> BootstrapError | None:
    """Return what is wrong with an EnvoyProxy's bootstrap where ours is made of `template`."""
    if given is None:
        return None
    result = _result(Template(template).substitute(_Names()), msgspec.json.encode(given))
    return result if isinstance(result, BootstrapError) else None


@lru_cache(maxsize=256)
def _result(ours: str, encoded: bytes) -> str | BootstrapError:
    """Return the bootstrap, or what is wrong with it; once for each, since reading YAML takes its time."""
    given = msgspec.json.decode(encoded, type=ProxyBootstrap)
    base: dict[str, Any] = yaml.safe_load(ours)
    field = "jsonPatches" if given.type == "JSONPatch" else "value"
    try:
        content = _changed(base, given)
        if not isinstance(content, dict):
            return BootstrapError(field, "is no object")
        wrong = next(_unknown(content, bootstrap.Bootstrap, ""), None)
        if wrong is not None:
            return BootstrapError(field, wrong)
        return yaml.safe_dump(_grounded(base, content, field), sort_keys=False)
    except BootstrapError as error:
        return error


class _Names(dict[str, object]):
    """A value for each name behind a dollar sign."""

    def __missing__(self, name: str) -> object:
        return 1 if name.endswith("_port") else "[]" if name.endswith("_list") else "name"


def _changed(base: Mapping[str, Any], given: ProxyBootstrap) -> Any:  # noqa: ANN401 - JSON
    if given.type == "JSONPatch":
        try:
            return json_patch(base, given.json_patches)
        except PatchError as error:
            raise BootstrapError(f"jsonPatches{error.field}", str(error)) from None
    try:
        value = yaml.safe_load(given.value or "")
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f" in line {mark.line + 1}" if mark is not None else ""
        raise BootstrapError("value", f"is no YAML{place}") from None
    if given.type != "Merge":
        return value
    if not isinstance(value, dict):
        raise BootstrapError("value", "is no object")
    return merge_patch(base, value, append=True)


def _grounded(ours: Mapping[str, Any], content: dict[str, Any], field: str) -> dict[str, Any]:
    """Return a bootstrap with what all of them have."""
    result = {**content}
    for name in _WHOLE:
        if result.setdefault(name, ours[name]) != ours[name]:
            raise BootstrapError(field, f"{name} must stay as it is")
    node = merge_patch(result.get("node") or {}, ours["node"])
    if node != merge_patch(ours["node"], result.get("node") or {}):
        raise BootstrapError(field, "node.cluster and node.metadata must stay as they are")
    static = {**(result.get("static_resources") or {})}
    for name, entries in _LISTS.items():
        there = [*(static.get(name) or ())]
        for entry in entries:
            wanted = next(each for each in ours["static_resources"][name] if each["name"] == entry)
            found = [each for each in there if each.get("name") == entry]
            if not found:
                there.append(wanted)
            elif found != [wanted]:
                raise BootstrapError(field, f"{entry} of static_resources.{name} must stay as it is")
        static[name] = there
    return {**result, "node": node, "static_resources": static}


def _unknown(value: object, message: type[betterproto2.Message], path: str) -> Iterator[str]:
    """Yield what of a document Envoy would not read as this message: fields that it does not know, and wrong shapes."""
    if not isinstance(value, Mapping):
        yield f"{path or 'the bootstrap'}: expected an object"
        return
    reflection = message._betterproto  # type: ignore[arg-type] # noqa: SLF001 - it has no public reflection
    fields = {name.rstrip("_"): name for name in reflection.meta_by_field_name}
    for key, inner in value.items():
        place = f"{path}.{key}" if path else str(key)
        if key not in fields:
            yield f"{place}: no such field (names are in snake_case)"
            continue
        meta = reflection.meta_by_field_name[fields[key]]
        below = reflection.cls_by_field[fields[key]]
        if inner is None or meta.map_meta is not None:
            continue
        if meta.repeated and not isinstance(inner, list):
            yield f"{place}: expected a list"
        elif meta.proto_type == betterproto2.TYPE_MESSAGE and meta.unwrap is None and _is_plain(below):
            items = enumerate(inner) if meta.repeated else (("", inner),)
            for number, item in items:
                if not (isinstance(item, Mapping) and _OPAQUE in item):
                    yield from _unknown(item, below, f"{place}[{number}]" if meta.repeated else place)


def _is_plain(message: type) -> bool:
    """Whether the JSON form of a message is an object of its fields: protobuf's own types have other ones."""
    return issubclass(message, betterproto2.Message) and not message.__module__.startswith(
        "envoy_data_plane.google.protobuf"
    )
