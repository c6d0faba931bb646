"""The prefix cache's strategy: hits against load, and learning from what was served."""

from __future__ import annotations

import io
import json
import random
from collections import Counter, deque
from itertools import count

import pytest
from picker_worlds import (
    assignment,
    body_message,
    destinations,
    entry,
    headers_message,
    identity,
    log_message,
    response,
)
from picker_worlds import pool as pool_message

from picker.access_log import AccessLog
from picker.decision import Decision, Request
from picker.exchange import Exchange
from picker.in_flight import InFlight
from picker.logs import open_log
from picker.pools import ENDPOINTS_TYPE, POOL_TYPE, Directory
from picker.probe import Prober
from picker.strategies import PROFILES
from picker.table import Endpoint, Table
from picker.telemetry import Telemetry
from protos.pointsman.envoy.v1.ext_proc_pb2 import ProcessingResponse
from protos.pointsman.picker.v1.pool_pb2 import STRATEGY_DEFAULT, STRATEGY_PREFIX_CACHE

POOL, CLUSTER = "default/qwen", "pool/default/qwen"
PODS = tuple(f"127.0.0.{number}:80" for number in range(1, 5))


class Gateway:
    """A picker's exchanges and log without sockets; `throw` is what every die shows."""

    def __init__(self, strategy: int = STRATEGY_PREFIX_CACHE, models: dict[str, dict[str, int]] | None = None) -> None:
        self.directory = Directory("up")
        told = pool_message(POOL, models=models)
        told.strategy = strategy  # type: ignore[assignment]
        self.directory.receive(response(POOL_TYPE, {POOL: ("1", told)}))
        rows = assignment(CLUSTER, [(address, address) for address in PODS])
        self.directory.receive(response(ENDPOINTS_TYPE, {CLUSTER: ("1", rows)}))
        self.in_flight = InFlight()
        self.throw = 0.0
        self._names = map(str, count())
        log = open_log(io.TextIOWrapper(io.BytesIO()))
        telemetry = Telemetry(self.directory, self.in_flight)
        self.prober = Prober(lambda _endpoint, _reason: None)
        self.log = AccessLog(
            directory=self.directory, in_flight=self.in_flight, prober=self.prober, telemetry=telemetry, log=log
        )

    def ask(self, *contents: str, model: str = "qwen") -> ProcessingResponse:
        exchange = Exchange(
            self.directory.pools[POOL], body_follows=True, identify=self._names.__next__, dice=lambda: self.throw
        )
        exchange.receive(headers_message())
        messages = [{"role": "user", "content": content} for content in contents]
        answer = exchange.receive(body_message(json.dumps({"model": model, "messages": messages}).encode()))
        if exchange.picked is not None:
            self.in_flight.begin(exchange.picked)
        return answer

    def finish(self, answer: ProcessingResponse, served: str = "", status: int = 200) -> str:
        """Report it as finished, by the picked pod unless told otherwise; returns who served."""
        served = served or destinations(answer)[0]
        self.log.receive(log_message(entry(identity(answer), served, status=status, attempts=1)))
        return served

    def serve(self, *contents: str, model: str = "qwen") -> str:
        return self.finish(self.ask(*contents, model=model))


@pytest.mark.parametrize("strategy", [STRATEGY_PREFIX_CACHE, STRATEGY_DEFAULT])
def test_what_goes_on_goes_to_the_same_pod(strategy: int) -> None:
    met = []
    for number in range(8):
        gateway = Gateway(strategy)
        gateway.throw = number % 4 / 4
        first = gateway.serve(f"{number}" * 400)
        gateway.throw = 0.99 - gateway.throw
        met.append(gateway.serve(f"{number}" * 400, "and then?") == first)
    assert all(met) == (strategy == STRATEGY_PREFIX_CACHE)


@pytest.mark.parametrize(("length", "meet"), [(8000, True), (400, True), (100, False)])
def test_requests_under_way_meet_where_that_spares_more_than_it_costs(length: int, meet: bool) -> None:  # noqa: FBT001
    gateway = Gateway()
    gateway.throw = 0.6
    first = gateway.ask("x" * length)
    gateway.throw = 0.1
    assert (destinations(gateway.ask("x" * length))[0] == destinations(first)[0]) == meet


