"""Scenarios of the delta protocol, one message at a time."""

from collections.abc import Mapping

from xds.snapshot import Sealed, Snapshot
from xds.stream import Request, Response, Stream
from xds.type_urls import CLUSTER, ENDPOINTS, LISTENER, POOL, ROUTES


def resource(type_url: str, name: str, version: str = "1") -> Sealed:
    pulls = (ENDPOINTS, name) if type_url == CLUSTER else None
    return Sealed(type_url, name, b"", version, f"origin of {name}", pulls)


def snapshot(type_url: str, versions: Mapping[str, str]) -> Snapshot:
    return Snapshot.of(resource(type_url, name, version) for name, version in versions.items())


def said(responses: list[Response]) -> list[tuple[str, dict[str, str], tuple[str, ...]]]:
    return [
        (
            response.type_url.rpartition(".")[2],
            {sealed.name: sealed.version for sealed in response.resources},
            response.removed,
        )
        for response in responses
    ]


class Client:
    """Subscribes to one type and accepts what it is told to."""

    def __init__(self, stream: Stream, type_url: str) -> None:
        self.stream = stream
        self.type_url = type_url
        self.nonce = ""

    def says(
        self,
        *subscribe: str,
        unsubscribe: tuple[str, ...] = (),
        held: Mapping[str, str] | None = None,
        nonce: str = "",
        error: str | None = None,
    ) -> list[tuple[dict[str, str], tuple[str, ...]]]:
        request = Request(self.type_url, subscribe, unsubscribe, held or {}, nonce, error)
        return self.sees(self.stream.receive(request))

    def sees(self, responses: list[Response]) -> list[tuple[dict[str, str], tuple[str, ...]]]:
        for response in responses:
            self.nonce = response.nonce
        return [(resources, removed) for _, resources, removed in said(responses)]

    def accepts(self) -> list[tuple[dict[str, str], tuple[str, ...]]]:
        return self.says(nonce=self.nonce)

    def refuses(self, error: str = "bad") -> list[tuple[dict[str, str], tuple[str, ...]]]:
        return self.says(nonce=self.nonce, error=error)


def published(type_url: str, **versions: str) -> tuple[Stream, Client]:
    stream = Stream()
    stream.update(snapshot(type_url, versions))
    return stream, Client(stream, type_url)


def test_a_first_request_without_names_gets_everything() -> None:
    _, client = published(CLUSTER, a="1", b="1")
    assert client.says() == [({"a": "1", "b": "1"}, ())]
    assert client.accepts() == []


def test_a_star_gets_everything() -> None:
    _, client = published(LISTENER, a="1")
    assert client.says("*") == [({"a": "1"}, ())]


def test_a_wildcard_without_resources_is_answered_once() -> None:
    stream, client = published(CLUSTER)
    assert client.says() == [({}, ())]
    assert client.accepts() == []
    assert stream.settled


def test_nothing_is_said_before_there_is_a_snapshot() -> None:
    stream = Stream()
    client = Client(stream, CLUSTER)
    assert client.says(held={"a": "1"}) == []
    assert not stream.settled
    assert client.sees(stream.update(snapshot(CLUSTER, {"a": "1"}))) == []
    assert stream.settled


def test_only_what_was_asked_for_comes() -> None:
    stream, client = published(ROUTES, a="1", b="1", c="1")
    assert client.says("a", "b") == [({"a": "1", "b": "1"}, ())]
    assert client.accepts() == []
    assert client.sees(stream.update(snapshot(ROUTES, {"a": "1", "b": "2", "c": "2"}))) == [({"b": "2"}, ())]


def test_names_are_added_one_after_another() -> None:
    _, client = published(ROUTES, a="1", b="1")
    assert client.says("a") == [({"a": "1"}, ())]
    assert client.accepts() == []
    assert client.says("b") == [({"b": "1"}, ())]


