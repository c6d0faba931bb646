"""From a parsed document to a typed object, or to an error that names the object and the field.

`decode` is total over mappings: it returns, or it raises `DecodeError`.
"""

import re
from collections.abc import Iterator, Mapping
from typing import NoReturn

import msgspec

from resources.core import ConfigMap, EndpointSlice, Namespace, Secret, Service
from resources.durations import Duration
from resources.envoy_proxy import EnvoyProxy
from resources.fields import PATTERN_WORDS, FieldError, is_subdomain
from resources.gateway import Gateway, GatewayClass, ReferenceGrant
from resources.inference import InferenceModel, InferencePool, XInferencePool
from resources.infrastructure import (
    CustomResourceDefinition,
    DaemonSet,
    HorizontalPodAutoscaler,
    PodDisruptionBudget,
    ServiceAccount,
)
from resources.meta import Key, Object
from resources.objectives import InferenceModelRewrite, InferenceObjective, XInferenceModelRewrite, XInferenceObjective
from resources.pods import Pod
from resources.policies import BackendTrafficPolicy, ClientTrafficPolicy
from resources.quantities import Quantity
from resources.routes import HTTPRoute
from resources.survey import choices, join, survey
from resources.traffic import InferenceTrafficPolicy
from resources.workloads import Deployment, LeaderWorkerSet, ReplicaSet, RoleBasedGroup, StatefulSet

KINDS: Mapping[tuple[str, str], type[Object]] = {
    (kind.GROUP, kind.KIND): kind
    for kind in (
        BackendTrafficPolicy,
        ClientTrafficPolicy,
        ConfigMap,
        CustomResourceDefinition,
        DaemonSet,
        Deployment,
        EndpointSlice,
        EnvoyProxy,
        Gateway,
        GatewayClass,
        HTTPRoute,
        HorizontalPodAutoscaler,
        InferenceModel,
        InferenceModelRewrite,
        InferenceObjective,
        InferencePool,
        LeaderWorkerSet,
        Namespace,
        Pod,
        PodDisruptionBudget,
        ReferenceGrant,
        ReplicaSet,
        RoleBasedGroup,
        Secret,
        Service,
        ServiceAccount,
        StatefulSet,
        XInferenceModelRewrite,
        XInferenceObjective,
        InferenceTrafficPolicy,
        XInferencePool,
    )
}

_DEFAULT_NAMESPACE = "default"
_PLACE = re.compile(r"(?P<message>.*?)(?: - at (?P<key>`key` in )?`\$(?P<path>.*)`)?", re.DOTALL)
_STEP = re.compile(r"\.(?P<name>[^.\[]+)|\[(?P<index>\d+)\]|(?P<any>\[\.\.\.\])")


class Decoded(msgspec.Struct, frozen=True):
    """What a document holds: an object, or None for a kind that is not read.

    `ignored` names the unknown kind, or the paths of the unknown fields.
    """

    object: Object | None
    ignored: tuple[str, ...] = ()


class DecodeError(ValueError):
    """A document is no valid object.

    `key` is None where the object's identity cannot be read; `key_text` says what can be said of it. `steps` leads to
    the field: names and indices.
    """

    def __init__(self, key: Key | None, key_text: str, steps: tuple[str | int, ...], message: str) -> None:
        self.key = key
        self.key_text = key_text
        self.steps = steps
        self.message = message
        super().__init__(": ".join(part for part in (key_text, self.field_path, message) if part))

    @property
    def field_path(self) -> str:
        """The field as text: "spec.rules[0].backendRefs[1].port"."""
        path = ""
        for step in self.steps:
            path = f"{path}[{step}]" if isinstance(step, int) else join(path, step)
        return path


def decode(document: Mapping[str, object]) -> Decoded:
    """Decode one Kubernetes object, as the API server would take it; DecodeError if it would refuse it."""
    group, version, kind = _type_of(document)
    struct = KINDS.get((group, kind))
    if struct is None:
        return Decoded(None, (f"kind {kind} of {document['apiVersion']}",))
    plain = _is_plain(document)
    raw = struct.trimmed(document if plain else _without_nulls(document))
    key, key_text = _identity(raw, struct)
    if not plain:
        _check_text(raw, key, key_text)
    if version not in struct.VERSIONS:
        served = " or ".join(f"{group}/{each}" if group else each for each in struct.VERSIONS)
        message = f"{kind} is read in version {served}, not {version}"
        raise DecodeError(key, key_text, ("apiVersion",), message)
    found = survey(raw, struct)
    fields = {name: value for name, value in raw.items() if name != "unbuilt"}
    try:
        decoded = msgspec.convert({**fields, "unbuilt": tuple(found.unbuilt)}, struct, dec_hook=_parse)
    except msgspec.ValidationError as error:
        _refuse(error, raw, struct, key, key_text)
    return Decoded(_placed(decoded), () if struct.LENIENT else tuple(found.unknown))


def _is_plain(document: Mapping[str, object]) -> bool:
    """Whether there is neither a null nor a broken text in a document for sure; to walk through it takes longer."""
    try:
        return b"null" not in msgspec.json.encode(document)
    except (TypeError, ValueError):
        return False


def _check_text(raw: Mapping[str, object], key: Key | None, key_text: str) -> None:
    """Refuse text that is no Unicode, which an API server cannot be sent: escapes can make half a character."""
    try:
        msgspec.json.encode(raw)
    except UnicodeEncodeError:
        steps = next(_broken_text(raw, ()), ())
        raise DecodeError(key, key_text, steps, "is no valid Unicode text") from None


