"""Which files of the folders hold manifests, and a stamp of each that changes when the file does."""

import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

SUFFIXES = (".yaml", ".yml", ".json")


class Stamp(NamedTuple):
    """Tells one version of a file from another. Times in nanoseconds."""

    device: int
    inode: int
    size: int
    modified: int


@dataclass(frozen=True, slots=True)
class Listing:
    """The files in order of precedence: folder by folder, sorted by path within one.

    `unread` are the folders that could not be listed, with the reason: what was below them may still be there.
    `folders` are all that were. `links` are the entries that stand for others, wherever those are. `paths` are those of
    the files by their text: one listing after the other has the very same, which need not be hashed and compared.
    """

    files: dict[Path, Stamp] = field(default_factory=dict)
    unread: dict[Path, str] = field(default_factory=dict)
    folders: set[Path] = field(default_factory=set)
    links: set[Path] = field(default_factory=set)
    paths: dict[str, Path] = field(default_factory=dict)

    def may_have(self, path: Path) -> bool:
        """Whether the listing cannot tell that a file is gone."""
        return any(folder in path.parents for folder in self.unread)

    def again(self, paths: Iterable[Path]) -> "Listing | None":
        """Give the listing after changes at these paths; None where that takes another look at all folders."""
        if self.unread or self.links:
            return None
        stamps: dict[Path, Stamp] = {}
        for path in paths:
            if path in self.files:
                try:
                    status = path.lstat()
                except OSError:
                    return None
                if not stat.S_ISREG(status.st_mode):
                    return None
                stamps[path] = _stamp(status)
            elif self._could_bring(path):
                return None
        return Listing({**self.files, **stamps}, folders=self.folders, paths=self.paths)

    def _could_bring(self, path: Path) -> bool:
        """Whether a path that is no manifest known so far could be one, or a folder, now or before."""
        if path in self.folders:
            return True
        return not _hidden(path.name) and (path.name.endswith(SUFFIXES) or path.is_dir())


def list_files(folders: Sequence[Path], last: Listing | None = None) -> Listing:
    """List the manifests below the folders. A file that can be reached in two ways counts once.

    `last` is the listing before, from which nothing but paths is taken.
    """
    listing = Listing()
    known = {} if last is None else last.paths
    seen: set[tuple[int, int]] = set()
    for folder in folders:
        if not folder.exists():
            listing.unread[folder] = "no such folder"
            continue
        found: dict[Path, Stamp] = {}
        _walk(folder, found, listing, seen, known)
        for path, stamp in found.items():
            if (stamp.device, stamp.inode) not in seen:
                seen.add((stamp.device, stamp.inode))
                listing.files[path] = stamp
    return listing


def _walk(
    folder: Path,
    found: dict[Path, Stamp],
    listing: Listing,
    seen: set[tuple[int, int]],
    known: Mapping[str, Path],
) -> None:
    """Find the manifests below a folder, in order of their paths."""
    try:
        status = folder.stat()
        # Links between folders may go round in circles.
        if (status.st_dev, status.st_ino) in seen:
            return
        seen.add((status.st_dev, status.st_ino))
        with os.scandir(folder) as scan:
            entries = sorted(scan, key=lambda entry: entry.name)
    except FileNotFoundError:
        # The folder went away between being listed and being looked at.
        return
    except OSError as error:
        listing.unread[folder] = error.strerror or type(error).__name__
        return
    listing.folders.add(folder)
    for entry in entries:
        if not _hidden(entry.name):
            _visit(entry, folder, found, listing, seen, known)


def _visit(
    entry: os.DirEntry[str],
    folder: Path,
    found: dict[Path, Stamp],
    listing: Listing,
    seen: set[tuple[int, int]],
    known: Mapping[str, Path],
) -> None:
    try:
        if entry.is_symlink():
            listing.links.add(folder / entry.name)
        if entry.is_dir():
            _walk(folder / entry.name, found, listing, seen, known)
        elif entry.name.endswith(SUFFIXES) and entry.is_file():
            path = known.get(entry.path) or folder / entry.name
            found[path] = _stamp(entry.stat())
            listing.paths[entry.path] = path
    except OSError:
        # The file went away between being listed and being looked at.
        return


def _stamp(status: os.stat_result) -> Stamp:
    return Stamp(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


def _hidden(name: str) -> bool:
    """Whether a name is that of a hidden file or of what editors leave beside the file being edited."""
    return name.startswith((".", "#")) or name.endswith("~")
