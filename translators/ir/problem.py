"""Users' mistakes."""

from __future__ import annotations

from dataclasses import dataclass

ADVICE = ""
"""The condition of a problem that turns none False: what it is about works, but not as written."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A user's mistake, as a value.

    condition: the status condition that it turns False, or ADVICE. where: the field, from the object's root
    ("spec.rules[0]"), or "" for the object as a whole.
    """

    condition: str
    reason: str
    message: str
    where: str = ""

    def __str__(self) -> str:
        return f"{self.where}: {self.message}" if self.where else self.message
