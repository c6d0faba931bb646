"""Durations as the Gateway API writes them (GEP-2257): up to four numbers with units, like "1h30m" or "500ms"."""

import re
from typing import ClassVar, Self

_WHOLE = re.compile(r"([0-9]{1,5}(h|m|s|ms)){1,4}")
_PART = re.compile(r"([0-9]{1,5})(ms|h|m|s)")
_MILLISECONDS = {"h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}


class Duration(int):
    """A length of time in milliseconds; an int in every other respect."""

    __slots__ = ()

    PATTERN: ClassVar[str] = _WHOLE.pattern
    """What `parse` reads, for schemas."""

    @classmethod
    def parse(cls, value: object) -> Self:
        """Read "24h", "1h30m", "500ms"; ValueError or TypeError says what is wrong."""
        if not isinstance(value, str):
            raise TypeError(f"expected a duration like 1h30m, got {type(value).__name__}")
        if _WHOLE.fullmatch(value) is None:
            raise ValueError(f"expected a duration like 1h30m or 500ms, got {value!r}")
        return cls(sum(int(number) * _MILLISECONDS[unit] for number, unit in _PART.findall(value)))

    def __repr__(self) -> str:
        return f"Duration({int(self)})"

    def __str__(self) -> str:
        """Write the same length of time as `parse` reads it."""
        rest, parts = int(self), []
        for unit, size in _MILLISECONDS.items():
            count, rest = divmod(rest, size)
            if count:
                parts.append(f"{count}{unit}")
        return "".join(parts) or "0s"
