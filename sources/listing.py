"""Which files of the folders hold manifests, and a stamp of each that changes when the file does."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

SUFFIXES = (".yaml", ".yml", ".json")


@dataclass(frozen=True, slots=True)
class Stamp:
    """Tells one version of a file from another. Times in nanoseconds."""

    device: int
    inode: int
    size: int
    modified: int


@dataclass(frozen=True, slots=True)
class Listing:
    """The files in order of precedence: folder by folder, sorted by path within one.

    `unread` are the folders that could not be listed, with the reason: what was below them may still be there.
    """

    files: dict[Path, Stamp] = field(default_factory=dict)
    unread: dict[Path, str] = field(default_factory=dict)

    def may_have(self, path: Path) -> bool:
        """Whether the listing cannot tell that a file is gone."""
        return any(folder in path.parents for folder in self.unread)


def list_files(folders: Sequence[Path]) -> Listing:
    """List the manifests below the folders. A file that can be reached in two ways counts once."""
    listing = Listing()
    seen: set[tuple[int, int]] = set()
    for folder in folders:
        if not folder.exists():
            listing.unread[folder] = "no such folder"
            continue
        found: dict[Path, Stamp] = {}
        _walk(folder, found, listing.unread, seen)
        for path in sorted(found, key=lambda path: path.parts):
            stamp = found[path]
            if (stamp.device, stamp.inode) not in seen:
                seen.add((stamp.device, stamp.inode))
                listing.files[path] = stamp
    return listing


def _walk(folder: Path, found: dict[Path, Stamp], unread: dict[Path, str], seen: set[tuple[int, int]]) -> None:
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
        unread[folder] = error.strerror or type(error).__name__
        return
    for entry in entries:
        if not _hidden(entry.name):
            _visit(entry, folder, found, unread, seen)


def _visit(
    entry: os.DirEntry[str],
    folder: Path,
    found: dict[Path, Stamp],
    unread: dict[Path, str],
    seen: set[tuple[int, int]],
) -> None:
    try:
        if entry.is_dir():
            _walk(folder / entry.name, found, unread, seen)
        elif entry.name.endswith(SUFFIXES) and entry.is_file():
            status = entry.stat()
            found[folder / entry.name] = Stamp(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
    except OSError:
        # The file went away between being listed and being looked at.
        return


def _hidden(name: str) -> bool:
    """Whether a name is that of a hidden file or of what editors leave beside the file being edited."""
    return name.startswith((".", "#")) or name.endswith("~")
