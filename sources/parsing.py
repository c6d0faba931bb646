"""From the text of a file to plain values, with the line of every field.

Each document stands alone: one that cannot be parsed does not take its neighbours with it. The values are built from
the parser's events, because composing a tree recurses in C and a deeply nested text would end the process.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NoReturn

import yaml

from sources.scalars import resolve, whole

MAX_DEPTH = 64
# Values that aliases may add to a document, so that a few lines cannot become gigabytes.
MAX_ALIASED = 20_000

_Step = str | int
# The parser's events share no type that mypy knows.
_Event = Any
# Events are all that is asked of it: of all loaders this is made the fastest.
_PARSER: Any = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
_SEPARATOR = re.compile(r"^---(?=[ \t\r\n]|\Z)", re.MULTILINE)
_TAG = "tag:yaml.org,2002:"
_COLLECTION_TAGS = {None, "!", _TAG + "map", _TAG + "seq"}
_MERGE = object()


@dataclass(frozen=True)
class Parsed:
    """A document's value; `lines` tells the line of an entry by the identity of its mapping or sequence.

    json: the document itself where it is JSON, whose lines are looked for only when one is asked for.
    """

    value: object
    line: int
    lines: Mapping[tuple[int, _Step], int] = field(default_factory=dict)
    json: str | None = None

    def line_of(self, steps: tuple[_Step, ...]) -> int:
        """Give the line (from 1) of a field, or of the nearest thing around it that exists."""
        if steps and self.json is not None:
            return self._with_lines.line_of(steps)
        line, here = self.line, self.value
        for step in steps:
            line = self.lines.get((id(here), step), line)
            here = _below(here, step)
        return line

    @cached_property
    def _with_lines(self) -> "Parsed":
        """The same document with lines: JSON is YAML but for some escapes, and where it is not, there are none."""
        match _yaml_documents("\n" * (self.line - 1) + (self.json or "")):
            case (Parsed(value=same) as document,) if same == self.value:
                return document
            case _:
                return Parsed(self.value, self.line)


@dataclass(frozen=True, slots=True)
class Unparsable:
    """A document that is no YAML or JSON, and where it stops being it."""

    line: int
    message: str


Document = Parsed | Unparsable


def _below(value: object, step: _Step) -> object:
    if isinstance(value, dict):
        return value.get(step)
    if isinstance(value, list) and isinstance(step, int) and step < len(value):
        return value[step]
    return None


class _ParseError(ValueError):
    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line
        self.message = message


def parse_yaml(text: str) -> tuple[Document, ...]:
    """Parse every document of a text; empty ones are left out.

    A text that begins with a brace is JSON where it can be, as to kubectl: that takes a tenth of the time.
    """
    if text.startswith("{"):
        try:
            value = _JSON.decode(text)
        except (ValueError, RecursionError):
            return _yaml_documents(text)
        if not _is_too_deep(text, value):
            return (Parsed(value, 1, json=text),)
    return _yaml_documents(text)


def _yaml_documents(text: str) -> tuple[Document, ...]:
    documents: list[Document] = []
    for first, chunk in _chunks(text):
        try:
            documents += _documents(chunk, first)
        except _ParseError as error:
            documents.append(Unparsable(error.line, error.message))
        except yaml.MarkedYAMLError as error:
            line = first + error.problem_mark.line + 1 if error.problem_mark else first + 1
            words = ": ".join(part for part in (error.context, error.problem) if part)
            documents.append(Unparsable(line, f"cannot be parsed: {words}"))
        except yaml.YAMLError:
            # The reader's own errors quote the text, which may be a secret.
            documents.append(Unparsable(first + 1, "cannot be parsed: it has characters that YAML does not allow"))
    return tuple(documents)


def parse_json(text: str) -> tuple[Document, ...]:
    """Parse a JSON text, or several one after another."""
    documents: list[Document] = []
    start = _skip_space(text, 0)
    while start < len(text):
        line = text.count("\n", 0, start) + 1
        try:
            value, end = _JSON.raw_decode(text, start)
        except json.JSONDecodeError as error:
            documents.append(Unparsable(error.lineno, f"cannot be parsed: {error.msg}"))
            break
        except RecursionError:
            documents.append(Unparsable(line, _too_deep()))
            break
        except ValueError as error:
            documents.append(Unparsable(line, f"cannot be parsed: {error}"))
            break
        if _is_too_deep(text[start:end], value):
            documents += _yaml_documents("\n" * (line - 1) + text[start:end])
        else:
            documents.append(Parsed(value, line, json=text[start:end]))
        start = _skip_space(text, end)
    return tuple(documents)


def _is_too_deep(text: str, value: object) -> bool:
    """Whether a value, which a JSON text says, is nested deeper than documents may be."""
    if text.count("{") + text.count("[") <= MAX_DEPTH:
        return False
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        level = [inner for each in level for inner in _inner(each)]
    return bool(level)


def _inner(value: object) -> Iterable[object]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _distinct(pairs: list[tuple[str, object]]) -> dict[str, object]:
    result = dict(pairs)
    if len(result) < len(pairs):
        names = Counter(name for name, _ in pairs)
        raise ValueError(f"key {names.most_common(1)[0][0]!r} stands twice in one object")
    return result


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


_JSON = json.JSONDecoder(
    object_pairs_hook=_distinct, parse_float=lambda digits: whole(float(digits)), parse_constant=_no_constant
)


def _skip_space(text: str, position: int) -> int:
    while position < len(text) and text[position] in " \t\r\n":
        position += 1
    return position


def _chunks(text: str) -> Iterator[tuple[int, str]]:
    """Cut a text before each "---"; give the number of lines above each piece. Directives stay with what they head."""
    start = above = 0
    for match in _SEPARATOR.finditer(text):
        piece = text[start : match.start()]
        if _is_directives(piece):
            continue
        yield above, piece
        start, above = match.start(), above + piece.count("\n")
    yield above, text[start:]


def _is_directives(piece: str) -> bool:
    lines = [line for line in piece.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    return bool(lines) and all(line.startswith("%") for line in lines)


def _documents(chunk: str, first: int) -> list[Document]:
    found: list[Document] = []
    take: Callable[[], _Event] = _PARSER(chunk).get_event
    while not isinstance(event := take(), yaml.StreamEndEvent):
        if not isinstance(event, yaml.DocumentStartEvent):
            continue
        builder = _Builder(take, first)
        top = take()
        value = builder.build(top, 0)
        if value is not None:
            found.append(Parsed(value, first + top.start_mark.line + 1, builder.lines))
    return found


def _too_deep() -> str:
    return f"cannot be parsed: it is nested deeper than {MAX_DEPTH} levels"


class _Builder:
    """Builds one document's value from events."""

    def __init__(self, take: Callable[[], _Event], first: int) -> None:
        self.lines: dict[tuple[int, _Step], int] = {}
        self._take = take
        self._first = first
        self._anchors: dict[str, object] = {}
        self._aliased = 0

    def build(self, event: _Event, depth: int) -> object:
        if depth > MAX_DEPTH:
            raise _ParseError(self._line(event), _too_deep())
        kind = type(event)
        value: object
        if kind is yaml.ScalarEvent:
            value = self._scalar(event)
        elif kind is yaml.AliasEvent:
            return self._alias(event)
        elif event.tag not in _COLLECTION_TAGS:
            raise _ParseError(self._line(event), f"cannot be parsed: tag {event.tag} means nothing here")
        elif kind is yaml.SequenceStartEvent:
            value = self._sequence(depth)
        else:
            value = self._mapping(depth)
        if event.anchor is not None:
            self._anchors[event.anchor] = value
        return value

    def _line(self, event: _Event) -> int:
        return self._first + int(event.start_mark.line) + 1

    def _alias(self, event: _Event) -> object:
        if event.anchor not in self._anchors:
            raise _ParseError(self._line(event), f"cannot be parsed: alias {event.anchor!r} has no anchor before it")
        value = self._anchors[event.anchor]
        self._aliased += _size(value, MAX_ALIASED)
        if self._aliased > MAX_ALIASED:
            raise _ParseError(self._line(event), f"cannot be parsed: aliases add more than {MAX_ALIASED} values")
        return value

    def _scalar(self, event: _Event) -> object:
        if event.tag is None:
            plain = event.implicit[0]
        elif event.tag in {"!", _TAG + "str", _TAG + "timestamp"}:
            plain = False
        elif event.tag in {_TAG + "null", _TAG + "bool", _TAG + "int", _TAG + "float"}:
            plain = True
        else:
            raise _ParseError(self._line(event), f"cannot be parsed: tag {event.tag} means nothing here")
        if not plain:
            return event.value
        try:
            return resolve(event.value)
        except ValueError as error:
            raise _ParseError(self._line(event), f"cannot be parsed: {error}") from error

    def _sequence(self, depth: int) -> list[object]:
        result: list[object] = []
        take = self._take
        lines, above = self.lines, self._first + 1
        while type(event := take()) is not yaml.SequenceEndEvent:
            lines[id(result), len(result)] = above + event.start_mark.line
            result.append(self.build(event, depth + 1))
        return result

    def _mapping(self, depth: int) -> dict[str, object]:
        result: dict[str, object] = {}
        merged: list[tuple[_Event, object]] = []
        take = self._take
        lines, above = self.lines, self._first + 1
        while type(event := take()) is not yaml.MappingEndEvent:
            key = self._key(event)
            value_event = take()
            value = self.build(value_event, depth + 1)
            if key is _MERGE:
                merged.append((value_event, value))
                continue
            name = str(key)
            if name in result:
                raise _ParseError(self._line(event), f"cannot be parsed: key {name!r} stands twice in one mapping")
            lines[id(result), name] = above + event.start_mark.line
            result[name] = value
        for value_event, value in merged:
            self._merge(result, value, value_event)
        return result

    def _key(self, event: _Event) -> object:
        """Read a key as text, as JSON has no other keys."""
        if type(event) is not yaml.ScalarEvent:
            raise _ParseError(self._line(event), "cannot be parsed: a key is no text")
        if event.value == "<<" and event.implicit[0] and event.tag is None:
            return _MERGE
        value = self._scalar(event)
        if value is None:
            raise _ParseError(self._line(event), "cannot be parsed: a key is null")
        if event.anchor is not None:
            self._anchors[event.anchor] = value
        if type(value) is str:
            return value
        return str(value).lower() if isinstance(value, bool) else str(value)

    def _merge(self, result: dict[str, object], value: object, event: _Event) -> None:
        """Add the entries of "<<" that the mapping does not have itself (YAML 1.1, merge keys)."""
        for source in value if isinstance(value, list) else [value]:
            if not isinstance(source, dict):
                raise _ParseError(self._line(event), "cannot be parsed: '<<' needs a mapping")
            for name, inherited in source.items():
                if name not in result:
                    result[name] = inherited
                    self.lines[id(result), name] = self.lines.get((id(source), name), self._line(event))


def _size(value: object, limit: int) -> int:
    """Count the values in a tree, giving up beyond a limit."""
    count, waiting = 0, [value]
    while waiting and count <= limit:
        here = waiting.pop()
        count += 1
        if isinstance(here, dict):
            waiting.extend(here.values())
        elif isinstance(here, list):
            waiting.extend(here)
    return count
