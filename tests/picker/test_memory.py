"""Whatever clients send and Envoy does not tell: the picker's memory has an end."""

from __future__ import annotations

import gc
import io
import tracemalloc
from typing import Any

import orjson
from picker_worlds import body_message, destinations, entry, headers_message, identity, log_message

from picker.access_log import AccessLog
from picker.exchange import Pool
from picker.in_flight import InFlight
from picker.logs import open_log
from picker.metrics_text import DIALECTS
from picker.pools import Directory, Member
from picker.probe import Prober
from picker.server import Picker
from picker.strategies import PROFILES
from picker.table import Endpoint, Table
from picker.telemetry import Telemetry
from protos.pointsman.picker.v1.pool_pb2 import RUNTIME_VLLM, STRATEGY_PREFIX_CACHE

POOL = "default/qwen"
RECORDS, BLOCKS = 200, 500


class _Nowhere(io.RawIOBase):
    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        return len(data)


class World:
    """A picker without sockets, for one pool that compares prompts; its bounds are low."""

    def __init__(self, pods: int = 4) -> None:
        self.table = Table()
        self.table.replace(Endpoint(f"10.0.0.{number}:8000", f"default/{number}") for number in range(pods))
        pool = Pool(POOL, "pool/default/qwen", table=self.table, profile=PROFILES[STRATEGY_PREFIX_CACHE])
        self.pool = pool
        self.directory = Directory("up", pools={POOL: pool}, pool_of_cluster={pool.cluster: pool})
        for row in self.table.endpoints:
            row.prefixes = type(row.prefixes)(BLOCKS)
            self.directory.members[row.address] = Member(row, DIALECTS[RUNTIME_VLLM], (self.table,))
        self.in_flight = InFlight(RECORDS)
        telemetry = Telemetry(self.directory, self.in_flight)
        log = open_log(io.TextIOWrapper(io.BufferedWriter(_Nowhere())))
        self.picker = Picker(
            directory=self.directory,
            in_flight=self.in_flight,
            telemetry=telemetry,
            clock=lambda: 0.0,
            dice=lambda: 0.5,
            instance="x",
            log=log,
        )
        self.access_log = AccessLog(
            directory=self.directory,
            in_flight=self.in_flight,
            prober=Prober(lambda _endpoint, _reason: None),
            telemetry=telemetry,
            log=log,
        )

    def serve(self, number: int, *, told: bool) -> None:
        """Take a request that is like no other; `told`: Envoy says what became of it."""
        prompt = f"{number} is a number that no other prompt begins with. " * 20
        body = orjson.dumps({"model": f"model-{number}", "messages": [{"role": "user", "content": prompt}]})
        exchange = self.picker.open(self.pool, body_follows=True)
        self.picker.receive(exchange, self.pool, "envoy", headers_message(f"model-{number}"))
        answer = self.picker.receive(exchange, self.pool, "envoy", body_message(body))
        if told:
            self.access_log.receive(log_message(entry(identity(answer), destinations(answer)[0])), "gateway")


def test_requests_that_are_all_different_do_not_add_up() -> None:
    world = World()
    sizes = []
    tracemalloc.start()
    try:
        for round_ in range(3):
            for number in range(700):
                world.serve(round_ * 700 + number, told=number % 2 == 0)
            gc.collect()
            sizes.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert len(world.in_flight) == RECORDS
    assert all(len(row.prefixes) <= BLOCKS for row in world.table.endpoints)
    # A hundred bytes that each request left behind would be twice as much.
    assert sizes[2] - sizes[1] < 35_000


def test_adapters_names_that_come_and_go_do_not_add_up() -> None:
    table = Table()
    row = Endpoint("a", "a")
    table.replace([row])
    for number in range(3000):
        row.report(0, 0, 0.0, 0, 0.0)
        row.report_adapters(frozenset((f"adapter-{number}", f"other-{number}")), frozenset(), 4)
        table.refresh()
        assert {f"adapter-{number}", f"other-{number}"} <= table.adapters
    assert len(table.adapters) <= 4100
