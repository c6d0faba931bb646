"""The inputs of a translation as one immutable value."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TypeVar, cast

from resources.meta import Key, Object

Name = tuple[str, str]
Table = Mapping[Name, Object]
K = TypeVar("K", bound=Object)


@dataclass(frozen=True, slots=True)
class Upsert:
    """An object is there, or is there in another form."""

    object: Object


@dataclass(frozen=True, slots=True)
class Delete:
    """An object is gone."""

    key: Key


_NOTHING: Table = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class World:
    """All objects, by kind and then by (namespace, name); the namespace of a cluster-scoped object is "".

    Tables are in order of their keys, whatever the order in which the objects arrived. What has not changed stays the
    same object from one World to the next: objects, tables, and the World itself.
    """

    _tables: Mapping[tuple[str, str], Table] = field(default_factory=dict)

    def all(self, kind: type[K]) -> Mapping[Name, K]:
        """Every object of a kind."""
        return cast("Mapping[Name, K]", self._tables.get((kind.GROUP, kind.KIND), _NOTHING))

    def get(self, kind: type[K], namespace: str, name: str) -> K | None:
        """One object; None if there is none."""
        return self.all(kind).get((namespace, name))

    def differs_only_in(self, kinds: Iterable[type[Object]], other: "World") -> bool:
        """Whether all tables but those of some kinds are the same objects in another World."""
        mine, theirs = self._tables, other._tables  # noqa: SLF001 - of this class
        tables = (mine.keys() | theirs.keys()) - {(kind.GROUP, kind.KIND) for kind in kinds}
        return all(mine.get(each) is theirs.get(each) for each in tables)

    def changed(self, kind: type[Object], other: "World") -> set[Name]:
        """Return the names of a kind under which another World has not the same object."""
        mine, theirs = self.all(kind), other.all(kind)
        if mine is theirs:
            return set()
        changed = {name for name, item in mine.items() if theirs.get(name) is not item}
        return changed | (theirs.keys() - mine.keys())

    def apply(self, changes: Iterable[Upsert | Delete]) -> "World":
        """Give the World after these changes, of which a later one wins over an earlier one for the same key."""
        touched: dict[tuple[str, str], dict[Name, Object | None]] = {}
        for change in changes:
            key = change.object.key if isinstance(change, Upsert) else change.key
            edits = touched.setdefault((key.group, key.kind), {})
            edits[key.namespace, key.name] = change.object if isinstance(change, Upsert) else None
        tables = dict(self._tables)
        for kind, edits in touched.items():
            table = _edited(self._tables.get(kind, _NOTHING), edits)
            if table:
                tables[kind] = table
            else:
                tables.pop(kind, None)
        if all(tables.get(kind) is self._tables.get(kind) for kind in touched):
            return self
        return World(tables)


def _edited(table: Table, edits: Mapping[Name, Object | None]) -> Table:
    """Copy a table with edits made; the same table if none of them changes it."""
    real = {name: item for name, item in edits.items() if table.get(name) != item}
    if not real:
        return table
    # A proxy's own copy is that of the dict behind it, which is ten times as fast as going through its items.
    result = table.copy() if isinstance(table, MappingProxyType) else dict(table)
    for name, item in real.items():
        if item is None:
            del result[name]
        else:
            result[name] = item
    added = any(name not in table for name in real)
    return MappingProxyType(dict(sorted(result.items(), key=lambda entry: entry[0])) if added else result)