def _broken_text(value: object, steps: tuple[str | int, ...]) -> Iterator[tuple[str | int, ...]]:
    """Yield the way to each text that has half a character."""
    if isinstance(value, str) and any("\ud800" <= each <= "\udfff" for each in value):
        yield steps
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _broken_text(inner, (*steps, name))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _broken_text(inner, (*steps, index))


def _type_of(document: Mapping[str, object]) -> tuple[str, str, str]:
    """Group, version and kind."""
    kind, api_version = document.get("kind"), document.get("apiVersion")
    for name, value in (("apiVersion", api_version), ("kind", kind)):
        if value is None:
            raise DecodeError(None, _best_name(document), (name,), "required")
        if not isinstance(value, str) or not value:
            raise DecodeError(None, _best_name(document), (name,), f"expected str, got {_type_name(value)}")
    group, _, version = str(api_version).rpartition("/")
    return group, version, str(kind)


def _identity(raw: Mapping[str, object], struct: type[Object]) -> tuple[Key | None, str]:
    """Read the object's key without decoding the object; and the words for it."""
    metadata = raw.get("metadata")
    name = metadata.get("name") if isinstance(metadata, Mapping) else None
    namespace = metadata.get("namespace", _DEFAULT_NAMESPACE) if isinstance(metadata, Mapping) else None
    if not (isinstance(name, str) and isinstance(namespace, str) and is_subdomain(name) and is_subdomain(namespace)):
        return None, _best_name(raw)
    key = Key(struct.GROUP, struct.KIND, namespace if struct.NAMESPACED else "", name)
    return key, str(key)


def _best_name(document: Mapping[str, object]) -> str:
    """As much of "HTTPRoute default/chat" as a broken document tells."""
    metadata = document.get("metadata")
    name = metadata.get("name") if isinstance(metadata, Mapping) else None
    words = [word for word in (document.get("kind"), name) if isinstance(word, str)]
    return " ".join(words) or "object"


def _placed(decoded: Object) -> Object:
    """Give a namespaced object its namespace, and take it from a cluster-scoped one."""
    metadata = decoded.metadata
    namespace = (metadata.namespace or _DEFAULT_NAMESPACE) if decoded.NAMESPACED else None
    if metadata.namespace == namespace:
        return decoded
    return msgspec.structs.replace(decoded, metadata=msgspec.structs.replace(metadata, namespace=namespace))


def _without_nulls(value: Mapping[str, object]) -> dict[str, object]:
    """Drop the fields that are null: to an API server they are fields left out."""
    return {name: _clean(child) for name, child in value.items() if child is not None}


def _clean(value: object) -> object:
    if isinstance(value, Mapping):
        return _without_nulls(value)
    if isinstance(value, list | tuple):
        return [_clean(item) for item in value]
    return value


def _parse(kind: type, value: object) -> object:
    if issubclass(kind, Duration | Quantity):
        return kind.parse(value)
    raise NotImplementedError(kind)


def _refuse(
    error: msgspec.ValidationError,
    raw: Mapping[str, object],
    struct: type[Object],
    key: Key | None,
    key_text: str,
) -> NoReturn:
    """Say msgspec's complaint in the API's words."""
    match = _PLACE.fullmatch(str(error))
    message, path = (match["message"], match["path"] or "") if match else (str(error), "")
    steps = _steps(path, raw)
    if isinstance(error.__cause__, FieldError):
        steps += _steps("." + error.__cause__.field, raw) if error.__cause__.field else ()
    elif missing := re.fullmatch(r"Object missing required field `(.*)`", message):
        steps, message = (*steps, missing[1]), "required"
    elif message.startswith("Invalid enum value"):
        allowed = choices(struct, steps)
        message = f"expected one of {', '.join(allowed)}; got {message.removeprefix('Invalid enum value ')}"
    elif match and match["key"]:
        message = f"key: {_plain(message)}"
    else:
        message = _plain(message)
    raise DecodeError(key, key_text, steps, message) from error


def _plain(message: str) -> str:
    if pattern := re.fullmatch(r"Expected `str` matching regex (?P<regex>'.*'|\".*\")", message, re.DOTALL):
        regex = next((words for regex, words in PATTERN_WORDS.items() if repr(regex) == pattern["regex"]), None)
        return f"expected {regex}" if regex else message
    words = re.sub(r" \| null(?=`)", "", message).replace("`", "")
    return words[:1].lower() + words[1:]


def _steps(path: str, raw: object) -> tuple[str | int, ...]:
    """Read msgspec's path; where it leaves out a mapping's key, find the key whose value is no text."""
    steps: list[str | int] = []
    here = raw
    for match in _STEP.finditer(path):
        step: str | int
        if match["any"]:
            entries = here.items() if isinstance(here, Mapping) else ()
            culprit = next((name for name, value in entries if not isinstance(value, str)), None)
            if culprit is None:
                break
            step = str(culprit)
        else:
            step = match["name"] or int(match["index"])
        steps.append(step)
        here = _child(here, step)
    return tuple(steps)


def _child(value: object, step: str | int) -> object:
    if isinstance(value, Mapping):
        return value.get(step)
    if isinstance(value, list) and isinstance(step, int) and step < len(value):
        return value[step]
    return None


def _type_name(value: object) -> str:
    names = {dict: "object", list: "array", bool: "bool", int: "int", float: "float"}
    return names.get(type(value), type(value).__name__)
