"""Which requests a rule takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class StringMatch:
    """A header or query parameter, by exact value or by regular expression (RE2, the whole value)."""

    name: str
    kind: Literal["Exact", "RegularExpression"]
    value: str


@dataclass(frozen=True, slots=True)
class PathMatch:
    """HTTPPathMatch of Gateway API; a PathPrefix matches whole path elements."""

    kind: Literal["Exact", "PathPrefix", "RegularExpression"]
    value: str

    def covers(self, path: str) -> bool:
        """Whether a request for `path` matches. Not for regular expressions, which only Envoy can judge: False."""
        if self.kind == "Exact":
            return path == self.value
        if self.kind == "PathPrefix":
            prefix = self.value.rstrip("/")
            return path == prefix or path.startswith(prefix + "/")
        return False


@dataclass(frozen=True, slots=True)
class Match:
    """One HTTPRouteMatch without its condition on the model."""

    path: PathMatch
    headers: tuple[StringMatch, ...] = ()
    query: tuple[StringMatch, ...] = ()
    method: str | None = None
