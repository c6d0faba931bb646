"""The places of listeners in a file, so that a control plane which is restarted leaves every listener where it is."""

from collections.abc import Mapping
from pathlib import Path

import msgspec

from pointsman.placement import Placement


class _Entry(msgspec.Struct):
    gateway: str
    asked: int
    place: Placement


def load(file: Path) -> dict[tuple[str, int], Placement]:
    """Return the places in `file`; none when it is not there or not readable."""
    try:
        entries = msgspec.json.decode(file.read_bytes(), type=list[_Entry])
    except (OSError, msgspec.DecodeError):
        return {}
    return {(entry.gateway, entry.asked): entry.place for entry in entries}


def save(file: Path, places: Mapping[tuple[str, int], Placement]) -> None:
    """Replace the places in `file`, at once.  OSError when it cannot be written."""
    draft = file.with_name(f".{file.name}.tmp")
    draft.write_bytes(
        msgspec.json.encode([_Entry(gateway, asked, place) for (gateway, asked), place in places.items()])
    )
    draft.replace(file)