def test_a_missing_name_is_told_and_sent_when_it_comes() -> None:
    stream, client = published(ROUTES, a="1")
    assert client.says("a", "b") == [({"a": "1"}, ("b",))]
    assert client.accepts() == []
    assert client.sees(stream.update(snapshot(ROUTES, {"a": "1", "b": "1"}))) == [({"b": "1"}, ())]


def test_a_new_resource_reaches_a_wildcard() -> None:
    stream, client = published(CLUSTER, a="1")
    client.says()
    client.accepts()
    assert client.sees(stream.update(snapshot(CLUSTER, {"a": "1", "b": "1"}))) == [({"b": "1"}, ())]


def test_what_is_gone_is_removed() -> None:
    stream, client = published(CLUSTER, a="1", b="1")
    client.says()
    client.accepts()
    assert client.sees(stream.update(snapshot(CLUSTER, {"b": "1"}))) == [({}, ("a",))]
    assert client.accepts() == []
    assert stream.settled


def test_what_was_unsubscribed_comes_no_more() -> None:
    stream, client = published(ROUTES, a="1", b="1")
    client.says("a", "b")
    client.accepts()
    assert client.says(unsubscribe=("a",)) == []
    assert client.sees(stream.update(snapshot(ROUTES, {"a": "2", "b": "2"}))) == [({"b": "2"}, ())]


def test_a_name_unsubscribed_under_a_wildcard_is_sent_again() -> None:
    _, client = published(CLUSTER, a="1", b="1")
    client.says("*", "a")
    client.accepts()
    assert client.says(unsubscribe=("a",)) == [({"a": "1"}, ())]


def test_the_wildcard_can_be_dropped() -> None:
    stream, client = published(CLUSTER, a="1", b="1")
    client.says("*", "a")
    client.accepts()
    assert client.says(unsubscribe=("*",)) == []
    assert client.sees(stream.update(snapshot(CLUSTER, {"a": "2", "b": "2"}))) == [({"a": "2"}, ())]


def test_a_repeated_subscription_is_answered() -> None:
    _, client = published(ROUTES, a="1")
    client.says("a")
    client.accepts()
    assert client.says("a") == [({"a": "1"}, ())]


def test_a_client_that_comes_back_is_sent_only_what_changed() -> None:
    stream, client = published(CLUSTER, a="1", b="2", d="1")
    assert client.says(held={"a": "1", "b": "1", "c": "1"}) == [({"b": "2", "d": "1"}, ())]
    assert client.accepts() == [({}, ("c",))]
    assert client.accepts() == []
    assert stream.settled


def test_a_client_that_comes_back_makes_itself_known_before_anything_is_removed() -> None:
    stream = Stream()
    stream.update(Snapshot.of([resource(CLUSTER, "b"), resource(ROUTES, "routes", "2")]))
    clusters, routes = Client(stream, CLUSTER), Client(stream, ROUTES)
    assert clusters.says(held={"a": "1", "b": "1"}) == [({}, ())]
    assert routes.says("routes", held={"routes": "1"}) == [({"routes": "2"}, ())]
    assert clusters.accepts() == []
    assert said(stream.receive(Request(ROUTES, nonce=routes.nonce))) == [("Cluster", {}, ("a",))]


def test_changes_wait_for_the_answer_and_come_together() -> None:
    stream, client = published(CLUSTER, a="1")
    client.says()
    assert client.sees(stream.update(snapshot(CLUSTER, {"a": "2"}))) == []
    assert client.sees(stream.update(snapshot(CLUSTER, {"a": "3", "b": "1"}))) == []
    assert client.accepts() == [({"a": "3", "b": "1"}, ())]


def test_a_change_taken_back_before_the_answer_is_taken_back() -> None:
    stream, client = published(CLUSTER, a="1")
    client.says()
    client.accepts()
    assert client.sees(stream.update(snapshot(CLUSTER, {"a": "2"}))) == [({"a": "2"}, ())]
    assert client.sees(stream.update(snapshot(CLUSTER, {"a": "1"}))) == []
    assert client.accepts() == [({"a": "1"}, ())]


