"""One delta ADS stream as a state machine: requests and snapshots in, responses out; nothing here awaits.

At most one response of a type is on its way; what changes in the meantime is sent together after the answer.  Across
types the order is make before break (xds.order).  A type waits only for answers to responses that were sent, never for
a subscription that may not come: a client answers every response, so that the stream always moves on.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from xds.order import removal_stage, update_order, update_stage
from xds.snapshot import Sealed, Snapshot
from xds.subscription import Pending, Rejection, Subscription


@dataclass(frozen=True, slots=True)
class Request:
    """What a DeltaDiscoveryRequest says; `error` is the message of a NACK."""

    type_url: str
    subscribe: tuple[str, ...] = ()
    unsubscribe: tuple[str, ...] = ()
    initial_versions: Mapping[str, str] = field(default_factory=dict)
    nonce: str = ""
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Response:
    """What a DeltaDiscoveryResponse is to say."""

    type_url: str
    resources: tuple[Sealed, ...]
    removed: tuple[str, ...]
    nonce: str


@dataclass(slots=True, eq=False)
class Stream:
    """One client's stream.  It is silent until there is a snapshot: to know nothing is not to have nothing."""

    snapshot: Snapshot | None = None
    subscriptions: dict[str, Subscription] = field(default_factory=dict)
    # The resources refused since they were last taken by `take_refusals`.
    _refusals: list[Rejection] = field(default_factory=list)
    _sent: int = 0
    # Whether a response was answered.  A client that comes back sends the first requests of all types before it
    # answers anything, so that from then on it is known what it holds.
    _is_known: bool = False
    _closed: bool = False

    def receive(self, request: Request) -> list[Response]:
        """Take a request: subscriptions first, then the answer to an earlier response that it may carry."""
        subscription = self._subscription(request.type_url)
        subscription.subscribe(request.subscribe, request.initial_versions)
        subscription.unsubscribe(request.unsubscribe)
        # An answer to anything but the response on its way is stale (xDS protocol, "ACK/NACK and resource nonces").
        if subscription.outstanding is not None and subscription.outstanding.nonce == request.nonce:
            self._is_known = True
            self._answer(subscription, request.error)
        return self._pump()

    def update(self, snapshot: Snapshot) -> list[Response]:
        """Take a new snapshot."""
        self.snapshot = snapshot
        for type_url, subscription in self.subscriptions.items():
            subscription.publish(snapshot.table(type_url), snapshot.withheld_names(type_url))
        return self._pump()

    def close(self) -> None:
        """End the stream; nothing is sent any more."""
        self._closed = True

    def take_refusals(self) -> tuple[Rejection, ...]:
        """Return the resources refused since the last call."""
        refusals, self._refusals = tuple(self._refusals), []
        return refusals

    def has_answered(self, sealed: Sealed) -> bool:
        """Tell whether the client has accepted or refused that very version of a resource."""
        subscription = self.subscriptions.get(sealed.type_url)
        return subscription is not None and subscription.has_answered(sealed.name, sealed.version)

    def was_sent(self, sealed: Sealed) -> bool:
        """Tell whether that very version of a resource is on its way or was answered."""
        subscription = self.subscriptions.get(sealed.type_url)
        return subscription is not None and subscription.was_sent(sealed.name, sealed.version)

    @property
    def settled(self) -> bool:
        """Whether nothing is on its way and nothing remains to be sent, but for removals that a refusal holds back."""
        return self.snapshot is not None and all(
            self._is_settled(subscription) for subscription in self.subscriptions.values()
        )

    def _is_settled(self, subscription: Subscription) -> bool:
        if subscription.outstanding is not None or subscription.greeting:
            return False
        pending = subscription.pending()
        return not (pending.updates or pending.absent or (pending.removals and not self.refuses))

    @property
    def refuses(self) -> bool:
        """Whether the client refuses something that the snapshot still has."""
        return any(subscription.rejected for subscription in self.subscriptions.values())

    def _subscription(self, type_url: str) -> Subscription:
        subscription = self.subscriptions.get(type_url)
        if subscription is None:
            snapshot = self.snapshot or Snapshot({})
            subscription = Subscription(type_url, snapshot.table(type_url), snapshot.withheld_names(type_url))
            self.subscriptions[type_url] = subscription
        return subscription

    def _answer(self, subscription: Subscription, error: str | None) -> None:
        if error is not None:
            self._refusals.extend(subscription.reject(error))
            return
        subscription.accept()

    def _pump(self) -> list[Response]:
        if self.snapshot is None or self._closed:
            return []
        return [*self._pump_updates(), *self._pump_removals()]

    def _pump_updates(self) -> list[Response]:
        responses = []
        blocked_after: int | None = None
        for subscription in sorted(self.subscriptions.values(), key=lambda each: update_order(each.type_url)):
            stage = update_stage(subscription.type_url)
            if blocked_after is not None and stage > blocked_after:
                break
            if subscription.outstanding is None:
                responses.extend(self._send_updates(subscription))
            if blocked_after is None and self._blocks_later_types(subscription):
                blocked_after = stage
        return responses

    def _blocks_later_types(self, subscription: Subscription) -> bool:
        if subscription.outstanding is None:
            return False
        return subscription.outstanding.blocks or subscription.blocks(subscription.pending().updates)

    def _send_updates(self, subscription: Subscription) -> list[Response]:
        pending = subscription.pending()
        updates = subscription.next_batch(pending)
        removed = pending.absent + (pending.removals if subscription.removes_with_updates else ())
        if not (updates or removed or subscription.greeting):
            return []
        return [self._send(subscription, updates, removed)]

    def _pump_removals(self) -> list[Response]:
        responses: list[Response] = []
        # Earlier stages must hold what the snapshot says: what was refused may still be in use in its old version,
        # with all that it refers to.
        unsettled_after: int | None = None
        for subscription in sorted(self.subscriptions.values(), key=lambda each: removal_stage(each.type_url)):
            stage = removal_stage(subscription.type_url)
            if unsettled_after is not None and stage > unsettled_after:
                break
            pending = subscription.pending()
            if pending.removals and subscription.outstanding is None:
                # An empty response has the client make itself known: its routes may yet name what is to go.
                removals = pending.removals if self._is_known else ()
                responses.append(self._send(subscription, (), removals))
            is_settled = subscription.outstanding is None and pending == Pending() and not subscription.rejected
            if unsettled_after is None and not is_settled:
                unsettled_after = stage
        return responses

    def _send(self, subscription: Subscription, updates: tuple[Sealed, ...], removed: tuple[str, ...]) -> Response:
        self._sent += 1
        nonce = str(self._sent)
        subscription.send(nonce, updates, removed)
        for sealed in updates:
            # A changed cluster waits for its endpoints before it serves, but Envoy does not ask for them again.
            if sealed.pulls is not None:
                type_url, name = sealed.pulls
                self._subscription(type_url).pull(name)
        return Response(subscription.type_url, updates, removed, nonce)
