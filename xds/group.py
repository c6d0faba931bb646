"""The streams of all clients, Envoys and pickers, and what the latter may see; nothing here awaits.

Clients of one part share a snapshot: a part is a Gateway's Envoys, or the replicas of a picker, or all of `up`.

A picker may pick only endpoints that Envoy has been sent: it sees a version of a ClusterLoadAssignment once every Envoy
whose part has it has accepted or refused that version or a later one, or has left.  Until there is one it hears nothing
of them: that there are none would have it refuse the first requests to a new pool.  Endpoints that no cluster of an
Envoy's pulls are for pickers alone, which see them at once.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from xds.snapshot import Sealed, Snapshot
from xds.stream import Request, Response, Stream
from xds.type_urls import CLUSTER, ENDPOINTS, LISTENER, ROUTES, SECRET

Delivery = tuple[Stream, list[Response]]


@dataclass(slots=True)
class Group:
    """The clients of one control plane, by part."""

    snapshots: dict[str, Snapshot] = field(default_factory=dict)
    envoys: dict[Stream, str] = field(default_factory=dict)
    pickers: dict[Stream, str] = field(default_factory=dict)
    # The endpoints that pickers may see, by name.
    _admitted: dict[str, Sealed] = field(default_factory=dict)
    # The names of the endpoints that clusters pull, by part.
    _pulled: dict[str, set[str]] = field(default_factory=dict)
    # The versions since then, oldest first.
    _waiting: dict[str, list[Sealed]] = field(default_factory=dict)

    def join_envoy(self, stream: Stream, part: str) -> None:
        """Add an Envoy's stream, which has received nothing yet."""
        stream.snapshot = self.snapshots.get(part)
        self.envoys[stream] = part

    def join_picker(self, stream: Stream, part: str) -> None:
        """Add a picker's stream, which has received nothing yet."""
        stream.snapshot = self._pickers_snapshot(part)
        self.pickers[stream] = part

    def leave(self, stream: Stream) -> list[Delivery]:
        """Take a stream out; pickers no longer wait for it."""
        stream.close()
        if self.pickers.pop(stream, None) is not None:
            return []
        del self.envoys[stream]
        return self._admit()

    def receive(self, stream: Stream, request: Request) -> list[Delivery]:
        """Take a client's request; return what to send, to it and to others."""
        deliveries: list[Delivery] = [(stream, stream.receive(request))]
        if request.type_url == ENDPOINTS and request.nonce and stream in self.envoys:
            deliveries += self._admit()
        return deliveries

    def publish(self, part: str, snapshot: Snapshot) -> list[Delivery]:
        """Take what a part should hold from here on.  Parts of Envoys come before those of the pickers for them."""
        before = self.snapshots.get(part, Snapshot({})).table(ENDPOINTS)
        self.snapshots[part] = snapshot
        self._pulled[part] = {each.pulls[1] for each in snapshot.table(CLUSTER).values() if each.pulls is not None}
        endpoints = snapshot.table(ENDPOINTS)
        self._drop(before.keys() - endpoints.keys())
        for name, sealed in endpoints.items():
            if before.get(name) is not sealed:
                self._await_answers(name, sealed)
        deliveries: list[Delivery] = [
            (envoy, envoy.update(snapshot)) for envoy, its_part in self.envoys.items() if its_part == part
        ]
        self._admit_answered()
        return deliveries + self._update_pickers()

    def withdraw(self, part: str) -> list[Delivery]:
        """Forget a part: its clients keep what they have, and nobody waits for them any more."""
        gone = self.snapshots.pop(part, None)
        if gone is None:
            return []
        del self._pulled[part]
        self._drop(gone.table(ENDPOINTS).keys())
        return self._admit()

    def in_sync(self, envoy: Stream) -> bool:
        """Tell whether an Envoy has accepted all that its snapshot has for it."""
        snapshot = self.snapshots.get(self.envoys[envoy])
        if snapshot is None or not envoy.settled:
            return False
        return all(_holds(envoy, sealed) for sealed in _meant_for_envoy(snapshot))

    def envoys_of(self, part: str) -> list[Stream]:
        """Return the streams of a part's Envoys."""
        return [envoy for envoy, its_part in self.envoys.items() if its_part == part]

    def _drop(self, names: Iterable[str]) -> None:
        """Forget endpoints that no part has any more."""
        for name in names:
            if not any(name in snapshot.table(ENDPOINTS) for snapshot in self.snapshots.values()):
                self._admitted.pop(name, None)
                self._waiting.pop(name, None)

    def _await_answers(self, name: str, sealed: Sealed) -> None:
        waiting = self._waiting.get(name, [])
        latest = waiting[-1] if waiting else self._admitted.get(name)
        if latest is not None and latest.version == sealed.version:
            return
        # A version that no Envoy was sent will be answered by none.
        sent = [version for version in waiting if any(envoy.was_sent(version) for envoy in self._concerned(name))]
        self._waiting[name] = [*sent, sealed]

    def _concerned(self, name: str) -> Iterator[Stream]:
        """Yield the Envoys that are to have these endpoints."""
        parts = {part for part, names in self._pulled.items() if name in names}
        yield from (envoy for envoy, part in self.envoys.items() if part in parts)

    def _admit(self) -> list[Delivery]:
        return self._update_pickers() if self._admit_answered() else []

    def _admit_answered(self) -> bool:
        """Admit the latest versions that every Envoy has got to; tell whether there were any."""
        admitted = False
        for name, waiting in list(self._waiting.items()):
            reached = min((_reached(envoy, waiting) for envoy in self._concerned(name)), default=len(waiting))
            if not reached:
                continue
            admitted = True
            self._admitted[name] = waiting[reached - 1]
            del waiting[:reached]
            if not waiting:
                del self._waiting[name]
        return admitted

    def _update_pickers(self) -> list[Delivery]:
        snapshots = {part: self._pickers_snapshot(part) for part in {*self.pickers.values()}}
        return [
            (picker, picker.update(snapshot))
            for picker, part in self.pickers.items()
            if (snapshot := snapshots[part]) is not None
        ]

    def _pickers_snapshot(self, part: str) -> Snapshot | None:
        snapshot = self.snapshots.get(part)
        if snapshot is None:
            return None
        names = snapshot.table(ENDPOINTS).keys()
        shown = {name: self._admitted[name] for name in names if name in self._admitted}
        # A picker has no business with private keys.
        return snapshot.with_table(SECRET, {}).with_table(ENDPOINTS, shown, withheld=names - shown.keys())


def _reached(envoy: Stream, versions: list[Sealed]) -> int:
    """Return how many of these versions, oldest first, lie at or before the one that the Envoy answered."""
    for index in range(len(versions), 0, -1):
        if envoy.has_answered(versions[index - 1]):
            return index
    return 0


def _meant_for_envoy(snapshot: Snapshot) -> Iterable[Sealed]:
    """Yield what an Envoy comes to hold.

    It asks for the endpoints of its clusters, and for the routes and the certificates of its listeners.
    """
    for type_url in (CLUSTER, LISTENER, ROUTES, SECRET):
        yield from snapshot.table(type_url).values()
    for cluster in snapshot.table(CLUSTER).values():
        endpoints = cluster.pulls and snapshot.get(*cluster.pulls)
        if endpoints is not None and endpoints.type_url == ENDPOINTS:
            yield endpoints


def _holds(envoy: Stream, sealed: Sealed) -> bool:
    subscription = envoy.subscriptions.get(sealed.type_url)
    return subscription is not None and subscription.held.get(sealed.name) == sealed.version
