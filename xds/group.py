"""The streams of one group of clients, Envoys and pickers, and what the latter may see; nothing here awaits.

A picker may pick only endpoints that Envoy has been sent: it sees a version of a ClusterLoadAssignment once every Envoy
of the group has accepted or refused that version or a later one, or has left.  Until there is one it hears nothing of
them: that there are none would have it refuse the first requests to a new pool.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from xds.snapshot import Sealed, Snapshot
from xds.stream import Request, Response, Stream
from xds.type_urls import CLUSTER, ENDPOINTS, LISTENER, ROUTES

Delivery = tuple[Stream, list[Response]]


@dataclass(slots=True)
class Group:
    """The clients that share a snapshot."""

    snapshot: Snapshot | None = None
    envoys: list[Stream] = field(default_factory=list)
    pickers: list[Stream] = field(default_factory=list)
    # The endpoints that pickers may see, by name.
    _admitted: dict[str, Sealed] = field(default_factory=dict)
    # The versions since then, oldest first.
    _waiting: dict[str, list[Sealed]] = field(default_factory=dict)

    def join_envoy(self, stream: Stream) -> None:
        """Add an Envoy's stream, which has received nothing yet."""
        stream.snapshot = self.snapshot
        self.envoys.append(stream)

    def join_picker(self, stream: Stream) -> None:
        """Add a picker's stream, which has received nothing yet."""
        stream.snapshot = self._pickers_snapshot()
        self.pickers.append(stream)

    def leave(self, stream: Stream) -> list[Delivery]:
        """Take a stream out; pickers no longer wait for it."""
        stream.close()
        if stream in self.pickers:
            self.pickers.remove(stream)
            return []
        self.envoys.remove(stream)
        return self._admit()

    def receive(self, stream: Stream, request: Request) -> list[Delivery]:
        """Take a client's request; return what to send, to it and to others."""
        deliveries: list[Delivery] = [(stream, stream.receive(request))]
        if request.type_url == ENDPOINTS and request.nonce and stream in self.envoys:
            deliveries += self._admit()
        return deliveries

    def publish(self, snapshot: Snapshot) -> list[Delivery]:
        """Take what the group should hold from here on."""
        self.snapshot = snapshot
        endpoints = snapshot.table(ENDPOINTS)
        for name in [name for name in self._admitted if name not in endpoints]:
            del self._admitted[name]
        for name in [name for name in self._waiting if name not in endpoints]:
            del self._waiting[name]
        for name, sealed in endpoints.items():
            self._await_answers(name, sealed)
        deliveries: list[Delivery] = [(envoy, envoy.update(snapshot)) for envoy in self.envoys]
        self._admit_answered()
        return deliveries + self._update_pickers()

    def in_sync(self, envoy: Stream) -> bool:
        """Tell whether an Envoy has accepted all that the snapshot has for it."""
        if self.snapshot is None or not envoy.settled:
            return False
        return all(_holds(envoy, sealed) for sealed in _meant_for_envoy(self.snapshot))

    def _await_answers(self, name: str, sealed: Sealed) -> None:
        waiting = self._waiting.get(name, [])
        latest = waiting[-1] if waiting else self._admitted.get(name)
        if latest is not None and latest.version == sealed.version:
            return
        # A version that no Envoy was sent will be answered by none.
        sent = [version for version in waiting if any(envoy.was_sent(version) for envoy in self.envoys)]
        self._waiting[name] = [*sent, sealed]

    def _admit(self) -> list[Delivery]:
        return self._update_pickers() if self._admit_answered() else []

    def _admit_answered(self) -> bool:
        """Admit the latest versions that every Envoy has got to; tell whether there were any."""
        admitted = False
        for name, waiting in list(self._waiting.items()):
            reached = min((_reached(envoy, waiting) for envoy in self.envoys), default=len(waiting))
            if not reached:
                continue
            admitted = True
            self._admitted[name] = waiting[reached - 1]
            del waiting[:reached]
            if not waiting:
                del self._waiting[name]
        return admitted

    def _update_pickers(self) -> list[Delivery]:
        snapshot = self._pickers_snapshot()
        if snapshot is None or not self.pickers:
            return []
        return [(picker, picker.update(snapshot)) for picker in self.pickers]

    def _pickers_snapshot(self) -> Snapshot | None:
        if self.snapshot is None:
            return None
        withheld = self._waiting.keys() - self._admitted.keys()
        return self.snapshot.with_table(ENDPOINTS, dict(self._admitted), withheld=withheld)


def _reached(envoy: Stream, versions: list[Sealed]) -> int:
    """Return how many of these versions, oldest first, lie at or before the one that the Envoy answered."""
    for index in range(len(versions), 0, -1):
        if envoy.has_answered(versions[index - 1]):
            return index
    return 0


def _meant_for_envoy(snapshot: Snapshot) -> Iterable[Sealed]:
    """Yield what an Envoy comes to hold: it asks for the endpoints of its clusters and the routes of its listeners."""
    for type_url in (CLUSTER, LISTENER, ROUTES):
        yield from snapshot.table(type_url).values()
    for cluster in snapshot.table(CLUSTER).values():
        endpoints = cluster.pulls and snapshot.get(*cluster.pulls)
        if endpoints is not None and endpoints.type_url == ENDPOINTS:
            yield endpoints


def _holds(envoy: Stream, sealed: Sealed) -> bool:
    subscription = envoy.subscriptions.get(sealed.type_url)
    return subscription is not None and subscription.held.get(sealed.name) == sealed.version
