"""Which files have which objects. Pure."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from resources import Key
from sources.entries import Entry


def keys_of(entries: Iterable[Entry]) -> set[Key]:
    """Return the objects that entries have."""
    return {entry.key for entry in entries if entry.key is not None and entry.object is not None}


class Holders:
    """The files that were taken in, by the objects that they have."""

    def __init__(self) -> None:
        self._paths: dict[Key, set[Path]] = {}

    def replace(self, path: Path, before: Sequence[Entry], after: Sequence[Entry]) -> None:
        """Take a file's new entries for its earlier ones."""
        had, has = keys_of(before), keys_of(after)
        for key in had - has:
            paths = self._paths[key]
            paths.discard(path)
            if not paths:
                del self._paths[key]
        for key in has - had:
            self._paths.setdefault(key, set()).add(path)

    def of(self, key: Key) -> Collection[Path]:
        """Return the files that have an object."""
        return self._paths.get(key, ())


class Newest:
    """Which files have which objects by their newest versions, those that have not been taken in among them."""

    def __init__(self, taken_in: Holders, versions: Mapping[Path, Sequence[Entry]]) -> None:
        self._taken_in = taken_in
        self._versions = versions
        self._fresh = Holders()
        for path, entries in versions.items():
            self._fresh.replace(path, (), entries)

    def entries(self, path: Path) -> Sequence[Entry]:
        """Return a file's entries, of those that have not been taken in."""
        return self._versions[path]

    def have(self, key: Key, beside: Path) -> bool:
        """Tell whether another file than this one has an object."""
        taken_in = (path for path in self._taken_in.of(key) if path not in self._versions)
        return any(path != beside for path in (*taken_in, *self._fresh.of(key)))
