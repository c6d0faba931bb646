"""Changes of a document: JSON merge patch (RFC 7386), and JSON patch (RFC 6902)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import deepcopy
from typing import Any

from resources.envoy_proxy import JSONPatchOperation


class PatchError(ValueError):
    """An operation cannot be done; `field` is where to mend it, from the operation on."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


def merge_patch(target: Mapping[str, Any], patch: Mapping[str, Any], *, append: bool = False) -> dict[str, Any]:
    """Return `target` with a JSON merge patch applied; with `append`, lists grow by what the patch has of them."""
    result = dict(target)
    for name, value in patch.items():
        before = result.get(name)
        if value is None:
            result.pop(name, None)
        elif isinstance(value, Mapping):
            result[name] = merge_patch(before if isinstance(before, Mapping) else {}, value, append=append)
        elif append and isinstance(value, list) and isinstance(before, list):
            result[name] = [*before, *value]
        else:
            result[name] = value
    return result


def json_patch(target: Any, operations: Iterable[JSONPatchOperation]) -> Any:  # noqa: ANN401 - JSON
    """Return `target` with a JSON patch applied. Raises PatchError, whose field begins with the operation's number."""
    document = {"": deepcopy(target)}
    for number, operation in enumerate(operations):
        try:
            _apply(document, operation)
        except PatchError as error:
            raise PatchError(f"[{number}].{error.field}", str(error)) from None
    return document[""]


def _apply(document: dict[str, Any], operation: JSONPatchOperation) -> None:
    path = _steps(operation.path or "", "path")
    match operation.op:
        case "test":
            if _get(document, path, "path") != operation.value:
                raise PatchError("path", f"{operation.path} has another value than the test wants")
        case "add":
            _add(document, path, operation.value)
        case "replace":
            _get(document, path, "path")
            _set(document, path, operation.value)
        case "remove":
            _remove(document, path, "path")
        case "copy":
            _add(document, path, deepcopy(_get(document, _steps(operation.from_ or "", "from"), "from")))
        case "move":
            source = _steps(operation.from_ or "", "from")
            if path[: len(source)] == source and path != source:
                raise PatchError("path", "nothing can be moved into itself")
            _add(document, path, _remove(document, source, "from"))


def _steps(pointer: str, field: str) -> list[str]:
    """Read a JSON pointer (RFC 6901); the document stands under the key ""."""
    if pointer and not pointer.startswith("/"):
        raise PatchError(field, f"expected a JSON pointer, which begins with /, got {pointer!r}")
    return [step.replace("~1", "/").replace("~0", "~") for step in pointer.split("/")]


def _get(here: Any, steps: list[str], field: str) -> Any:  # noqa: ANN401 - JSON
    for step in steps:
        if isinstance(here, dict) and step in here:
            here = here[step]
        elif isinstance(here, list) and step.isdecimal() and int(step) < len(here):
            here = here[int(step)]
        else:
            raise PatchError(field, f"there is no {'/'.join(steps) or 'document'}")
    return here


def _add(document: dict[str, Any], steps: list[str], value: Any) -> None:  # noqa: ANN401 - JSON
    parent, last = _get(document, steps[:-1], "path"), steps[-1]
    if isinstance(parent, list):
        if last != "-" and not (last.isdecimal() and int(last) <= len(parent)):
            raise PatchError("path", f"{'/'.join(steps)} is no place in the list")
        parent.insert(len(parent) if last == "-" else int(last), value)
    else:
        _set(document, steps, value)


def _set(document: dict[str, Any], steps: list[str], value: Any) -> None:  # noqa: ANN401 - JSON
    parent, last = _get(document, steps[:-1], "path"), steps[-1]
    if isinstance(parent, list):
        parent[int(last)] = value
    elif isinstance(parent, dict):
        parent[last] = value
    else:
        raise PatchError("path", f"{'/'.join(steps[:-1])} is neither an object nor a list")


def _remove(document: dict[str, Any], steps: list[str], field: str) -> Any:  # noqa: ANN401 - JSON
    found = _get(document, steps, field)
    parent = _get(document, steps[:-1], field)
    if isinstance(parent, list):
        del parent[int(steps[-1])]
    elif len(steps) > 1:
        del parent[steps[-1]]
    else:
        raise PatchError(field, "the document as a whole cannot be taken away")
    return found
