"""What was built for an equal input is built once: the memory of one translation for the next.

A function that is remembered sees nothing but its arguments, which are the key. Only what the last translation used is
kept, so the memory never outgrows the World.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import ParamSpec, TypeVar, cast

A = ParamSpec("A")
R = TypeVar("R")


class Memo:
    """Results by function and arguments, in two generations."""

    def __init__(self) -> None:
        self._last: dict[Hashable, object] = {}
        self._next: dict[Hashable, object] = {}

    def __call__(self, function: Callable[A, R], *args: A.args, **kwargs: A.kwargs) -> R:
        """Return what the function returned for equal arguments, the very same object, or call it."""
        key = (function, args, tuple(sorted(kwargs.items())))
        found = self._next.get(key)
        if found is None:
            found = self._last.get(key)
            if found is None:
                found = function(*args, **kwargs)
            self._next[key] = found
        return cast("R", found)

    def turn(self) -> None:
        """End a translation: what it did not use is forgotten."""
        self._last, self._next = self._next, {}
