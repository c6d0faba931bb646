from xds.group import Delivery, Group
from xds.snapshot import Sealed, Snapshot
from xds.stream import Request, Response, Stream
from xds.type_urls import CLUSTER, ENDPOINTS, SECRET

PULLING = Sealed(CLUSTER, "a", b"", "1", "Service default/a", pulls=(ENDPOINTS, "a"))

PART = "folder"


def endpoints(version: str) -> Snapshot:
    return Snapshot.of([PULLING, Sealed(ENDPOINTS, "a", b"", version, "Service default/a")])


def versions(deliveries: list[Delivery], stream: Stream) -> list[str]:
    return [sealed.version for response in responses(deliveries, stream) for sealed in response.resources]


def responses(deliveries: list[Delivery], stream: Stream) -> list[Response]:
    return [response for receiver, responses in deliveries if receiver is stream for response in responses]


class Clients:
    """A group with one picker, which accepts at once, and Envoys that answer when told."""

    def __init__(self, envoys: int) -> None:
        self.group = Group()
        self.picker = Stream()
        self.envoys = [Stream() for _ in range(envoys)]
        self.nonces: dict[int, str] = {}
        for envoy in self.envoys:
            self.group.join_envoy(envoy, PART)
        self.group.join_picker(self.picker, PART)
        for stream in (*self.envoys, self.picker):
            self.look(self.group.receive(stream, Request(ENDPOINTS)))

    def publish(self, version: str) -> list[str]:
        return self.look(self.group.publish(PART, endpoints(version)))

    def answer(self, number: int, error: str | None = None) -> list[str]:
        request = Request(ENDPOINTS, nonce=self.nonces[number], error=error)
        return self.look(self.group.receive(self.envoys[number], request))

    def leave(self, number: int) -> list[str]:
        return self.look(self.group.leave(self.envoys[number]))

    def look(self, deliveries: list[Delivery]) -> list[str]:
        """Return the versions that the picker is sent."""
        for number, envoy in enumerate(self.envoys):
            for response in responses(deliveries, envoy):
                self.nonces[number] = response.nonce
        seen = versions(deliveries, self.picker)
        for response in responses(deliveries, self.picker):
            seen += self.look(self.group.receive(self.picker, Request(ENDPOINTS, nonce=response.nonce)))
        return seen


def test_a_picker_alone_sees_everything() -> None:
    assert Clients(0).publish("1") == ["1"]


def test_a_picker_sees_what_every_envoy_has_answered() -> None:
    clients = Clients(2)
    assert clients.publish("1") == []
    assert clients.answer(0) == []
    assert clients.answer(1) == ["1"]


def test_endpoints_that_no_cluster_pulls_are_for_pickers_alone() -> None:
    clients = Clients(1)
    clients.publish("1")
    alone = Snapshot.of([Sealed(ENDPOINTS, "a", b"", "2", "Service default/a")])
    assert clients.look(clients.group.publish(PART, alone)) == ["2"]
    # A cluster that comes to pull them has the picker wait again.
    assert clients.publish("3") == []


def test_a_refusal_is_an_answer() -> None:
    clients = Clients(1)
    clients.publish("1")
    assert clients.answer(0, "bad") == ["1"]


def test_an_envoy_that_left_is_not_waited_for() -> None:
    clients = Clients(2)
    clients.publish("1")
    clients.answer(0)
    assert clients.leave(1) == ["1"]


def test_endless_changes_do_not_starve_the_picker() -> None:
    clients = Clients(1)
    clients.publish("1")
    for version in range(2, 6):
        assert clients.publish(str(version)) == []
    assert clients.answer(0) == ["1"]
    assert clients.publish("6") == []
    assert clients.answer(0) == ["5"]
    assert clients.answer(0) == ["6"]


def test_versions_that_no_envoy_was_sent_are_not_kept() -> None:
    clients = Clients(1)
    for version in range(100):
        clients.publish(str(version))
    assert len(clients.group._waiting["a"]) == 2  # noqa: SLF001 - it cannot be seen from outside


def test_a_new_envoy_takes_nothing_from_the_picker() -> None:
    clients = Clients(1)
    clients.publish("1")
    clients.answer(0)
    newcomer = Stream()
    clients.envoys.append(newcomer)
    clients.group.join_envoy(newcomer, PART)
    assert clients.look(clients.group.receive(newcomer, Request(ENDPOINTS))) == []
    assert clients.publish("2") == []
    assert clients.answer(0) == []
    # The newcomer answers the first version, and then the second.
    assert clients.answer(1) == []
    assert clients.answer(1) == ["2"]


def test_endpoints_that_are_gone_are_gone_for_the_picker() -> None:
    clients = Clients(1)
    clients.publish("1")
    clients.answer(0)
    gone = clients.group.publish(PART, Snapshot.of([]))
    assert [response.removed for response in responses(gone, clients.picker)] == [("a",)]


