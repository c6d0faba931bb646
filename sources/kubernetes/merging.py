"""What to write into an object's `status`, given what is there. Pure.

Rules, and everything that decides on a write lives in this file:

1. What others wrote is never touched: conditions of other types, other controllers' parents and ancestors.
2. A condition whose `status` stays keeps its lastTransitionTime (meta/v1, Condition).
3. Where nothing would change, nothing is written.

Conditions and listeners are lists by key, in which server-side apply leaves the entries of others alone. Parents and
ancestors are atomic lists: whoever writes one entry writes all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from resources import WARNINGS

Json = Mapping[str, Any]

ATOMIC = ("parents", "parent", "ancestors")
"""The lists of a status that are written whole (HTTPRoute, InferencePool of either version, policies)."""

# What InferencePool's definition (v1alpha2) fills in until a controller has said something.
_PLACEHOLDER: Json = {"kind": "Status", "name": "default"}

Owns = Callable[[Json], bool]
"""Whether an entry of an atomic list is one of ours."""


def merge(current: Json, desired: Json, *, owns: Owns, now: str) -> dict[str, Any] | None:
    """Return the status to apply, or None where the object has it already. `now` is in RFC 3339."""
    merged = {name: _value(name, current.get(name), value, owns, now) for name, value in desired.items()}
    return merged if any(not _says(current.get(name), value, name) for name, value in merged.items()) else None


def is_atomic(desired: Json) -> bool:
    """Whether a status has a list that must be written whole, so that a version read before must still be the last."""
    return any(name in desired for name in ATOMIC)


def _value(name: str, current: Any, desired: Any, owns: Owns, now: str) -> Any:  # noqa: ANN401 - JSON
    if name == "conditions":
        return _conditions(current or (), desired, now)
    if name == "listeners":
        before = {each.get("name"): each for each in current or ()}
        return [_entry(before.get(each.get("name"), {}), each, now) for each in desired]
    if name in ATOMIC:
        return _entries(name, current or (), desired, owns, now)
    return desired


def _entries(name: str, current: Sequence[Json], desired: Sequence[Json], owns: Owns, now: str) -> list[Any]:
    """Return the entries of others where they are, and ours: known ones where they are, new ones at the end."""
    subject = "ancestorRef" if name == "ancestors" else "parentRef"
    wanted = {_identity(each, subject): each for each in desired}
    result: list[Any] = []
    for each in current:
        if desired and each.get(subject) == _PLACEHOLDER:
            continue
        identity = _identity(each, subject)
        if not owns(each) and not (identity in wanted and "controllerName" not in each):
            result.append(each)
        elif identity in wanted:
            result.append(_entry(each, wanted.pop(identity), now))
    return result + [_entry({}, each, now) for each in wanted.values()]


def _identity(entry: Json, subject: str) -> tuple[tuple[str, str], ...]:
    ref = entry.get(subject) or {}
    return tuple(sorted((name, str(value)) for name, value in ref.items()))


def _entry(current: Json, desired: Json, now: str) -> dict[str, Any]:
    return {**desired, "conditions": _conditions(current.get("conditions") or (), desired.get("conditions", ()), now)}


def _conditions(current: Sequence[Json], desired: Sequence[Json], now: str) -> list[dict[str, Any]]:
    before = {each.get("type"): each for each in current}
    result = []
    for each in desired:
        old = before.get(each["type"], {})
        since = old.get("lastTransitionTime") if old.get("status") == each["status"] else None
        result.append({**each, "lastTransitionTime": since or now})
    return result


def _says(current: Any, merged: Any, name: str) -> bool:  # noqa: ANN401 - JSON
    """Whether a part of a status says already what is to be applied; others' conditions do not count."""
    if name == "conditions":
        there = {each.get("type"): each for each in current or ()}
        said = {each["type"] for each in merged}
        # A warning that is over is left out, and so taken back.
        return all(there.get(each["type"]) == each for each in merged) and not WARNINGS & there.keys() - said
    if name == "listeners" and isinstance(current, list):
        return len(current) == len(merged) and all(
            {**was, "conditions": None} == {**each, "conditions": None}
            and _says(was.get("conditions"), each["conditions"], "conditions")
            for was, each in zip(current, merged, strict=True)
        )
    return bool(current == merged)
