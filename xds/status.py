"""What the server knows of its clients, as plain values."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self

from xds.snapshot import Sealed
from xds.stream import Stream
from xds.subscription import Rejection

PICKER = "picker"
ENVOY = "envoy"


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is at the other end of a stream, as its first request says."""

    node: str
    # The gateway: node.cluster.
    group: str
    # "envoy", or "picker" when the node's metadata says {"role": "picker"}.
    role: str
    # Such as "envoy"; empty when the client does not say.
    user_agent: str


@dataclass(frozen=True, slots=True)
class Nack:
    """A client's refusal of one resource."""

    peer: Peer
    type_url: str
    name: str
    version: str
    # The Kubernetes object that the resource was made for.
    origin: str
    message: str
    # What is refused, and what the client accepted of that name before, where that is known.
    refused: Sealed | None = field(default=None, repr=False, compare=False)
    held: Sealed | None = field(default=None, repr=False, compare=False)

    @classmethod
    def of(cls, peer: Peer, rejection: Rejection) -> Self:
        """Say whose it is."""
        sealed = rejection.sealed
        return cls(
            peer, sealed.type_url, sealed.name, sealed.version, sealed.origin, rejection.message, sealed, rejection.held
        )


NackHandler = Callable[[Nack], None]


@dataclass(frozen=True, slots=True)
class TypeStatus:
    """One type on one stream."""

    type_url: str
    # How many resources the client holds.
    held: int
    # Whether a response waits for its answer.
    outstanding: bool
    # How many resources remain to be sent or removed.
    pending: int


@dataclass(frozen=True, slots=True)
class ClientStatus:
    """One connected stream."""

    peer: Peer
    # Whether the client has accepted all that its group's snapshot has for it.
    in_sync: bool
    types: tuple[TypeStatus, ...]
    # The refusals in force: each names a version that the snapshot still has.
    nacks: tuple[Nack, ...]


def describe(peer: Peer, stream: Stream, *, in_sync: bool) -> ClientStatus:
    """Describe one connected stream."""
    return ClientStatus(peer, in_sync, tuple(_types(stream)), tuple(_nacks(peer, stream)))


def _types(stream: Stream) -> list[TypeStatus]:
    types = []
    for type_url, subscription in sorted(stream.subscriptions.items()):
        pending = subscription.pending()
        types.append(
            TypeStatus(
                type_url,
                held=len(subscription.held),
                outstanding=subscription.outstanding is not None,
                pending=len(pending.updates) + len(pending.removals) + len(pending.absent),
            )
        )
    return types


def _nacks(peer: Peer, stream: Stream) -> list[Nack]:
    return [
        Nack.of(peer, rejection)
        for _, subscription in sorted(stream.subscriptions.items())
        for _, rejection in sorted(subscription.rejected.items())
    ]
