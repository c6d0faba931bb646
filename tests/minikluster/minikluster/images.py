"""The image map: which process runs in place of a container image (see images.yaml)."""

import fnmatch
import os
import string
import sys
from pathlib import Path
from typing import Any

import yaml

from .config import CACHE, IMAGE_LIST, PACKAGE

Image = dict[str, Any]
"""An entry of an image map; images.yaml tells its keys."""


def _expand(value: Any, variables: dict[str, str]) -> Any:
    if isinstance(value, str):
        return string.Template(value).safe_substitute(variables)
    if isinstance(value, list):
        return [_expand(item, variables) for item in value]
    if isinstance(value, dict):
        return {key: _expand(item, variables) for key, item in value.items()}
    return value


class ImageMap:
    """The image maps given to `up` and our own; each is read again when it changes."""

    def __init__(self) -> None:
        self._loaded: dict[Path, tuple[float, list[Image]]] = {}

    def find(self, image: str) -> Image | None:
        """The first entry that matches an image's name."""
        given = IMAGE_LIST.read_text().splitlines() if IMAGE_LIST.exists() else []
        for path in [*map(Path, given), PACKAGE / "images.yaml"]:
            for entry in self._entries(path):
                if fnmatch.fnmatchcase(image, entry["match"]):
                    return entry
        return None

    def _entries(self, path: Path) -> list[Image]:
        changed = path.stat().st_mtime
        if path not in self._loaded or self._loaded[path][0] != changed:
            known = {"CACHE": str(CACHE), "TOOL": str(PACKAGE), "PYTHON": sys.executable, "HERE": str(path.parent)}
            loaded = yaml.safe_load(path.read_text()) or {}
            self._loaded[path] = changed, _expand(loaded.get("images", []), {**os.environ, **known})
        return self._loaded[path][1]
