"""One kind of object as an API server tells of it: a list, then a watch. Pure: it is given bodies and gives changes.

Rules, and everything that affects the state lives in this file:

1. A list replaces what was known: what it does not name is gone, but only when its last page has been seen.
2. An event of the watch that follows is the difference. Each moves `version`, from where a watch that broke goes on.
3. A version that the server no longer remembers (410 Gone) calls for a list. What is known stays until that is there.
4. An object that cannot be decoded is a problem; its last good version stays until the object is deleted.
5. `told` has what the API server holds in `status` of the objects whose status we write, as it was last seen.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self, cast

import orjson

from resources import DecodeError, Delete, Key, Object, Upsert, decode
from sources.kubernetes.errors import GONE, ApiError
from sources.kubernetes.trimming import slim, trim

Change = Upsert | Delete
_INDEX = re.compile(r"\[\d+\]")
_DEFAULT_NAMESPACE = "default"
# Objects that are decoded in one go.
_PIECE = 50


class Told(NamedTuple):
    """What an API server last said of an object: its identity, the version of its spec, and its status as JSON."""

    uid: str
    resource_version: str
    generation: int
    status: bytes

    @classmethod
    def of(cls, item: Mapping[str, Any]) -> Self:
        """Read it off an object."""
        metadata = item.get("metadata") or {}
        return cls(
            metadata.get("uid") or "",
            metadata.get("resourceVersion") or "",
            int(metadata.get("generation") or 0),
            orjson.dumps(item.get("status") or {}),
        )


class Page(NamedTuple):
    """A page of a list: its objects, where the list goes on ("" at its end), and the version of the whole."""

    api_version: str
    items: Sequence[dict[str, Any]]
    next: str
    version: str

    @classmethod
    def read(cls, body: bytes) -> Self:
        """Read it off a body."""
        said = orjson.loads(body)
        metadata = said.get("metadata") or {}
        return cls(
            said.get("apiVersion") or "",
            said.get("items") or (),
            metadata.get("continue") or "",
            metadata.get("resourceVersion") or "",
        )

    def parts(self) -> Iterator[Self]:
        """Yield the page in pieces, between which there is time for something else."""
        for start in range(0, len(self.items) - _PIECE, _PIECE):
            yield self._replace(items=self.items[start : start + _PIECE], next="more")
        done = max(0, (len(self.items) - 1) // _PIECE * _PIECE)
        yield self._replace(items=self.items[done:])


@dataclass(slots=True)
class Follower:
    """Follows one kind.

    `keep` says of which objects, in the API's words, anything is kept; of a `bare` kind nothing but metadata is told.
    """

    kind: type[Object]
    keeps_status: bool = False
    keep: Callable[[Mapping[str, Any]], bool] = lambda _: True
    bare: bool = False
    # The version from which a watch goes on; "" asks for a list.
    version: str = ""
    listed: bool = False
    problems: dict[Key | str, str] = field(default_factory=dict)
    # Paths of fields that are not read, each with the first object that has it.
    ignored: dict[str, Key] = field(default_factory=dict)
    told: dict[Key, Told] = field(default_factory=dict)
    # The objects of which `told` is new since somebody asked.
    retold: set[Key] = field(default_factory=set)
    _known: dict[Key, Object] = field(default_factory=dict)
    _seen: set[Key] | None = None

    @property
    def known(self) -> Iterable[Object]:
        """Every object, as it is known."""
        return self._known.values()

    def page(self, page: Page) -> list[Change]:
        """Take in a page of a list."""
        if self._seen is None:
            self._seen = set()
        changes: list[Change] = []
        for item in page.items:
            item.setdefault("apiVersion", page.api_version)
            item["kind"] = self.kind.KIND
            changes += self._upsert(item)
            key = self._key(item)
            if key is not None:
                self._seen.add(key)
        if not page.next:
            changes += self._end(page.version)
        return changes

    def restart(self) -> None:
        """Begin the list anew: the server no longer remembers it."""
        self._seen = None
        self.version = ""

    def event(self, line: bytes) -> list[Change]:
        """Take in an event of a watch. Raises ApiError for one that says that the watch is over, 410 among others."""
        said = orjson.loads(line)
        kind, item = said.get("type"), said.get("object") or {}
        if kind == "ERROR":
            code = int(item.get("code") or 0)
            if code == GONE:
                self.restart()
            raise ApiError(code, str(item.get("reason") or ""), str(item.get("message") or ""))
        self.version = (item.get("metadata") or {}).get("resourceVersion") or self.version
        if kind == "BOOKMARK":
            return []
        if kind == "DELETED":
            return self._delete(self._key(item))
        return self._upsert(item)

    def forget(self) -> list[Change]:
        """Take note that the kind itself is gone, and all objects with it."""
        changes = [change for key in list(self._known) for change in self._delete(key)]
        self.problems.clear()
        self.ignored.clear()
        self.told.clear()
        self.restart()
        return changes

    def put(self, stand_in: Object) -> list[Change]:
        """Tell of something in the place of an object that cannot be read; what was read of it before stays."""
        known = self._known.get(stand_in.key)
        if known == stand_in or not (known is None or isinstance(known, type(stand_in))):
            return []
        self._known[stand_in.key] = stand_in
        return [Upsert(stand_in)]

    def _end(self, version: str) -> list[Change]:
        seen, self._seen = self._seen or set(), None
        self.version = version
        self.listed = True
        gone = [*(self._known.keys() - seen), *(key for key in self.told if key not in seen and key not in self._known)]
        for key in [key for key in self.problems if isinstance(key, Key) and key not in seen]:
            del self.problems[key]
        return [change for key in gone for change in self._delete(key)]

    def _upsert(self, item: Mapping[str, Any]) -> list[Change]:
        key = self._key(item)
        if not self.keep(item):
            return self._delete(key)
        if key is not None and self.keeps_status:
            self.told[key] = Told.of(item)
            self.retold.add(key)
        try:
            read = slim(self.kind, item)
            if self.bare:
                # What is asked for is metadata, and comes as such (meta/v1, PartialObjectMetadata).
                version = "/".join(filter(None, (self.kind.GROUP, self.kind.VERSIONS[0])))
                read = {"apiVersion": version, "kind": self.kind.KIND, "metadata": read["metadata"], "spec": {}}
            decoded = decode(cast("Mapping[str, object]", read))
        except DecodeError as error:
            self.problems[key or str(error.key_text)] = f"{error}; the last good version serves on"
            return []
        if key is not None:
            self.problems.pop(key, None)
        if decoded.object is None:
            return []
        for path in decoded.ignored:
            self.ignored.setdefault(_INDEX.sub("[]", path), decoded.object.key)
        kept = trim(decoded.object)
        if self._known.get(kept.key) == kept:
            # Only what nobody reads has changed, such as a status of our own.
            return []
        self._known[kept.key] = kept
        return [Upsert(kept)]

    def _delete(self, key: Key | None) -> list[Change]:
        if key is None:
            return []
        self.told.pop(key, None)
        self.problems.pop(key, None)
        return [Delete(key)] if self._known.pop(key, None) is not None else []

    def _key(self, item: Mapping[str, Any]) -> Key | None:
        metadata = item.get("metadata") or {}
        name = metadata.get("name")
        if not isinstance(name, str):
            return None
        namespace = metadata.get("namespace", _DEFAULT_NAMESPACE) if self.kind.NAMESPACED else ""
        return Key(self.kind.GROUP, self.kind.KIND, namespace, name)

    def notices(self) -> Iterator[str]:
        """Yield a line for each field that is not read, once for the kind."""
        for path, key in sorted(self.ignored.items()):
            yield f"{key}: {path}: unknown field, ignored here and in others of its kind"
