"""Volumes as folders of this machine, updated as the kubelet does it: all files of a ConfigMap change at once.

The files are links through `..data`, itself a link to the folder of the present version, which is replaced.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

_DATA = "..data"


class VolumeFolder:
    """One volume at a path."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._version = 0
        self._files: dict[str, bytes] | None = None

    def write(self, files: Mapping[str, bytes]) -> None:
        """Make these the volume's files. Raises OSError."""
        wanted = {name: content for name, content in files.items() if _is_inside(name)}
        if wanted == self._files:
            return
        self._version += 1
        version = self._path / f"..{self._version}"
        version.mkdir(parents=True)
        for name, content in wanted.items():
            file = version / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        draft = self._path / f"{_DATA}_tmp"
        draft.symlink_to(version.name)
        draft.replace(self._path / _DATA)
        self._link({PurePosixPath(name).parts[0] for name in wanted})
        shutil.rmtree(self._path / f"..{self._version - 1}", ignore_errors=True)
        self._files = wanted

    def _link(self, names: set[str]) -> None:
        """Have a link for each file or folder, and no other."""
        for entry in self._path.iterdir():
            if not entry.name.startswith("..") and entry.name not in names:
                entry.unlink()
        for name in names:
            link = self._path / name
            if not link.is_symlink():
                link.symlink_to(f"{_DATA}/{name}")


def _is_inside(name: str) -> bool:
    # As the API server demands of ConfigMaps' keys and of the paths of items.
    path = PurePosixPath(name)
    return bool(path.parts) and not path.is_absolute() and not any(part.startswith("..") for part in path.parts)