def test_a_refused_resource_comes_again_only_when_it_changed() -> None:
    stream, client = published(CLUSTER, a="1")
    client.says()
    assert client.refuses("no such thing") == []
    [refusal] = stream.take_refusals()
    assert (refusal.sealed.origin, refusal.message) == ("origin of a", "no such thing")
    assert stream.settled
    assert stream.refuses
    assert client.sees(stream.update(snapshot(CLUSTER, {"a": "1", "b": "1"}))) == [({"b": "1"}, ())]
    assert client.accepts() == []
    assert client.sees(stream.update(snapshot(CLUSTER, {"a": "2", "b": "1"}))) == [({"a": "2"}, ())]
    assert client.accepts() == []
    assert not stream.refuses


def test_a_refusal_comes_with_what_was_held_before() -> None:
    first, second = snapshot(ROUTES, {"a": "1"}), snapshot(ROUTES, {"a": "2"})
    stream = Stream(first)
    client = Client(stream, ROUTES)
    client.says("a")
    client.accepts()
    client.sees(stream.update(second))
    client.refuses()
    assert [refusal.held for refusal in stream.take_refusals()] == [first.get(ROUTES, "a")]
    # On another stream that is not known, unless it is what there is at the time.
    for held, known in (("1", None), ("2", second.get(ROUTES, "a"))):
        stream = Stream(second)
        client = Client(stream, ROUTES)
        client.says("a", held={"a": held})
        client.sees(stream.update(snapshot(ROUTES, {"a": "3"})))
        if held == "1":
            client.refuses()
        client.refuses()
        assert [refusal.held for refusal in stream.take_refusals()][-1] == known


def test_a_refusal_is_narrowed_down_to_the_culprit() -> None:
    names = "abcdefgh"
    stream, client = published(CLUSTER, **dict.fromkeys(names, "1"))
    seen = client.says()
    accepted: set[str] = set()
    while seen:
        [(resources, removed)] = seen
        assert not removed
        if "f" in resources:
            seen = client.refuses("f is bad")
        else:
            accepted |= resources.keys()
            seen = client.accepts()
    assert accepted == set(names) - {"f"}
    assert [refusal.sealed.name for refusal in stream.take_refusals()] == ["f"]
    assert stream.settled


def test_what_the_client_may_have_taken_of_a_refused_response_is_removed() -> None:
    stream, client = published(CLUSTER, a="1", b="1")
    client.says()
    assert client.sees(stream.update(snapshot(CLUSTER, {"a": "2"}))) == []
    # It took the first versions, or not.
    assert client.refuses("b is bad") == [({"a": "2"}, ())]
    assert client.refuses("a is bad") == [({}, ("b",))]
    assert client.accepts() == []
    assert client.sees(stream.update(snapshot(CLUSTER, {}))) == [({}, ("a",))]
    assert client.accepts() == []
    assert stream.settled


def test_a_refused_route_keeps_the_clusters_of_the_old_one() -> None:
    stream = Stream()
    clusters, routes = Client(stream, CLUSTER), Client(stream, ROUTES)
    stream.update(Snapshot.of([resource(CLUSTER, "a"), resource(ROUTES, "routes")]))
    clusters.says()
    clusters.accepts()
    routes.says("routes")
    routes.accepts()
    clusters.sees(stream.update(Snapshot.of([resource(CLUSTER, "b"), resource(ROUTES, "routes", "2")])))
    routes.sees(stream.receive(Request(CLUSTER, nonce=clusters.nonce)))
    assert routes.refuses() == []
    assert stream.settled
    routes.sees(stream.update(Snapshot.of([resource(CLUSTER, "b"), resource(ROUTES, "routes", "3")])))
    assert routes.accepts() == [({}, ("a",))]


def test_a_changed_cluster_is_told_at_once_that_its_endpoints_are_gone() -> None:
    stream = Stream()
    stream.update(Snapshot.of([resource(CLUSTER, "a"), resource(ENDPOINTS, "a")]))
    clusters, endpoints = Client(stream, CLUSTER), Client(stream, ENDPOINTS)
    clusters.says()
    endpoints.says("a")
    clusters.accepts()
    endpoints.accepts()
    # Envoy does not answer to the cluster before it has heard of the endpoints.
    assert said(stream.update(Snapshot.of([resource(CLUSTER, "a", "2")]))) == [
        ("Cluster", {"a": "2"}, ()),
        ("ClusterLoadAssignment", {}, ("a",)),
    ]


