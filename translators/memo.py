"""What was built for an equal input is built once: the memory of one translation for the next.

A function that is remembered sees nothing but its arguments, which are the key. Only what the last translation used is
kept, so the memory never outgrows the World. Where looking at every argument would be too much, as with ten thousand
routes, a part of the translation keeps a memory of its own, which works on what is different.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Concatenate, ParamSpec, TypeVar, cast

A = ParamSpec("A")
R = TypeVar("R")
S = TypeVar("S")


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

    def same(self, function: Callable[Concatenate[S, A], R], subject: S, *args: A.args, **kwargs: A.kwargs) -> R:
        """Return the same, where the first argument is known to stay the very same object while it is equal."""
        key = (function, id(subject), args) if not kwargs else (function, id(subject), args, *sorted(kwargs.items()))
        entry = self._next.get(key)
        if entry is None:
            entry = self._last.get(key)
            if entry is None:
                # The subject is kept beside the result, lest another object gets its id.
                entry = (subject, function(subject, *args, **kwargs))
            self._next[key] = entry
        return cast("tuple[S, R]", entry)[1]

    def each(
        self, function: Callable[Concatenate[S, A], R], subjects: Sequence[S], *args: A.args, **kwargs: A.kwargs
    ) -> list[R]:
        """Return what `same` would for each of many, which takes less time.

        A translation may call it once for a function and the arguments behind its subjects.
        """
        key = (function, "each", args, *sorted(kwargs.items()))
        last = cast("dict[int, tuple[S, R]]", self._last.get(key, {}))
        found = [last.get(id(each)) or (each, function(each, *args, **kwargs)) for each in subjects]
        self._next[key] = {id(entry[0]): entry for entry in found}
        return [result for _, result in found]

    def place(self, make: Callable[[], R], *name: Hashable) -> R:
        """Return what a part of the translation keeps from one time to the next: at first what `make` makes."""
        key = (make, "place", name)
        found = self._next.get(key)
        if found is None:
            found = self._last.get(key)
            if found is None:
                found = make()
            self._next[key] = found
        return cast("R", found)

    def turn(self) -> None:
        """End a translation: what it did not use is forgotten."""
        self._last, self._next = self._next, {}

    def forget(self) -> None:
        """Forget everything: a translation that broke off may have left memories that do not fit together."""
        self._last, self._next = {}, {}
