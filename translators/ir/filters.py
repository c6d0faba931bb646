"""What a rule does to requests and answers beside routing them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal


@dataclass(frozen=True, slots=True)
class HeaderValue:
    """A header's value, in place of those that are there or beside them; the name is in lower case."""

    name: str
    value: str
    beside: bool = False


@dataclass(frozen=True, slots=True)
class HeaderChanges:
    """Headers to remove, in lower case, and then those to write, in this order."""

    remove: tuple[str, ...] = ()
    write: tuple[HeaderValue, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.remove or self.write)

    def then(self, later: HeaderChanges) -> HeaderChanges:
        """Return these changes and later ones as one."""
        if not later or not self:
            return later or self
        kept = tuple(each for each in self.write if each.name not in later.remove)
        return HeaderChanges(tuple(dict.fromkeys((*self.remove, *later.remove))), (*kept, *later.write))


NO_CHANGES = HeaderChanges()


@dataclass(frozen=True, slots=True)
class PathChange:
    """A path in place of the whole path or of a prefix of it; prefixes have no slash at their end."""

    kind: Literal["whole", "prefix"]
    value: str
    prefix: str = ""


@dataclass(frozen=True, slots=True)
class Redirect:
    """An answer that sends the client elsewhere; what is None is as in the request."""

    status: int
    scheme: Literal["http", "https"] | None = None
    hostname: str | None = None
    port: int | None = None
    path: PathChange | None = None

    def on(self, port: int, *, tls: bool) -> Redirect:
        """Return what the redirect means on a listener's port.

        Without a port of its own it leads to that of its scheme or, without a scheme, to the listener's. A port that
        goes without saying is not said (HTTPRequestRedirectFilter.port), unless it takes the place of another one that
        the client wrote behind the host.
        """
        own = "https" if tls else "http"
        scheme = self.scheme or own
        wanted = self.port or (_WELL_KNOWN[scheme] if self.scheme else port)
        replaces = self.hostname is None and wanted != port and port != _WELL_KNOWN[own]
        return replace(self, port=wanted if wanted != _WELL_KNOWN[scheme] or replaces else None)


_WELL_KNOWN = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class UrlRewrite:
    """The host and the path that a backend sees; what is None is as in the request."""

    hostname: str | None = None
    path: PathChange | None = None


@dataclass(frozen=True, slots=True)
class Cors:
    """What scripts of other origins may do; "*" stands for everything. max_age: seconds."""

    origins: tuple[str, ...]
    methods: tuple[str, ...]
    headers: tuple[str, ...]
    exposed: tuple[str, ...]
    max_age: int
    credentials: bool
