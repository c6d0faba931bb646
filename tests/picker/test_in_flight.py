from __future__ import annotations

from picker.decision import Decision, Request
from picker.exchange import Picked
from picker.in_flight import InFlight
from picker.strategies import DEFAULT
from picker.table import Endpoint, Table


def begin(in_flight: InFlight, endpoint: Endpoint, identity: str, *, began: float = 0.0, envoy: str = "") -> None:
    table = Table()
    table.replace([endpoint])
    decision = DEFAULT.decide(Request(), table, lambda: 0.0)
    assert isinstance(decision, Decision)
    in_flight.begin(Picked(identity, "p", "m", "m", decision, began=began, envoy=envoy))


def test_a_request_counts_until_it_is_finished() -> None:
    in_flight, endpoint = InFlight(), Endpoint("a", "a")
    begin(in_flight, endpoint, "1")
    begin(in_flight, endpoint, "2")
    assert endpoint.in_flight == len(in_flight) == 2
    assert in_flight.finish("1") is not None
    assert in_flight.finish("1") is None
    assert endpoint.in_flight == len(in_flight) == 1


def test_discounted_requests_keep_their_records() -> None:
    in_flight, endpoint = InFlight(), Endpoint("a", "a")
    begin(in_flight, endpoint, "1", began=1.0)
    begin(in_flight, endpoint, "2", began=5.0)
    assert in_flight.oldest(endpoint) == 1.0
    assert in_flight.discount(endpoint, before=3.0) == 1
    assert in_flight.oldest(endpoint) == 5.0
    assert (endpoint.in_flight, len(in_flight)) == (1, 2)
    assert in_flight.finish("1") is not None
    assert endpoint.in_flight == 1


def test_an_envoy_takes_its_requests_along() -> None:
    in_flight, endpoint = InFlight(), Endpoint("a", "a")
    begin(in_flight, endpoint, "1", envoy="x")
    begin(in_flight, endpoint, "2", envoy="y")
    assert in_flight.forget_envoy("x") == 1
    assert endpoint.in_flight == len(in_flight) == 1


def test_there_are_never_more_records_than_the_limit() -> None:
    in_flight, endpoint = InFlight(limit=3), Endpoint("a", "a")
    for number in range(10):
        begin(in_flight, endpoint, str(number))
        assert endpoint.in_flight == len(in_flight) == min(number + 1, 3)
    assert [picked.identity for picked in in_flight.records()] == ["7", "8", "9"]
    assert in_flight.finish("6") is None


def test_old_records_are_dropped() -> None:
    in_flight, endpoint = InFlight(), Endpoint("a", "a")
    begin(in_flight, endpoint, "1", began=1.0)
    begin(in_flight, endpoint, "2", began=5.0)
    assert in_flight.forget_before(2.0) == 1
    assert in_flight.finish("2") is not None
    assert endpoint.in_flight == 0