def test_a_pod_whose_report_is_older_than_its_last_answer_is_no_full_one() -> None:
    gateway = Gateway()
    first = gateway.ask("x" * 400)
    table = gateway.directory.pools[POOL].table
    assert table is not None
    for endpoint in table.endpoints:
        endpoint.report(0, endpoint.in_flight, 0.0, endpoint.in_flight, 1.0)
    table.refresh()
    served = gateway.finish(first)
    gateway.throw = 0.9
    assert destinations(gateway.ask("x" * 400, "and then?"))[0] == served


@pytest.mark.parametrize("running", [0, 1, 3])
def test_a_short_conversation_stays_in_a_quiet_pool_whatever_the_last_report_says(running: int) -> None:
    """The report may be from when the round before was under way, and a few requests of others are no load."""
    gateway = Gateway()
    gateway.throw = 0.6
    first = gateway.ask("x" * 400)
    endpoint = gateway.directory.members[destinations(first)[0]].endpoint
    endpoint.report(0, running, 0.0, endpoint.in_flight, 0.0)
    for table in gateway.directory.members[endpoint.address].tables:
        table.refresh()
    gateway.finish(first)
    gateway.throw = 0.1
    assert destinations(gateway.ask("x" * 400, "and then?"))[0] == endpoint.address


def test_rounds_in_quick_succession_stay_in_a_quiet_pool_that_never_ran_more_than_one() -> None:
    """Envoy tells late of what ended: of the rounds before one is in the pod's last report, and one came after it."""
    gateway = Gateway()
    gateway.throw = 0.6
    gateway.serve("x" * 400)
    address = destinations(gateway.ask("x" * 400))[0]
    endpoint = gateway.directory.members[address].endpoint
    endpoint.report(0, 1, 0.0, endpoint.in_flight, 0.0)
    for table in gateway.directory.members[address].tables:
        table.refresh()
    gateway.ask("x" * 400, "and then?")
    gateway.throw = 0.1
    assert destinations(gateway.ask("x" * 400))[0] == address


async def test_the_pod_that_really_served_is_the_one_that_learns() -> None:
    gateway = Gateway()
    first = gateway.ask("x" * 400)
    assert destinations(first)[0] == PODS[0]
    gateway.finish(first, served=PODS[2])
    assert destinations(gateway.ask("x" * 400))[0] == PODS[2]
    await gateway.prober.close()


@pytest.mark.parametrize("status", [0, 400, 500])
def test_what_was_not_served_is_not_learnt(status: int) -> None:
    gateway = Gateway()
    gateway.throw = 0.99
    first = gateway.ask("x" * 400)
    gateway.finish(first, status=status)
    gateway.throw = 0.0
    assert destinations(gateway.ask("x" * 400))[0] != destinations(first)[0]


def test_tokens_in_flight_are_those_that_have_to_be_computed() -> None:
    gateway = Gateway()
    first = gateway.ask("x" * 4000)
    endpoint = gateway.directory.members[destinations(first)[0]].endpoint
    assert 1000 < endpoint.backlog.left < 1040
    gateway.finish(first)
    assert endpoint.backlog.left == 0
    again = gateway.ask("x" * 4000, "and?")
    assert destinations(again)[0] == endpoint.address
    assert endpoint.backlog.left < 80
    gateway.finish(again)


def test_what_the_log_says_of_lengths_stands_in_for_bodies_that_are_not_seen() -> None:
    gateway = Gateway()
    table = gateway.directory.pools[POOL].table
    assert table is not None
    for _ in range(200):
        answer = gateway.ask("x")
        made = entry(identity(answer), destinations(answer)[0])
        made.request.request_body_bytes = 4000
        gateway.log.receive(log_message(made))
    assert 990 < table.mean_tokens < 1000
    for length, expected in ((None, table.mean_tokens), (b"800", 200.0), (b"nonsense", table.mean_tokens)):
        exchange = Exchange(gateway.directory.pools[POOL], body_follows=False, identify=lambda: "i", dice=lambda: 0.0)
        message = headers_message()
        if length is not None:
            message.request_headers.headers.headers.add(key="content-length", raw_value=length)
        exchange.receive(message)
        assert exchange.picked is not None
        assert exchange.picked.tokens == expected


