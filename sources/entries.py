"""What a file says: for each document an object or a complaint, with its line.

A document that is wrong keeps the last good version of its object; only deleting an object removes it.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

from resources import DecodeError, Key, Object, decode
from sources.parsing import Parsed, Unparsable, parse_json, parse_yaml

_Steps = tuple[str | int, ...]
_STEP = re.compile(r"\[(?P<index>\d+)\]|\[(?P<odd>[^\]]*)\]|(?P<name>[^.\[]+)")


@dataclass(frozen=True, slots=True)
class Remark:
    """Something at a line."""

    line: int
    message: str


@dataclass(frozen=True, slots=True)
class Entry:
    """One object of a file, or the place of one.

    `key` is None where a broken document does not tell whose it is. `object` is the good version, or the last good one
    where there is a `complaint`; None if there was none. A `stale` entry is one that a broken file is not sure to have
    given up. `ignored_kind` names a kind that is not read.
    """

    line: int
    key: Key | None = None
    object: Object | None = None
    complaint: Remark | None = None
    remarks: tuple[Remark, ...] = ()
    ignored_kind: str | None = None
    stale: bool = False


def read_entries(content: bytes, *, as_json: bool) -> tuple[Entry, ...]:
    """Read a file's content; whatever is wrong with it is a complaint, never an exception."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        return (complain(line, "cannot be parsed: it is not UTF-8"),)
    parse = parse_json if as_json else parse_yaml
    return tuple(entry for document in parse(text) for entry in _entries(document))


def complain(line: int, message: str) -> Entry:
    """Make an entry that says no more than what is wrong."""
    return Entry(line, complaint=Remark(line, message))


def _entries(document: Parsed | Unparsable) -> Iterator[Entry]:
    if isinstance(document, Unparsable):
        yield complain(document.line, document.message)
        return
    for steps, value in _items(document.value, ()):
        yield _entry(document, steps, value)


def _items(value: object, steps: _Steps) -> Iterator[tuple[_Steps, object]]:
    """Give a document, or each item of a list of objects ("kind: List", "kind: HTTPRouteList", ...)."""
    if isinstance(value, Mapping):
        kind, items = value.get("kind"), value.get("items")
        if isinstance(kind, str) and kind.endswith("List") and isinstance(items, list | None):
            for index, item in enumerate(items or []):
                yield from _items(item, (*steps, "items", index))
            return
    yield steps, value


def _entry(document: Parsed, steps: _Steps, value: object) -> Entry:
    line = document.line_of(steps)
    if not isinstance(value, Mapping):
        return complain(line, f"expected an object with apiVersion and kind, got {_kind_of(value)}")
    try:
        decoded = decode(cast("Mapping[str, object]", value))
    except DecodeError as error:
        return Entry(line, error.key, complaint=Remark(document.line_of(steps + error.steps), str(error)))
    if decoded.object is None:
        return Entry(line, ignored_kind=next(iter(decoded.ignored), None))
    key = decoded.object.key
    remarks = tuple(
        Remark(document.line_of(steps + _split(path)), f"{key}: {path}: unknown field, ignored")
        for path in decoded.ignored
    )
    return Entry(line, key, decoded.object, remarks=remarks)


def _kind_of(value: object) -> str:
    return "a list" if isinstance(value, list) else "a plain value"


def _split(path: str) -> _Steps:
    """Take "spec.rules[0].foo" apart."""
    return tuple(
        int(match["index"]) if match["index"] else (match["odd"] or match["name"] or "")
        for match in _STEP.finditer(path)
    )


def keep_last_good(before: Sequence[Entry], after: Sequence[Entry]) -> tuple[Entry, ...]:
    """Give the file's new entries, broken ones with the last good version of their objects.

    A broken document that does not tell whose it is may be about any object that the file had before: none of those is
    given up until the file is whole again.
    """
    last = {entry.key: entry for entry in before if entry.key is not None and entry.object is not None}
    good = {entry.key for entry in after if entry.object is not None}
    kept: list[Entry] = []
    for entry in after:
        old = last.get(entry.key) if entry.key is not None and entry.key not in good else None
        if entry.complaint is not None and old is not None:
            good.add(entry.key)
            kept.append(replace(entry, object=old.object))
        else:
            kept.append(entry)
    if any(entry.complaint is not None and entry.key is None for entry in after):
        left = (
            replace(entry, complaint=None, remarks=(), stale=True) for key, entry in last.items() if key not in good
        )
        kept.extend(left)
    return tuple(kept)