def test_a_cluster_changed_while_the_client_was_away_pulls_its_endpoints() -> None:
    stream = Stream()
    stream.update(Snapshot.of([resource(CLUSTER, "a", "2"), resource(ENDPOINTS, "a")]))
    assert Client(stream, CLUSTER).says(held={"a": "1"}) == [({"a": "2"}, ())]
    assert Client(stream, ENDPOINTS).says("a", held={"a": "1"}) == [({"a": "1"}, ())]


def test_a_stale_refusal_means_nothing() -> None:
    stream, client = published(CLUSTER, a="1")
    client.says()
    stale = client.nonce
    client.accepts()
    client.sees(stream.update(snapshot(CLUSTER, {"a": "2"})))
    assert client.says(nonce=stale, error="late") == []
    assert stream.take_refusals() == ()
    assert client.accepts() == []
    assert stream.settled


def test_types_come_in_order() -> None:
    stream = Stream()
    types = (CLUSTER, ENDPOINTS, LISTENER, ROUTES, POOL)
    for type_url in reversed(types):
        assert stream.receive(Request(type_url)) == []
    first = stream.update(Snapshot.of(resource(type_url, "a") for type_url in types))
    assert [name for name, _, _ in said(first)] == ["Cluster", "ClusterLoadAssignment"]
    assert stream.receive(Request(CLUSTER, nonce=first[0].nonce)) == []
    order = []
    responses = stream.receive(Request(ENDPOINTS, nonce=first[1].nonce))
    while responses:
        [response] = responses
        order.append(response.type_url)
        responses = stream.receive(Request(response.type_url, nonce=response.nonce))
    assert order == [POOL, LISTENER, ROUTES]


def test_a_refused_cluster_holds_nothing_back() -> None:
    stream = Stream()
    stream.update(Snapshot.of([resource(CLUSTER, "a"), resource(ROUTES, "routes")]))
    clusters = Client(stream, CLUSTER)
    clusters.says()
    assert stream.receive(Request(ROUTES, ("routes",))) == []
    assert clusters.refuses() == [({"routes": "1"}, ())]


def test_changed_endpoints_of_a_known_cluster_hold_no_routes_back() -> None:
    stream = Stream()
    stream.update(Snapshot.of([resource(ENDPOINTS, "a"), resource(ROUTES, "routes")]))
    for type_url in (ENDPOINTS, ROUTES):
        [response] = stream.receive(Request(type_url))
        stream.receive(Request(type_url, nonce=response.nonce))
    changed = stream.update(Snapshot.of([resource(ENDPOINTS, "a", "2"), resource(ROUTES, "routes", "2")]))
    assert [name for name, _, _ in said(changed)] == ["ClusterLoadAssignment", "RouteConfiguration"]


def test_a_changed_cluster_pulls_its_endpoints() -> None:
    stream = Stream()
    stream.update(Snapshot.of([resource(CLUSTER, "a"), resource(ENDPOINTS, "a")]))
    clusters, endpoints = Client(stream, CLUSTER), Client(stream, ENDPOINTS)
    clusters.says()
    assert endpoints.says("a") == [({"a": "1"}, ())]
    clusters.accepts()
    endpoints.accepts()
    assert said(stream.update(Snapshot.of([resource(CLUSTER, "a", "2"), resource(ENDPOINTS, "a")]))) == [
        ("Cluster", {"a": "2"}, ()),
        ("ClusterLoadAssignment", {"a": "1"}, ()),
    ]


def test_a_closed_stream_is_silent() -> None:
    stream, client = published(CLUSTER, a="1")
    client.says()
    stream.close()
    assert client.accepts() == []
    assert stream.update(Snapshot.of([])) == []