def test_a_picker_is_not_told_that_endpoints_are_absent_that_it_may_not_see_yet() -> None:
    clients = Clients(1)
    group = clients.group
    newcomer = Stream()
    group.join_picker(newcomer, PART)
    clients.publish("1")
    assert responses(group.receive(newcomer, Request(ENDPOINTS, subscribe=("a", "b"))), newcomer) == [
        Response(ENDPOINTS, (), ("b",), "1")
    ]
    group.receive(newcomer, Request(ENDPOINTS, nonce="1"))
    admitted = group.receive(clients.envoys[0], Request(ENDPOINTS, nonce=clients.nonces[0]))
    assert versions(admitted, newcomer) == ["1"]


def test_endpoints_that_go_before_a_picker_saw_them_are_told_to_be_absent() -> None:
    clients = Clients(1)
    group = clients.group
    newcomer = Stream()
    group.join_picker(newcomer, PART)
    clients.publish("1")
    assert responses(group.receive(newcomer, Request(ENDPOINTS, subscribe=("a",))), newcomer) == []
    gone = group.publish(PART, Snapshot.of([]))
    assert [response.removed for response in responses(gone, newcomer)] == [("a",)]


class Parts:
    """Two Gateways with an Envoy each, and a picker that serves a pool of both."""

    def __init__(self) -> None:
        self.group = Group()
        self.envoys = {"one": Stream(), "two": Stream()}
        self.picker = Stream()
        self.nonces: dict[str, str] = {}
        for part, envoy in self.envoys.items():
            self.group.join_envoy(envoy, part)
            self.group.receive(envoy, Request(ENDPOINTS))
        self.group.join_picker(self.picker, "picker")
        self.group.receive(self.picker, Request(ENDPOINTS))

    def publish(self, part: str, version: str) -> list[str]:
        return self.look(self.group.publish(part, endpoints(version)))

    def answer(self, part: str) -> list[str]:
        return self.look(self.group.receive(self.envoys[part], Request(ENDPOINTS, nonce=self.nonces[part])))

    def look(self, deliveries: list[Delivery]) -> list[str]:
        """Return the versions that the picker is sent."""
        for part, envoy in self.envoys.items():
            for response in responses(deliveries, envoy):
                self.nonces[part] = response.nonce
        seen = versions(deliveries, self.picker)
        for response in responses(deliveries, self.picker):
            seen += self.look(self.group.receive(self.picker, Request(ENDPOINTS, nonce=response.nonce)))
        return seen


def test_a_picker_waits_for_the_envoys_of_every_gateway_that_has_the_endpoints() -> None:
    parts = Parts()
    assert [*parts.publish("one", "1"), *parts.publish("two", "1"), *parts.publish("picker", "1")] == []
    assert parts.answer("one") == []
    assert parts.answer("two") == ["1"]


def test_a_picker_waits_for_no_gateway_that_has_other_endpoints() -> None:
    parts = Parts()
    assert [*parts.publish("one", "1"), *parts.publish("picker", "1")] == []
    assert parts.answer("one") == ["1"]
    # Each picker sees what its own part has, and no more.
    other = Sealed(ENDPOINTS, "b", b"", "1", "Service default/b")
    assert parts.look(parts.group.publish("two", Snapshot.of([other]))) == []
    assert parts.answer("two") == []


def test_a_gateway_that_is_withdrawn_is_not_waited_for_and_keeps_what_it_has() -> None:
    parts = Parts()
    for part in ("one", "two", "picker"):
        parts.publish(part, "1")
    assert parts.answer("one") == []
    gone = parts.group.withdraw("two")
    assert responses(gone, parts.envoys["two"]) == []
    assert parts.look(gone) == ["1"]


def test_private_keys_are_for_envoy_alone() -> None:
    clients = Clients(1)
    snapshot = Snapshot.of([Sealed(SECRET, "secret/a", b"key", "1", "Secret default/a")])
    clients.group.publish(PART, snapshot)
    (envoy,) = clients.envoys
    asked = Request(SECRET, subscribe=("secret/a",))
    assert versions(clients.group.receive(envoy, asked), envoy) == ["1"]
    assert versions(clients.group.receive(clients.picker, asked), clients.picker) == []


def test_an_envoy_is_in_sync_once_it_has_its_certificates() -> None:
    group, envoy = Group(), Stream()
    group.join_envoy(envoy, PART)
    group.publish(PART, Snapshot.of([Sealed(SECRET, "secret/a", b"key", "1", "Secret default/a")]))
    assert not group.in_sync(envoy)
    # Of one that there is not, an answer says so.
    asked = Request(SECRET, subscribe=("secret/a", "secret/missing"))
    (response,) = responses(group.receive(envoy, asked), envoy)
    assert not group.in_sync(envoy)
    group.receive(envoy, Request(SECRET, nonce=response.nonce))
    assert group.in_sync(envoy)
