"""Resources in the form in which they are sent, and the immutable set of those that a group of clients should hold."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from types import MappingProxyType

import betterproto2
from google.protobuf.message import Message as UpbMessage

from xds.encoder import encode

_NOTHING: Mapping[str, "Sealed"] = MappingProxyType({})
# 96 bits: among a billion bodies, two are confused with a probability of about 1e-11.
_VERSION_BYTES = 12


@dataclass(frozen=True, slots=True)
class Sealed:
    """One resource, encoded: its version is a hash of its bytes, so that equal meaning has an equal version."""

    type_url: str
    name: str
    # May hold a private key.
    body: bytes = field(repr=False)
    version: str
    # The Kubernetes object to name when a client rejects the resource.
    origin: str
    # (type_url, name) of the resource that a client must be sent again after it took in a change of this one.
    pulls: tuple[str, str] | None = None
    # What the body was made of, for people to tell one version from another.
    message: betterproto2.Message | UpbMessage | None = field(default=None, repr=False, compare=False)


def seal(
    type_url: str,
    name: str,
    message: betterproto2.Message | UpbMessage,
    origin: str,
    pulls: tuple[str, str] | None = None,
) -> Sealed:
    """Encode a message, which must not be changed afterwards, as the resource of that type and name."""
    body = encode(message)
    version = blake2b(body, digest_size=_VERSION_BYTES).hexdigest()
    return Sealed(type_url, name, body, version, origin, pulls, message)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a group of clients should hold, by type URL and then by name.

    `withheld` are (type URL, name) of resources that exist and are not shown yet: nothing is said of them.
    """

    tables: Mapping[str, Mapping[str, Sealed]]
    withheld: frozenset[tuple[str, str]] = frozenset()

    @classmethod
    def of(cls, resources: Iterable[Sealed]) -> "Snapshot":
        """Collect resources; raise ValueError when two of a type have one name."""
        tables: dict[str, dict[str, Sealed]] = {}
        for sealed in resources:
            other = tables.setdefault(sealed.type_url, {}).setdefault(sealed.name, sealed)
            if other is not sealed:
                raise ValueError(f"{sealed.type_url} {sealed.name} comes from {other.origin} and from {sealed.origin}")
        return cls(tables)

    def table(self, type_url: str) -> Mapping[str, Sealed]:
        """Return the resources of one type by name; empty when there are none."""
        return self.tables.get(type_url, _NOTHING)

    def get(self, type_url: str, name: str) -> Sealed | None:
        """Return one resource, or None."""
        return self.table(type_url).get(name)

    def withheld_names(self, type_url: str) -> frozenset[str]:
        """Return the names of the resources of one type that are withheld."""
        return frozenset(name for each, name in self.withheld if each == type_url)

    def with_table(self, type_url: str, table: Mapping[str, Sealed], *, withheld: Iterable[str] = ()) -> "Snapshot":
        """Return this snapshot with other resources of one type, some of them withheld."""
        return Snapshot({**self.tables, type_url: table}, frozenset((type_url, name) for name in withheld))

    def dangling(self) -> tuple[str, ...]:
        """Return a line for each resource that pulls one that is not here; a consistent snapshot has none."""
        return tuple(
            f"{sealed.name} of {sealed.origin} pulls {sealed.pulls[1]}, which is missing"
            for table in self.tables.values()
            for sealed in table.values()
            if sealed.pulls is not None and self.get(*sealed.pulls) is None
        )
