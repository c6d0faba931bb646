"""When a Gateway is programmed."""

from typing import Any

from pointsman.programming import Account, Address, Programming
from pointsman.replicas import accounts_of
from xds import ENVOY, PICKER, ClientStatus, Nack, Peer

NAME = "default/gateway"
ADDRESSES = (Address("IPAddress", "192.0.2.1"),)


def condition(kind: str, generation: int, status: str = "True", reason: str = "") -> dict[str, Any]:
    return {
        "type": kind,
        "status": status,
        "reason": reason or kind,
        "message": "",
        "observedGeneration": generation,
    }


def status(generation: int = 1, **more: Any) -> dict[str, Any]:
    listener = {"name": "http", "attachedRoutes": 0, "conditions": [condition("Programmed", generation)]}
    conditions = [condition("Accepted", generation), condition("Programmed", generation, **more)]
    return {"addresses": [], "conditions": conditions, "listeners": [listener]}


def envoy(node: str, *, in_sync: bool, group: str = NAME, nacks: tuple[Nack, ...] = ()) -> ClientStatus:
    return ClientStatus(Peer(node, group, ENVOY, "envoy"), in_sync=in_sync, types=(), nacks=nacks)


def accounts(*clients: ClientStatus) -> list[Account]:
    return [account for name, account in accounts_of(clients, {}).items() if name == NAME]


def said(
    programming: Programming, *clients: ClientStatus, generation: int = 1, answered: bool = True
) -> tuple[str, str, int]:
    described = programming.describe(NAME, status(generation), accounts(*clients), ADDRESSES, answered=answered)
    (found,) = [each for each in described["conditions"] if each["type"] == "Programmed"]
    # A listener says the same.
    assert described["listeners"][0]["conditions"][0]["status"] == found["status"]
    return found["status"], found["reason"], found["observedGeneration"]


def test_without_envoys_it_is_pending() -> None:
    assert said(Programming()) == ("False", "Pending", 1)
    elsewhere = envoy("a", in_sync=True, group="default/other")
    picker = ClientStatus(Peer("p", NAME, PICKER, ""), in_sync=True, types=(), nacks=())
    assert said(Programming(), elsewhere, picker) == ("False", "Pending", 1)


def test_it_is_programmed_once_every_envoy_has_taken_it_in_and_stays_so() -> None:
    programming = Programming()
    assert said(programming, envoy("a", in_sync=True), envoy("b", in_sync=False)) == ("False", "Pending", 1)
    assert said(programming, envoy("a", in_sync=True), envoy("b", in_sync=True)) == ("True", "Programmed", 1)
    # One that joins later, and one that leaves, do not turn it.
    assert said(programming, envoy("a", in_sync=True), envoy("c", in_sync=False)) == ("True", "Programmed", 1)
    assert said(programming) == ("True", "Programmed", 1)


def test_the_first_time_an_envoy_has_to_be_ready_behind_the_address() -> None:
    programming = Programming()
    assert said(programming, envoy("a", in_sync=True), answered=False) == ("False", "Pending", 1)
    described = programming.describe(NAME, status(), accounts(envoy("a", in_sync=True)), ADDRESSES, answered=False)
    assert described["conditions"][1]["message"] == "no Envoy is ready behind the Service yet"
    # Ready alone is not enough.
    assert said(programming, envoy("a", in_sync=False), answered=True) == ("False", "Pending", 1)
    assert said(programming, envoy("a", in_sync=True), answered=True) == ("True", "Programmed", 1)
    # One that is ready no more does not turn it, and other generations need none.
    assert said(programming, envoy("a", in_sync=True), answered=False) == ("True", "Programmed", 1)
    assert said(programming, envoy("a", in_sync=True), answered=False, generation=2) == ("True", "Programmed", 2)


def test_a_new_generation_is_said_when_it_is_taken_in() -> None:
    programming = Programming()
    said(programming, envoy("a", in_sync=True))
    assert said(programming, envoy("a", in_sync=False), generation=2) == ("True", "Programmed", 1)
    assert said(programming, envoy("a", in_sync=True), generation=2) == ("True", "Programmed", 2)


def test_a_refusal_makes_it_false_and_names_the_object() -> None:
    programming = Programming()
    said(programming, envoy("a", in_sync=True))
    peer = Peer("a", NAME, ENVOY, "envoy")
    nack = Nack(peer, "type", "default/gateway/80", "1", "HTTPRoute default/chat", "no such thing")
    described = programming.describe(NAME, status(2), accounts(envoy("a", in_sync=False, nacks=(nack,))), ADDRESSES)
    found = described["conditions"][1]
    assert (found["status"], found["reason"]) == ("False", "Invalid")
    assert found["message"] == "HTTPRoute default/chat: refused by Envoy: no such thing"
    assert said(programming, envoy("a", in_sync=True), generation=2) == ("True", "Programmed", 2)


def test_without_an_address_it_is_not_programmed() -> None:
    described = Programming().describe(NAME, status(), accounts(envoy("a", in_sync=True)), (), answered=False)
    assert (described["addresses"], described["conditions"][1]["reason"]) == ([], "AddressNotAssigned")
    described = Programming().describe(NAME, status(), accounts(envoy("a", in_sync=True)), ADDRESSES)
    assert described["addresses"] == [{"type": "IPAddress", "value": "192.0.2.1"}]


def test_what_the_translation_holds_against_it_stays() -> None:
    wrong = status(status="False", reason="ListenersNotValid")
    described = Programming().describe(NAME, wrong, accounts(envoy("a", in_sync=True)), ADDRESSES)
    assert described["conditions"] == wrong["conditions"]


def test_an_object_that_cannot_be_made_makes_it_false() -> None:
    programming = Programming()
    said(programming, envoy("a", in_sync=True))
    trouble = "Service default/gateway-ours: cannot be made: exceeded quota"
    described = programming.describe(NAME, status(), accounts(envoy("a", in_sync=True)), ADDRESSES, [trouble])
    found = described["conditions"][1]
    assert (found["status"], found["reason"], found["message"]) == ("False", "NoResources", trouble)


def test_every_replica_has_a_say_and_only_of_the_version_that_is_published() -> None:
    def condition(programming: Programming, *accounts: Account, generation: int = 1) -> tuple[str, str, int]:
        described = programming.describe(NAME, status(generation), accounts, ADDRESSES, version="v2")
        found = described["conditions"][1]
        return found["status"], found["reason"], found["observedGeneration"]

    programming = Programming()
    here, behind = Account("v2", in_sync=True), Account("v1", in_sync=True)
    refusing = Account("v1", in_sync=False, refusal="no")
    assert condition(programming, here, behind) == ("False", "Pending", 1)
    # What it refused is no more what is published.
    assert condition(programming, here, refusing) == ("False", "Pending", 1)
    assert condition(programming, here, Account("v2", in_sync=False, refusal="no")) == ("False", "Invalid", 1)
    assert condition(programming, here, here) == ("True", "Programmed", 1)
    assert condition(programming, here, behind, generation=2) == ("True", "Programmed", 1)


def test_a_controller_that_starts_remembers_what_is_written() -> None:
    programming = Programming()
    programming.recall(NAME, {"conditions": [condition("Programmed", 3)]})
    assert programming.knows(NAME)
    assert said(programming, generation=4) == ("True", "Programmed", 3)
    other = Programming()
    other.recall(NAME, {"conditions": [condition("Programmed", 3, "False", "Pending")]})
    assert not other.knows(NAME)
    assert said(programming, envoy("a", in_sync=True), generation=4, answered=False) == ("True", "Programmed", 4)
