"""The folder source: manifests in folders, read and watched.

What a half-written file says is not taken for what its author means: news that would be bad (a complaint, an object
gone, an object there twice) is believed once the file has been left alone for a moment. Good news is believed at once.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sources.bell import Bell
from sources.entries import Entry, complain, keep_last_good, read_entries
from sources.holders import Holders, Newest, keys_of
from sources.ledger import Ledger, are_sound
from sources.listing import Listing, Stamp, list_files
from sources.readings import AnyNotice, AnyProblem, FileProblem, Reading

# Seconds for which a file must be left alone before bad news from it is believed, and between looks until then.
SETTLE = 0.2
RETRY = 0.04
# Seconds between looks without any event: links out of the folder, network mounts and lost events have none.
POLL = 1.0
# The share of time that such looks may take.
_POLL_SHARE = 0.02
# Seconds within which a file's time of change may not tell two writes apart.
_TICK = 0.02
_MAX_BYTES = 64 * 2**20


@dataclass(frozen=True, slots=True)
class _File:
    """A file as it was taken in; the stamp is None where it must be read again. `place` orders the files."""

    place: tuple[int, tuple[str, ...]]
    stamp: Stamp | None
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class _Pending:
    """A version of a file that is not believed yet; without a stamp, the file is gone. `since` is monotonic."""

    stamp: Stamp | None
    entries: tuple[Entry, ...]
    since: float


_Edit = tuple[Sequence[Entry], Sequence[Entry]]


@dataclass(frozen=True, slots=True)
class _Now:
    """The time of a look: in seconds on a clock that nobody sets, and in nanoseconds on the one that stamps files."""

    monotonic: float
    wall: int

    def age(self, stamp: Stamp) -> float:
        """Give the seconds since a file changed, negative for a change after the look began."""
        return (self.wall - stamp.modified) / 1e9


@dataclass(frozen=True, slots=True)
class _Look:
    """What one look at the folders brought. `everywhere`: whether it was one at all files."""

    reading: Reading
    settled: bool
    seconds: float
    everywhere: bool


class FolderSource:
    """Objects from the manifests in folders; of an object that two folders have, the earlier folder's stays.

    `settle` is the time in seconds for which a file must be left alone before bad news from it is believed.
    """

    def __init__(self, folders: Sequence[Path], settle: float = SETTLE) -> None:
        self._settle = settle
        self._folders = tuple(folders)
        self._files: dict[Path, _File] = {}
        self._pending: dict[Path, _Pending] = {}
        # Files that must be read again, since another write could have left their stamps as they are.
        self._unsure: set[Path] = set()
        self._listing: Listing | None = None
        self._unread: list[FileProblem] = []
        self._holders = Holders()
        self._ledger = Ledger()

    def read(self) -> Reading:
        """Read the folders: all objects the first time, and what is different each time after.

        Waits up to a second for a file that is being written.
        """
        deadline = time.monotonic() + 1.0
        changes: list[Reading] = []
        while True:
            look = self._look(patient=time.monotonic() < deadline)
            changes.append(look.reading)
            if look.settled:
                return Reading(
                    tuple(change for reading in changes for change in reading.changes),
                    look.reading.problems,
                    look.reading.notices,
                )
            time.sleep(RETRY)

    async def watch(self, stop: asyncio.Event) -> AsyncIterator[Reading]:
        """Deliver a reading whenever anything is different, until `stop` is set."""
        problems: tuple[AnyProblem, ...] = self._ledger.problems
        notices: tuple[AnyNotice, ...] = self._ledger.notices
        async with Bell(self._folders, stop) as bell:
            wait, due = RETRY, 0.0
            while not stop.is_set():
                changed = await bell.wait(wait)
                if stop.is_set():
                    return
                everywhere = time.monotonic() >= due
                look = await asyncio.to_thread(self._look, patient=True, changed=None if everywhere else changed)
                if look.everywhere:
                    due = time.monotonic() + max(POLL, look.seconds / _POLL_SHARE)
                wait = max(0.0, due - time.monotonic()) if look.settled else RETRY
                bell.follow()
                reading = look.reading
                if reading.changes or (reading.problems, reading.notices) != (problems, notices):
                    problems, notices = reading.problems, reading.notices
                    yield reading

    def _look(self, *, patient: bool, changed: frozenset[Path] | None = None) -> _Look:
        """Look at the stamps of files, read those that are new, and take in what may be believed.

        changed: the files to look at beside those that are not settled; None for all that there are.
        """
        now = _Now(time.monotonic(), time.time_ns())
        few = {*(changed or ()), *self._pending, *self._unsure}
        glance = self._listing.again(few) if changed is not None and self._listing is not None else None
        listing = self._listing = glance if glance is not None else list_files(self._folders, self._listing)
        among = few if glance is not None else {**dict.fromkeys(listing.files), **dict.fromkeys(self._files)}
        fresh = self._fresh(listing, now, among)
        edits = self._take_in(fresh, now, patient=patient)
        settled = not (self._pending or self._unsure)
        unread = _unread(listing)
        reading = self._take_stock(edits, unread) if edits or unread != self._unread else self._as_it_was()
        self._unread = unread
        return _Look(reading, settled, time.monotonic() - now.monotonic, everywhere=glance is None)

    def _take_in(self, fresh: Mapping[Path, _Pending], now: _Now, *, patient: bool) -> dict[Path, _Edit]:
        """Take in the versions that may be believed; give the entries of their files before and after."""
        self._pending = {}
        edits: dict[Path, _Edit] = {}
        newest = Newest(self._holders, {path: version.entries for path, version in fresh.items()})
        for path, version in fresh.items():
            known = self._files.get(path)
            before: Sequence[Entry] = known.entries if known is not None else ()
            doubtful = _is_doubtful(path, before, newest)
            if patient and doubtful and not _left_alone(version, now, self._settle):
                self._pending[path] = version
                continue
            self._unsure.discard(path)
            if version.stamp is None:
                del self._files[path]
                edits[path] = (before, ())
                continue
            entries = keep_last_good(before, version.entries)
            # Another write within the same tick of the file system's clock would leave the stamp as it is.
            stamp = version.stamp if not patient or now.age(version.stamp) >= _TICK else None
            if stamp is None:
                self._unsure.add(path)
            self._files[path] = _File(self._place(path), stamp, entries)
            edits[path] = (before, entries)
        for path, (before, after) in edits.items():
            self._holders.replace(path, before, after)
        return edits

    def _fresh(self, listing: Listing, now: _Now, among: Iterable[Path]) -> dict[Path, _Pending]:
        """Give the versions of files, among these, that have not been taken in."""
        fresh: dict[Path, _Pending] = {}
        for path in among:
            stamp, known, pending = listing.files.get(path), self._files.get(path), self._pending.get(path)
            if stamp is None:
                if known is not None and not listing.may_have(path):
                    since = pending.since if pending is not None and pending.stamp is None else now.monotonic
                    fresh[path] = _Pending(None, (), since)
            elif known is not None and known.stamp == stamp:
                continue
            elif pending is not None and pending.stamp == stamp:
                # A write that leaves size and time as they were can hide behind the same stamp.
                entries = _read(path) if now.age(stamp) < self._settle else pending.entries
                fresh[path] = _Pending(stamp, entries, pending.since)
            else:
                fresh[path] = _Pending(stamp, _read(path), now.monotonic)
        return fresh

    def _take_stock(self, edits: Mapping[Path, _Edit], unread: Sequence[FileProblem]) -> Reading:
        """Balance the ledger over the files taken in."""
        if unread == self._unread and all(self._is_plain(path, edit) for path, edit in edits.items()):
            self._ledger, reading = self._ledger.amend(edits.values())
            return reading
        ordered = sorted(self._files, key=lambda path: self._files[path].place)
        files = {path: self._files[path].entries for path in ordered}
        self._ledger, reading = self._ledger.balance(files, unread)
        return reading

    def _is_plain(self, path: Path, edit: _Edit) -> bool:
        """Whether an edit can make no difference to anything but the objects in it."""
        return all(
            are_sound(entries) and all({path}.issuperset(self._holders.of(key)) for key in keys_of(entries))
            for entries in edit
        )

    def _as_it_was(self) -> Reading:
        return Reading((), self._ledger.problems, self._ledger.notices)

    def _place(self, path: Path) -> tuple[int, tuple[str, ...]]:
        """Where a file stands in the order of precedence: folder by folder, sorted by path within one."""
        homes = (index for index, folder in enumerate(self._folders) if folder in path.parents)
        return next(homes, len(self._folders)), path.parts


def _is_doubtful(path: Path, before: Sequence[Entry], newest: Newest) -> bool:
    """Whether a version of a file is bad news: a complaint, an object gone, or one that another file has as well."""
    entries = newest.entries(path)
    if any(entry.complaint is not None for entry in entries):
        return True
    had, has = keys_of(before), keys_of(entries)
    lost = any(not newest.have(key, path) for key in had - has)
    double = any(newest.have(key, path) for key in has - had)
    return lost or double or len(has) < sum(entry.object is not None for entry in entries)


def _left_alone(version: _Pending, now: _Now, settle: float) -> bool:
    """Whether nobody has touched a version for a while, by the file's own time or by ours."""
    by_file = version.stamp is not None and now.age(version.stamp) >= settle
    return by_file or now.monotonic - version.since >= settle


def _read(path: Path) -> tuple[Entry, ...]:
    try:
        if path.stat().st_size > _MAX_BYTES:
            return (complain(1, f"cannot be read: it is larger than {_MAX_BYTES // 2**20} MiB"),)
        content = path.read_bytes()
    except OSError as error:
        return (complain(1, f"cannot be read: {error.strerror or type(error).__name__}"),)
    return read_entries(content, as_json=path.suffix == ".json")


def _unread(listing: Listing) -> list[FileProblem]:
    return [
        FileProblem(folder, 0, f"cannot be read: {reason}; what was read from it before stays")
        for folder, reason in listing.unread.items()
    ]
