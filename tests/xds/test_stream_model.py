"""The stream under any order of messages, against a client that works as Envoy does."""

from collections import deque
from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from xds.snapshot import Sealed, Snapshot
from xds.stream import Request, Response, Stream
from xds.type_urls import CLUSTER, ENDPOINTS, LISTENER, ROUTES

BAD = 3  # The generation of a resource that the client refuses.
CLUSTERS = ("a", "b", "c")
ROUTE_NAMES = ("r", "s")


def resource(type_url: str, name: str, generation: int, refers_to: tuple[str, ...] = ()) -> Sealed:
    body = ",".join(refers_to).encode()
    pulls = (ENDPOINTS, name) if type_url == CLUSTER else None
    return Sealed(type_url, name, body, f"{generation}:{','.join(refers_to)}", f"{type_url} {name}", pulls)


def refers_to(sealed: Sealed) -> tuple[str, ...]:
    return tuple(sealed.body.decode().split(",")) if sealed.body else ()


def is_bad(sealed: Sealed) -> bool:
    return sealed.version.startswith(f"{BAD}:")


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    generations = st.sampled_from((1, 1, 2, 2, BAD))
    clusters = draw(st.lists(st.sampled_from(CLUSTERS), unique=True))
    resources = [resource(CLUSTER, name, draw(generations)) for name in clusters]
    resources += [resource(ENDPOINTS, name, draw(generations)) for name in clusters if draw(st.integers(0, 9))]
    targets = st.lists(st.sampled_from(clusters), unique=True).map(tuple) if clusters else st.just(())
    routes = draw(st.lists(st.sampled_from(ROUTE_NAMES), unique=True))
    resources += [resource(ROUTES, name, draw(generations), draw(targets)) for name in routes]
    for listener, route in (("l", "r"), ("m", "s")):
        if route in routes and draw(st.booleans()):
            resources.append(resource(LISTENER, listener, draw(generations), (route,)))
    return Snapshot.of(resources)


@dataclass
class Envoy:
    """What Envoy does with responses: clusters, then endpoints, then listeners, then routes."""

    held: dict[str, dict[str, Sealed]] = field(
        default_factory=lambda: {CLUSTER: {}, ENDPOINTS: {}, LISTENER: {}, ROUTES: {}}
    )
    subscribed: dict[str, set[str]] = field(default_factory=lambda: {ENDPOINTS: set(), ROUTES: set()})
    warming: set[str] = field(default_factory=set)
    # The answer to clusters is withheld while one of them is warming (cluster_manager_impl.cc).
    withheld: Request | None = None
    refused_clusters: set[str] = field(default_factory=set)
    requests: deque[Request] = field(default_factory=deque)

    def connect(self) -> None:
        self.requests.clear()
        self.withheld = None
        # Stands for the time limit of 15 s.
        self.warming.clear()
        self.refused_clusters.clear()
        for type_url in (CLUSTER, ENDPOINTS, LISTENER, ROUTES):
            names = self.subscribed.get(type_url)
            if names != set():
                versions = {name: sealed.version for name, sealed in self.held[type_url].items()}
                self.requests.append(Request(type_url, tuple(names or ()), initial_versions=versions))

    def receive(self, response: Response) -> None:
        errors = []
        for name in response.removed:
            self.remove(response.type_url, name)
        for sealed in response.resources:
            if sealed.name not in self.subscribed.get(sealed.type_url, {sealed.name}):
                continue  # No longer of interest.
            if is_bad(sealed):
                self.refuse(sealed)
                errors.append(sealed.name)
                if response.type_url in (ENDPOINTS, ROUTES):
                    break
            else:
                self.take(sealed)
        self.follow(ENDPOINTS, set(self.held[CLUSTER]))
        self.follow(ROUTES, {name for sealed in self.held[LISTENER].values() for name in refers_to(sealed)})
        answer = Request(response.type_url, nonce=response.nonce, error=", ".join(errors) if errors else None)
        if response.type_url == CLUSTER:
            self.withheld = answer
        else:
            self.requests.append(answer)
        if self.withheld is not None and not self.warming:
            self.requests.append(self.withheld)
            self.withheld = None

    def refuse(self, sealed: Sealed) -> None:
        if sealed.type_url == CLUSTER:
            self.refused_clusters.add(sealed.name)
        if sealed.type_url == ENDPOINTS:
            self.warming.discard(sealed.name)

    def take(self, sealed: Sealed) -> None:
        type_url, name = sealed.type_url, sealed.name
        if type_url == CLUSTER and self.held[CLUSTER].get(name) != sealed:
            self.warming.add(name)
            self.refused_clusters.discard(name)
        if type_url == ENDPOINTS:
            self.warming.discard(name)
        if type_url == ROUTES:
            for target in refers_to(sealed):
                assert target in self.held[CLUSTER] or target in self.refused_clusters, (
                    "a route came before its cluster"
                )
                assert target not in self.warming, "a route came before its cluster was warm"
        self.held[type_url][name] = sealed

    def remove(self, type_url: str, name: str) -> None:
        if type_url == CLUSTER:
            used = {target for sealed in self.held[ROUTES].values() for target in refers_to(sealed)}
            assert name not in used, "a cluster went before the routes that use it"
        self.held[type_url].pop(name, None)
        self.warming.discard(name)

    def follow(self, type_url: str, names: set[str]) -> None:
        before = self.subscribed[type_url]
        if names == before:
            return
        self.subscribed[type_url] = set(names)
        for gone in before - names:
            self.held[type_url].pop(gone, None)
        self.requests.append(Request(type_url, tuple(sorted(names - before)), tuple(sorted(before - names))))


