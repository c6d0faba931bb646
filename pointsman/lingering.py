"""Backends that no route refers to any more, served a while longer.  Pure: the clock's readings are arguments.

Envoy looks a request's cluster up when it goes out, not when its route is chosen: in between its body may arrive, and
the picker thinks.  A cluster that went as soon as the new routes are in place would cost such requests a 500.
"""

from collections.abc import Iterable

from xds import Sealed

SECONDS = 30.0
"""How long a backend stays."""

_PREFIX = "type.googleapis.com/"
_BACKENDS = {
    _PREFIX + "envoy.config.cluster.v3.Cluster",
    _PREFIX + "envoy.config.endpoint.v3.ClusterLoadAssignment",
    _PREFIX + "pointsman.picker.v1.Pool",
}


class Lingering:
    """What was published last, and since when nothing refers to what is left of earlier times."""

    def __init__(self, seconds: float = SECONDS) -> None:
        self._seconds = seconds
        self._current: dict[tuple[str, str], Sealed] = {}
        self._gone: dict[tuple[str, str], tuple[float, Sealed]] = {}

    def add(self, published: Iterable[Sealed], now: float) -> tuple[Sealed, ...]:
        """Take what is to be published at `now` (seconds); return it with what lingers."""
        current = {(each.type_url, each.name): each for each in published}
        for key, sealed in self._current.items():
            if key not in current and sealed.type_url in _BACKENDS:
                self._gone[key] = (now, sealed)
        self._gone = {
            key: (since, sealed)
            for key, (since, sealed) in self._gone.items()
            if key not in current and now - since < self._seconds
        }
        self._current = current
        return (*current.values(), *(sealed for _, sealed in self._gone.values()))

    def due(self, now: float) -> float | None:
        """Return in how many seconds something stops to linger; None when nothing does."""
        if not self._gone:
            return None
        return max(0.0, min(since for since, _ in self._gone.values()) + self._seconds - now)
