"""The syncer's configuration: what the YAML below `vLLMLoRAConfig` says. Pure.

The format is the Inference Extension's (tools/dynamic-lora-sidecar): the same file serves either sidecar.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated

import msgspec
import yaml

ROOT = "vLLMLoRAConfig"

_PLACE = re.compile(r"(?P<message>.*?)(?: - at `\$\.?(?P<path>.*)`)?", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(?P<name>.*)`")

_Text = Annotated[str, msgspec.Meta(min_length=1)]


@dataclass(frozen=True, slots=True)
class Adapter:
    """A LoRA adapter: the model name that clients ask for, where its weights are, and the model that it adapts."""

    id: str
    source: str
    base_model: str = ""


@dataclass(frozen=True, slots=True)
class Config:
    """Which adapters shall be there and which shall not, on the server at `host` and `port`.

    `ignored` holds the paths of fields that mean nothing to the syncer.
    """

    wanted: tuple[Adapter, ...] = ()
    unwanted: tuple[str, ...] = ()
    host: str = "localhost"
    port: int = 8000
    name: str = ""
    ignored: tuple[str, ...] = ()


class ConfigError(ValueError):
    """A configuration that cannot be used; `field` is the path of what is wrong, "" for the document."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}" if field else message)
        self.field = field
        self.message = message


class _Present(msgspec.Struct, rename="kebab"):
    id: _Text
    source: _Text
    base_model: str | None = None


class _Absent(msgspec.Struct, rename="kebab"):
    id: _Text
    source: str | None = None
    base_model: str | None = None


class _EnsureExist(msgspec.Struct):
    models: tuple[_Present, ...] | None = None


class _EnsureNotExist(msgspec.Struct):
    models: tuple[_Absent, ...] | None = None


class _Lora(msgspec.Struct, rename="camel"):
    name: str | None = None
    host: _Text | None = None
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)] | None = None
    default_base_model: str | None = None
    ensure_exist: _EnsureExist | None = None
    ensure_not_exist: _EnsureNotExist | None = None


class _Document(msgspec.Struct):
    lora: _Lora = msgspec.field(name=ROOT)


def decode(text: str | bytes) -> Config:
    """Read a configuration. Raises ConfigError naming the field that is wrong."""
    try:
        document = yaml.safe_load(text)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError("", f"this is not YAML: {' '.join(str(error).split())}") from error
    try:
        lora = msgspec.convert(document, _Document).lora
    except msgspec.ValidationError as error:
        raise _refused(str(error)) from error
    wanted = (lora.ensure_exist and lora.ensure_exist.models) or ()
    unwanted = (lora.ensure_not_exist and lora.ensure_not_exist.models) or ()
    base = lora.default_base_model or ""
    return Config(
        wanted=tuple(Adapter(each.id, each.source, each.base_model or base) for each in wanted),
        unwanted=tuple(dict.fromkeys(each.id for each in unwanted)),
        host=lora.host or "localhost",
        port=lora.port or 8000,
        name=lora.name or "",
        ignored=tuple(_unknown(document, _Document, "")),
    )


def _refused(text: str) -> ConfigError:
    match = _PLACE.fullmatch(text)
    message, path = (match["message"], match["path"] or "") if match else (text, "")
    if missing := _MISSING.fullmatch(message):
        path, message = f"{path}.{missing['name']}".removeprefix("."), "required"
    message = re.sub(r" \| null(?=`)", "", message).replace("`", "")
    return ConfigError(path, message[:1].lower() + message[1:])


def _unknown(value: object, struct: type[msgspec.Struct], path: str) -> Iterator[str]:
    """Find the fields that no struct has."""
    if not isinstance(value, Mapping):
        return
    known = {
        field.encode_name: _struct_in(field.type)
        for field in msgspec.inspect.type_info(struct).fields  # type: ignore[attr-defined]
    }
    for name, child in value.items():
        place = f"{path}.{name}".removeprefix(".")
        if name not in known:
            yield place
        elif (inner := known[name]) is None:
            continue
        elif isinstance(child, list):
            for index, item in enumerate(child):
                yield from _unknown(item, inner, f"{place}[{index}]")
        else:
            yield from _unknown(child, inner, place)


def _struct_in(kind: object) -> type[msgspec.Struct] | None:
    for each in getattr(kind, "types", (kind,)):
        inner = getattr(each, "item_type", each)
        if isinstance(inner, msgspec.inspect.StructType):
            return inner.cls
    return None
