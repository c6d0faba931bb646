"""When to try again what failed. Pure: the time, in seconds of any clock that does not go back, is an argument."""

from collections.abc import Collection, Hashable

_LONGEST = 300.0


class Backoff:
    """Doubles the wait with every failure, from `first` seconds to five minutes."""

    def __init__(self, first: float) -> None:
        self._first = first
        self._failures: dict[Hashable, tuple[int, float]] = {}  # how many, and when to try again

    def failed(self, key: Hashable, now: float) -> float:
        """Note a failure; return the seconds to wait."""
        count = self._failures.get(key, (0, 0.0))[0]
        wait = min(self._first * 2.0 ** min(count, 32), _LONGEST)
        self._failures[key] = (count + 1, now + wait)
        return wait

    def may_try(self, key: Hashable, now: float) -> bool:
        """Whether the wait is over."""
        return key not in self._failures or now >= self._failures[key][1]

    def keep(self, keys: Collection[Hashable]) -> None:
        """Forget the failures of everything but `keys`."""
        self._failures = {key: entry for key, entry in self._failures.items() if key in keys}
