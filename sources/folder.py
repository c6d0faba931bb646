"""The folder source: manifests in folders, read and watched.

What a half-written file says is not taken for what its author means: news that would be bad (a complaint, an object
gone, an object there twice) is believed once the file has been left alone for a moment. Good news is believed at once.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from resources import Key
from sources.bell import Bell
from sources.entries import Entry, complain, keep_last_good, read_entries
from sources.ledger import Ledger
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
    """What one look at the folders brought."""

    reading: Reading
    settled: bool
    seconds: float


class FolderSource:
    """Objects from the manifests in folders; of an object that two folders have, the earlier folder's stays.

    `settle` is the time in seconds for which a file must be left alone before bad news from it is believed.
    """

    def __init__(self, folders: Sequence[Path], settle: float = SETTLE) -> None:
        self._settle = settle
        self._folders = tuple(folders)
        self._files: dict[Path, _File] = {}
        self._pending: dict[Path, _Pending] = {}
        self._unread: list[FileProblem] = []
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
            wait = RETRY
            while not stop.is_set():
                await bell.wait(wait)
                if stop.is_set():
                    return
                look = await asyncio.to_thread(self._look, patient=True)
                wait = max(POLL, look.seconds / _POLL_SHARE) if look.settled else RETRY
                bell.follow()
                reading = look.reading
                if reading.changes or (reading.problems, reading.notices) != (problems, notices):
                    problems, notices = reading.problems, reading.notices
                    yield reading

    def _look(self, *, patient: bool) -> _Look:
        """Look at every file's stamp, read those that are new, and take in what may be believed."""
        now = _Now(time.monotonic(), time.time_ns())
        listing = list_files(self._folders)
        fresh = self._fresh(listing, now)
        settled = self._take_in(fresh, self._holders(listing, fresh), now, patient=patient) if fresh else True
        unread = _unread(listing)
        reading = self._take_stock(unread) if fresh or unread != self._unread else self._as_it_was()
        self._unread = unread
        return _Look(reading, settled, time.monotonic() - now.monotonic)

    def _take_in(
        self, fresh: Mapping[Path, _Pending], holders: Mapping[Key, set[Path]], now: _Now, *, patient: bool
    ) -> bool:
        """Take in the versions that may be believed; tell whether that was all, and for good."""
        self._pending = {}
        settled = True
        for path, version in fresh.items():
            before = self._files.get(path)
            doubtful = _is_doubtful(path, version, before, holders)
            if patient and doubtful and not _left_alone(version, now, self._settle):
                self._pending[path] = version
                settled = False
            elif version.stamp is None:
                del self._files[path]
            else:
                entries = keep_last_good(before.entries if before else (), version.entries)
                # Another write within the same tick of the file system's clock would leave the stamp as it is.
                stamp = version.stamp if not patient or now.age(version.stamp) >= _TICK else None
                self._files[path] = _File(self._place(path), stamp, entries)
                settled = settled and stamp is not None
        return settled

    def _fresh(self, listing: Listing, now: _Now) -> dict[Path, _Pending]:
        """Give the versions of files that have not been taken in."""
        fresh: dict[Path, _Pending] = {}
        for path, stamp in listing.files.items():
            known, pending = self._files.get(path), self._pending.get(path)
            if known is not None and known.stamp == stamp:
                continue
            if pending is not None and pending.stamp == stamp:
                # A write that leaves size and time as they were can hide behind the same stamp.
                entries = _read(path) if now.age(stamp) < self._settle else pending.entries
                fresh[path] = _Pending(stamp, entries, pending.since)
            else:
                fresh[path] = _Pending(stamp, _read(path), now.monotonic)
        for path in self._files:
            if path not in listing.files and not listing.may_have(path):
                pending = self._pending.get(path)
                since = pending.since if pending is not None and pending.stamp is None else now.monotonic
                fresh[path] = _Pending(None, (), since)
        return fresh

    def _holders(self, listing: Listing, fresh: Mapping[Path, _Pending]) -> dict[Key, set[Path]]:
        """Tell which files that are there have each object, by their newest versions."""
        holders: dict[Key, set[Path]] = {}
        for path in {**dict.fromkeys(self._files), **dict.fromkeys(listing.files)}:
            newest = fresh.get(path) or self._files.get(path)
            for key in _keys(newest.entries if newest else ()):
                holders.setdefault(key, set()).add(path)
        return holders

    def _take_stock(self, unread: Sequence[FileProblem]) -> Reading:
        """Balance the ledger over the files taken in."""
        ordered = sorted(self._files, key=lambda path: self._files[path].place)
        files = {path: self._files[path].entries for path in ordered}
        self._ledger, reading = self._ledger.balance(files, unread)
        return reading

    def _as_it_was(self) -> Reading:
        return Reading((), self._ledger.problems, self._ledger.notices)

    def _place(self, path: Path) -> tuple[int, tuple[str, ...]]:
        """Where a file stands in the order of precedence: folder by folder, sorted by path within one."""
        homes = (index for index, folder in enumerate(self._folders) if folder in path.parents)
        return next(homes, len(self._folders)), path.parts


def _keys(entries: Sequence[Entry]) -> set[Key]:
    return {entry.key for entry in entries if entry.key is not None and entry.object is not None}


def _is_doubtful(path: Path, version: _Pending, before: _File | None, holders: Mapping[Key, set[Path]]) -> bool:
    """Whether a version of a file is bad news: a complaint, an object gone, or one that another file has as well."""
    if any(entry.complaint is not None for entry in version.entries):
        return True
    had, has = _keys(before.entries if before else ()), _keys(version.entries)
    lost = any(not holders.get(key) for key in had - has)
    double = any(holders.get(key, set()) - {path} for key in has - had)
    return lost or double or len(has) < sum(entry.object is not None for entry in version.entries)


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
