"""What one client wants and holds of one resource type, as plain state; nothing here decides when to send.

Two Rules: everything that changes what the server believes of a client happens in this file, and a belief changes only
by a message of the client, or by a removal being sent.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from xds.snapshot import Sealed
from xds.type_urls import ENDPOINTS, LISTENER

WILDCARD = "*"
# The version of a resource that the client may or may not hold: it is sent again, or removed in its turn.
_UNKNOWN = ""


@dataclass(frozen=True, slots=True)
class Rejection:
    """The client's refusal of one resource, which is not sent again until it changes.

    held: what it accepted of that name before, where that is known.
    """

    sealed: Sealed
    message: str
    held: Sealed | None = None


@dataclass(slots=True)
class Outstanding:
    """A response that the client has not answered."""

    nonce: str
    # None: the resource was removed.
    sent: dict[str, Sealed | None]
    # Whether responses of later types wait for the answer.
    blocks: bool


@dataclass(frozen=True, slots=True)
class Pending:
    """What remains to be sent."""

    updates: tuple[Sealed, ...] = ()
    removals: tuple[str, ...] = ()
    # Names asked for that do not exist: answered as removed without delay, so that the client need not wait.
    absent: tuple[str, ...] = ()


@dataclass(slots=True)
class Subscription:
    """The state of one type on one stream."""

    type_url: str
    # What the client should hold if it asked for everything; replaced by `publish`.
    table: Mapping[str, Sealed] = field(default_factory=dict)
    # Names of which nothing is said for now.
    withheld: frozenset[str] = frozenset()
    names: set[str] = field(default_factory=set)
    wildcard: bool = False
    started: bool = False
    # An empty answer is due: a wildcard client that holds nothing waits for one before it goes on.
    greeting: bool = False
    held: dict[str, str] = field(default_factory=dict)
    # What it holds as far as that was seen on this stream, by name.
    accepted: dict[str, Sealed] = field(default_factory=dict)
    owed: set[str] = field(default_factory=set)
    # Names that may need something to be sent.
    dirty: set[str] = field(default_factory=set)
    # Names to send once more, should the first request subscribe to them.
    pulled: set[str] = field(default_factory=set)
    rejected: dict[str, Rejection] = field(default_factory=dict)
    # After a refused response of several resources its halves are sent apart, until the culprit stands alone.
    batches: list[tuple[str, ...]] = field(default_factory=list)
    outstanding: Outstanding | None = None

    def wants(self, name: str) -> bool:
        """Tell whether the client is subscribed to a name."""
        return self.wildcard or name in self.names

    def publish(self, table: Mapping[str, Sealed], withheld: frozenset[str] = frozenset()) -> None:
        """Take a new table; only what differs is looked at again."""
        self.withheld = withheld
        if table is self.table:
            return
        old, self.table = self.table, table
        self.dirty.update(name for name, sealed in table.items() if old.get(name) is not sealed)
        self.dirty.update(old.keys() - table.keys())
        for name in [
            name for name, rejection in self.rejected.items() if not self._is_current(name, rejection.sealed.version)
        ]:
            del self.rejected[name]

    def _is_current(self, name: str, version: str) -> bool:
        sealed = self.table.get(name)
        return sealed is not None and sealed.version == version

    def subscribe(self, names: Iterable[str], initial_versions: Mapping[str, str]) -> None:
        """Take the subscriptions of a request.

        The first request of a stream without a name subscribes to everything ("legacy wildcard"), and only the first
        says what the client holds from an earlier stream.  A later subscription to a known name must be answered in
        any case: the client may have dropped the resource in between (xDS protocol, "Subscribing to resources").
        """
        asked = set(names)
        first, self.started = not self.started, True
        if WILDCARD in asked or (first and not asked):
            self.greeting = not self.wildcard and not initial_versions
            self.wildcard = True
            self.dirty.update(self.table)
            asked.discard(WILDCARD)
        self.names |= asked
        if first:
            self.held = {name: version for name, version in initial_versions.items() if self.wants(name)}
            current = (self.table[name] for name, version in self.held.items() if self._is_current(name, version))
            self.accepted = {sealed.name: sealed for sealed in current}
            self.dirty.update(self.held)
            self.owed.update(name for name in self.pulled if self.wants(name))
            self.dirty |= self.owed
            self.pulled.clear()
        for name in asked:
            if not first or name not in self.held:
                self._owe(name)

    def unsubscribe(self, names: Iterable[str]) -> None:
        """Take the unsubscriptions of a request; the client has dropped those resources by itself."""
        for name in names:
            if name == WILDCARD:
                self.wildcard = self.greeting = False
                for dropped in self._known() - self.names:
                    self._forget(dropped)
            elif name in self.names:
                self.names.discard(name)
                self._forget(name)
                if self.wildcard:
                    # It is still wanted by the wildcard, and the client has just dropped it.
                    self._owe(name)

    def _known(self) -> set[str]:
        on_their_way = set() if self.outstanding is None else self.outstanding.sent.keys()
        return {*self.held, *self.dirty, *self.rejected, *on_their_way}

    def _owe(self, name: str) -> None:
        self.held.pop(name, None)
        self.owed.add(name)
        self.dirty.add(name)

    def _forget(self, name: str) -> None:
        self.held.pop(name, None)
        self.accepted.pop(name, None)
        self.rejected.pop(name, None)
        self.owed.discard(name)
        self.dirty.discard(name)
        if self.outstanding is not None:
            self.outstanding.sent.pop(name, None)

    def pull(self, name: str) -> None:
        """Have a resource that the client subscribed to sent once more, or its absence told."""
        if not self.started:
            # The client has yet to say what it holds from an earlier stream.
            self.pulled.add(name)
        elif self.wants(name):
            self.owed.add(name)
            self.dirty.add(name)

    def pending(self) -> Pending:
        """Work out what remains to be sent, beside what is on its way."""
        updates, removals, absent, settled = [], [], [], []
        for name in sorted(self.dirty):
            if name in self.withheld and name not in self.table:
                continue
            sealed = self.table.get(name) if self.wants(name) else None
            if sealed is not None and self._needs(name, sealed.version):
                updates.append(sealed)
            elif sealed is None and self._is_absence_due(name):
                absent.append(name)
            elif sealed is None and self._expected(name) is not None:
                removals.append(name)
            else:
                settled.append(name)
        if self.outstanding is None:
            # What is on its way may yet be refused, so until it is answered nothing counts as settled.
            self.dirty.difference_update(settled)
        return Pending(tuple(updates), tuple(removals), tuple(absent))

    def _is_absence_due(self, name: str) -> bool:
        # Endpoints are told to be gone at once: a warming cluster waits for them, and the removal would wait for it.
        return name in self.owed and (self.type_url == ENDPOINTS or self._expected(name) is None)

    def _needs(self, name: str, version: str) -> bool:
        if name in self.owed:
            return True
        rejection = self.rejected.get(name)
        if rejection is not None and rejection.sealed.version == version:
            return False
        return self._expected(name) != version

    def _expected(self, name: str) -> str | None:
        """Return the version that the client will hold once it has accepted what is on its way."""
        if self.outstanding is not None and name in self.outstanding.sent:
            sealed = self.outstanding.sent[name]
            return None if sealed is None else sealed.version
        return self.held.get(name)

    def blocks(self, updates: Iterable[Sealed]) -> bool:
        """Tell whether later types wait for these resources.

        They do not wait for changed endpoints of a known cluster, lest a stream of endpoint changes hold back routes.
        """
        if self.type_url == ENDPOINTS:
            return any(sealed.name not in self.held for sealed in updates)
        return any(True for _ in updates)

    def next_batch(self, pending: Pending) -> tuple[Sealed, ...]:
        """Choose the updates to send at once: all, unless a refusal is being narrowed down."""
        while self.batches:
            batch = frozenset(self.batches[0])
            updates = tuple(sealed for sealed in pending.updates if sealed.name in batch)
            if updates:
                return updates
            self.batches.pop(0)
        return pending.updates

    def send(self, nonce: str, updates: tuple[Sealed, ...], removed: tuple[str, ...]) -> None:
        """Record a response as sent; it must be answered before the next one."""
        if self.batches and updates:
            self.batches.pop(0)
        sent: dict[str, Sealed | None] = {sealed.name: sealed for sealed in updates}
        sent.update(dict.fromkeys(removed))
        self.outstanding = Outstanding(nonce, sent, blocks=self.blocks(updates))
        self.greeting = False
        self.owed -= sent.keys()
        for name in removed:
            self.held.pop(name, None)
            self.accepted.pop(name, None)

    def accept(self) -> tuple[Sealed, ...]:
        """Take an ACK; return the resources that the client has taken in."""
        accepted = tuple(sealed for sealed in self._answered().sent.values() if sealed is not None)
        for sealed in accepted:
            self.held[sealed.name] = sealed.version
            self.accepted[sealed.name] = sealed
            self.rejected.pop(sealed.name, None)
        return accepted

    def reject(self, message: str) -> tuple[Rejection, ...]:
        """Take a NACK; return that of the resource at fault, once it is known.

        Envoy takes in some of a refused response (CDS and LDS go on after a bad resource, RDS and EDS stop at it) and
        does not say which, so the response is halved and sent again: an innocent resource is not held back.
        """
        suspects = [sealed for sealed in self._answered().sent.values() if sealed is not None]
        if len(suspects) > 1:
            names = [sealed.name for sealed in suspects]
            self.held.update(dict.fromkeys(names, _UNKNOWN))
            self.owed.update(names)
            middle = len(names) // 2
            self.batches[:0] = [tuple(names[:middle]), tuple(names[middle:])]
            return ()
        found = tuple(Rejection(sealed, message, self.accepted.get(sealed.name)) for sealed in suspects)
        current = (each for each in found if self._is_current(each.sealed.name, each.sealed.version))
        self.rejected.update((each.sealed.name, each) for each in current)
        return found

    def _answered(self) -> Outstanding:
        if self.outstanding is None:
            raise LookupError("no response is outstanding")
        answered, self.outstanding = self.outstanding, None
        self.dirty.update(answered.sent)
        return answered

    def has_answered(self, name: str, version: str) -> bool:
        """Tell whether the client has accepted or refused that version of a resource."""
        rejection = self.rejected.get(name)
        return self.held.get(name) == version or (rejection is not None and rejection.sealed.version == version)

    def was_sent(self, name: str, version: str) -> bool:
        """Tell whether that version of a resource is on its way or was answered."""
        return self._expected(name) == version or self.has_answered(name, version)

    @property
    def removes_with_updates(self) -> bool:
        """Whether removals go in the response that adds.

        Envoy removes listeners before it adds those of the same response, so that a listener may take over the
        address of one that goes; sent apart, the new one would be refused.
        """
        return self.type_url == LISTENER