class EnvoyOnAStream(RuleBasedStateMachine):
    """Publishes, delivers, and reconnects in any order; now and then lets everything settle and looks."""

    def __init__(self) -> None:
        super().__init__()
        self.envoy = Envoy()
        self.snapshot = Snapshot.of([])
        self.connect()

    def connect(self) -> None:
        self.stream = Stream()
        self.responses: deque[Response] = deque()
        self.unanswered: dict[str, str] = {}
        self.envoy.connect()

    def sent(self, responses: list[Response]) -> None:
        for response in responses:
            assert response.type_url not in self.unanswered, "two responses of a type are on their way"
            self.unanswered[response.type_url] = response.nonce
            self.responses.append(response)

    @initialize(snapshot=snapshots())
    def begin(self, snapshot: Snapshot) -> None:
        self.publish(snapshot)

    @rule(snapshot=snapshots())
    def publish(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.sent(self.stream.update(snapshot))

    @precondition(lambda self: self.responses)
    @rule()
    def deliver_response(self) -> None:
        self.envoy.receive(self.responses.popleft())

    @precondition(lambda self: self.envoy.requests)
    @rule()
    def deliver_request(self) -> None:
        request = self.envoy.requests.popleft()
        if request.nonce and self.unanswered.get(request.type_url) == request.nonce:
            del self.unanswered[request.type_url]
        self.sent(self.stream.receive(request))

    @rule(published_first=st.booleans())
    def reconnect(self, *, published_first: bool) -> None:
        self.connect()
        if published_first:
            self.sent(self.stream.update(self.snapshot))
        else:
            while self.envoy.requests:
                self.deliver_request()
            assert not self.responses
            self.sent(self.stream.update(self.snapshot))

    @rule()
    def settle(self) -> None:
        exchanged = 0
        while self.responses or self.envoy.requests:
            exchanged += 1
            assert exchanged < 500, "the stream never settles"
            if self.envoy.requests:
                self.deliver_request()
            else:
                self.deliver_response()
        assert not self.envoy.warming, "a cluster waits for endpoints that never come"
        assert self.stream.settled
        self.assert_envoy_holds_the_snapshot()

    def assert_envoy_holds_the_snapshot(self) -> None:
        for type_url, held in self.envoy.held.items():
            table = self.snapshot.table(type_url)
            for name, sealed in table.items():
                if type_url in self.envoy.subscribed and name not in self.envoy.subscribed[type_url]:
                    continue
                if not is_bad(sealed):
                    assert held[name] == sealed
            if not self.may_keep_more(type_url):
                assert held.keys() <= table.keys()

    def may_keep_more(self, type_url: str) -> bool:
        """What is refused may still use, in its old version, what is to go."""
        users = (LISTENER, ROUTES, CLUSTER)[: {LISTENER: 0, ROUTES: 1, CLUSTER: 2, ENDPOINTS: 3}[type_url]]
        return any(is_bad(sealed) for user in users for sealed in self.snapshot.table(user).values())

    @invariant()
    def nonces_agree(self) -> None:
        outstanding = {
            type_url: subscription.outstanding.nonce
            for type_url, subscription in self.stream.subscriptions.items()
            if subscription.outstanding is not None
        }
        assert outstanding == self.unanswered


EnvoyOnAStream.TestCase.settings = settings(
    max_examples=100, stateful_step_count=40, deadline=None, report_multiple_bugs=False
)
TestEnvoyOnAStream = EnvoyOnAStream.TestCase