def test_models_have_caches_of_their_own() -> None:
    gateway = Gateway()
    gateway.throw = 0.99
    first = gateway.serve("x" * 400, model="one")
    gateway.throw = 0.0
    assert gateway.serve("x" * 400, model="two") != first
    assert gateway.serve("x" * 400, model="one") == first


def test_the_log_says_what_decided() -> None:
    gateway = Gateway()
    first = gateway.serve("x" * 400)
    exchange = Exchange(
        gateway.directory.pools[POOL], body_follows=True, identify=lambda: "i", dice=lambda: 0.0, explain=True
    )
    body = json.dumps({"model": "qwen", "messages": [{"role": "user", "content": "x" * 400}]}).encode()
    exchange.receive(body_message(body))
    assert exchange.picked is not None
    decision = exchange.picked.decision
    assert decision.reason == "prefix_cache"
    assert decision.trace is not None
    # Six blocks of 64 bytes, which is 96 tokens.
    assert [row["prefix_cache"] for row in decision.trace.rows()] == [0.0, *[round(4 * 96 / 1024, 3)] * 3]
    assert decision.picked.address == first


class Server:
    """A pod that runs `slots` requests at once, for so many steps each, and lets the rest wait."""

    def __init__(self, endpoint: Endpoint, slots: int, steps: int) -> None:
        self.endpoint = endpoint
        self._slots, self._steps = slots, steps
        self._running: deque[tuple[int, int]] = deque()
        self._waiting: deque[int] = deque()

    def take(self) -> None:
        self._waiting.append(self.endpoint.begin())

    def step(self, now: int) -> None:
        while self._running and self._running[0][0] <= now:
            self.endpoint.end(self._running.popleft()[1])
        while self._waiting and len(self._running) < self._slots:
            self._running.append((now + self._steps, self._waiting.popleft()))

    def report(self) -> None:
        waiting, running = len(self._waiting), len(self._running)
        self.endpoint.report(waiting, running, running / self._slots, running + waiting, 0.0)


def run(strategy: int, prefixes: int, slots: int) -> tuple[Counter[str], float, float]:
    """Send 1,000 requests, one a step, to four pods that need 30 steps for each.

    Returns how many each pod got, the share of hits, and the longest queue that there was.
    """
    table = Table()
    table.replace(Endpoint(address, address) for address in PODS)
    servers = {row.address: Server(row, slots, 30) for row in table.endpoints}
    die = random.Random(5)  # noqa: S311  (dice)
    served: Counter[str] = Counter()
    hits, longest = 0, 0.0
    for now in range(1000):
        for server in servers.values():
            server.step(now)
            if now % 20 == 0:
                server.report()
                longest = max(longest, server.endpoint.waiting)
        table.refresh()
        prefix = die.randrange(prefixes)
        chain = [hash((prefix, place)) for place in range(50)]
        decision = PROFILES[strategy].decide(Request("m", None, chain), table, die.random)
        assert isinstance(decision, Decision)
        picked = decision.picked
        hits += picked.prefixes.match(chain) == len(chain)
        picked.prefixes.learn(chain)
        servers[picked.address].take()
        served[picked.address] += 1
    return served, hits / 1000, longest


@pytest.mark.parametrize("slots", [8, 200])
def test_one_hot_prefix_does_not_overload_one_pod(slots: int) -> None:
    served, hits, longest = run(STRATEGY_PREFIX_CACHE, 1, slots)
    # 30 requests run at any time: of 32 places, all pods must be used; of 800, some will do, but not one alone.
    assert max(served.values()) < 350, served
    assert longest <= 4
    assert hits >= 0.996


def test_many_prefixes_stay_where_they_are() -> None:
    _, hits, longest = run(STRATEGY_PREFIX_CACHE, 100, 16)
    _, without, _ = run(STRATEGY_DEFAULT, 100, 16)
    assert hits > 0.85
    assert without < 0.7
    assert longest <= 3
