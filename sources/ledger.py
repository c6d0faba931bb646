"""From what each file says to one set of objects: whose word counts where two files speak of the same object.

Pure: nothing here reads a file or a clock.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from resources import Delete, Key, Object, Pod, Upsert
from sources.entries import Entry
from sources.readings import FileProblem, Notice, Reading


@dataclass(frozen=True, slots=True)
class Ledger:
    """The objects in force, and the remarks on the files they came from."""

    objects: Mapping[Key, Object] = field(default_factory=dict)
    problems: tuple[FileProblem, ...] = ()
    notices: tuple[Notice, ...] = ()

    def balance(
        self,
        files: Mapping[Path, Sequence[Entry]],
        problems: Sequence[FileProblem] = (),
    ) -> tuple["Ledger", Reading]:
        """Take stock of the files, in their order of precedence; give the new ledger and what is different in it.

        An object that is there twice stays as its first place has it, and takes over from the second when the first is
        gone. But a pod that runs is the one that another file asks for. An object equal to the one in force stays the
        same object.
        """
        claims = _claims(files)
        objects = {key: _same_or_new(self.objects.get(key), found) for key, (found, _, _) in claims.items()}
        ledger = Ledger(
            objects,
            tuple(sorted([*problems, *_complaints(files), *_doubles(files, claims)])),
            tuple(sorted(_notices(files))),
        )
        gone = (Delete(key) for key in self.objects if key not in objects)
        new = (Upsert(each) for key, each in objects.items() if each is not self.objects.get(key))
        return ledger, Reading((*gone, *new), ledger.problems, ledger.notices)

    def amend(self, edits: Iterable[tuple[Sequence[Entry], Sequence[Entry]]]) -> tuple["Ledger", Reading]:
        """Take over edits of files, each with its entries before and after; the same, but for sound ones only.

        All of the entries are sound, and no other place has any of their objects: nothing else can be different.
        """
        objects, changes = dict(self.objects), list[Upsert | Delete]()
        for before, after in edits:
            new = {entry.key: entry.object for entry in after if entry.key is not None and entry.object is not None}
            gone = [entry.key for entry in before if entry.key is not None and entry.key not in new]
            for key in gone:
                del objects[key]
            changes += map(Delete, gone)
            for key, found in new.items():
                if objects.get(key) != found:
                    objects[key] = found
                    changes.append(Upsert(found))
        ledger = Ledger(objects, self.problems, self.notices)
        return ledger, Reading(tuple(changes), ledger.problems, ledger.notices)


def are_sound(entries: Sequence[Entry]) -> bool:
    """Whether there is nothing to be said of entries, and they have each object once."""
    return all(_is_sound(entry) for entry in entries) and len({entry.key for entry in entries}) == len(entries)


def _is_sound(entry: Entry) -> bool:
    return entry.object is not None and not (entry.complaint or entry.remarks or entry.ignored_kind or entry.stale)


_Claim = tuple[Object, Path, int]


def _claims(files: Mapping[Path, Sequence[Entry]]) -> dict[Key, _Claim]:
    claims: dict[Key, _Claim] = {}
    for path, entries in files.items():
        for entry in entries:
            if entry.key is None or entry.object is None:
                continue
            held = claims.get(entry.key)
            if held is None or _fulfils(entry.object, held[0]):
                claims[entry.key] = (entry.object, path, entry.line)
    return claims


def _fulfils(one: Object, other: Object) -> bool:
    """Whether one is a pod that runs, and the other says no more than that there shall be one."""
    return isinstance(one, Pod) and isinstance(other, Pod) and bool(one.addresses) and not other.addresses


def _same_or_new(old: Object | None, new: Object) -> Object:
    return old if old is not None and old == new else new


def _complaints(files: Mapping[Path, Sequence[Entry]]) -> list[FileProblem]:
    return [
        FileProblem(path, entry.complaint.line, entry.complaint.message)
        for path, entries in files.items()
        for entry in entries
        if entry.complaint is not None
    ]


def _doubles(files: Mapping[Path, Sequence[Entry]], claims: Mapping[Key, _Claim]) -> list[FileProblem]:
    found = []
    for path, entries in files.items():
        for entry in entries:
            if entry.key is None or entry.object is None or entry.complaint is not None or entry.stale:
                continue
            stands, first, line = claims[entry.key]
            if (first, line) != (path, entry.line) and not _fulfils(stands, entry.object):
                message = f"{entry.key}: is in {first}:{line} already; that one stays and this one is left out"
                found.append(FileProblem(path, entry.line, message))
    return found


def _notices(files: Mapping[Path, Sequence[Entry]]) -> list[Notice]:
    """Name each unknown field, and each unknown kind once, where it stands first."""
    notices: list[Notice] = []
    kinds: set[str] = set()
    for path, entries in files.items():
        for entry in entries:
            notices += [Notice(path, remark.line, remark.message) for remark in entry.remarks]
            if entry.ignored_kind is not None and entry.ignored_kind not in kinds:
                kinds.add(entry.ignored_kind)
                notices.append(Notice(path, entry.line, f"{entry.ignored_kind}: unknown kind, ignored"))
    return notices
