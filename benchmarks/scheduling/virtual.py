"""The fleet, and routers that need no process of their own, in virtual time: minutes of traffic in seconds.

The servers are the simulator's own (reader, engine, driver, metrics page); so are the picker's exchange, strategies,
scraper and access log; only sockets and Envoy are left out.  Time passes when nobody has anything to do: an event loop
whose clock jumps to the next timer.  So a run is the same whatever the machine does meanwhile, which suits the
comparison of one formula with another; how routers do in earnest is measured in real time.
"""

from __future__ import annotations

import asyncio
import io
import selectors
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, cycle
from random import Random
from typing import Any, Protocol, TypeVar

from benchmarks.scheduling.fleet import Fleet
from benchmarks.scheduling.outcome import Outcome
from benchmarks.scheduling.traces import Arrival, Trace
from picker import scrape
from picker.access_log import AccessLog
from picker.exchange import Exchange
from picker.http_client import Answer as Page
from picker.in_flight import InFlight
from picker.logs import open_log
from picker.pools import ENDPOINTS_TYPE, POOL_TYPE, Directory
from picker.probe import Prober
from picker.telemetry import Telemetry
from protos.pointsman.envoy.v1.access_log_pb2 import HttpAccessLogEntry, StreamAccessLogsMessage
from protos.pointsman.envoy.v1.base_pb2 import ClusterLoadAssignment
from protos.pointsman.envoy.v1.discovery_pb2 import DeltaDiscoveryResponse
from protos.pointsman.envoy.v1.ext_proc_pb2 import ProcessingRequest
from protos.pointsman.picker.v1.pool_pb2 import STRATEGY_DEFAULT, STRATEGY_PREFIX_CACHE, UNLISTED_STANDARD, Pool
from simulator.adapters import Adapters
from simulator.dialects.vllm import metrics
from simulator.driver import Driver
from simulator.openai_requests import Reader

# Seconds: the way to a server, and how long Envoy holds an entry of its access log back at most.
_WAY, _FLUSH = 0.002, 0.05
_POOL, _CLUSTER = "default/fleet", "pool/default/fleet"

_T = TypeVar("_T")


class Router(Protocol):
    """Chooses a server (by its place) for each request, and is told when the answer is complete."""

    def route(self, arrival: Arrival) -> tuple[int, object]:
        """Choose; what comes with the choice is handed back with the end."""
        ...

    def end(self, server: int, ticket: object, arrival: Arrival) -> None:
        """Take in that the answer is complete."""
        ...


class RoundRobin:
    """One after the other."""

    def __init__(self, servers: Sequence[Server], _die: Random) -> None:
        self._next = cycle(range(len(servers)))

    def route(self, _arrival: Arrival) -> tuple[int, object]:
        """Choose."""
        return next(self._next), None

    def end(self, server: int, ticket: object, arrival: Arrival) -> None:
        """Take no notice."""


class LeastRequest:
    """Envoy's LEAST_REQUEST with its defaults: of two drawn at random, the one with fewer requests in flight."""

    def __init__(self, servers: Sequence[Server], die: Random) -> None:
        self._active = [0] * len(servers)
        self._die = die

    def route(self, _arrival: Arrival) -> tuple[int, object]:
        """Choose."""
        one, other = (self._die.randrange(len(self._active)) for _ in range(2))
        chosen = one if self._active[one] <= self._active[other] else other
        self._active[chosen] += 1
        return chosen, None

    def end(self, server: int, _ticket: object, _arrival: Arrival) -> None:
        """Count."""
        self._active[server] -= 1


class Picker:
    """Pointsman's picker."""

    def __init__(self, servers: Sequence[Server], die: Random, strategy: int) -> None:
        self._servers = {server.address: server for server in servers}
        self._die = die
        self._directory = Directory("virtual")
        pool = Pool(name=_POOL, cluster=_CLUSTER, strategy=strategy, unlisted=UNLISTED_STANDARD)  # type: ignore[arg-type]
        rows = ClusterLoadAssignment(cluster_name=_CLUSTER)
        for server in servers:
            row = rows.endpoints.add().lb_endpoints.add()
            host, _, port = server.address.rpartition(":")
            row.endpoint.address.socket_address.address = host
            row.endpoint.address.socket_address.port_value = int(port)
        for type_url, name, message in ((POOL_TYPE, _POOL, pool), (ENDPOINTS_TYPE, _CLUSTER, rows)):
            told = DeltaDiscoveryResponse(type_url=type_url, nonce="1")
            resource = told.resources.add(name=name, version="1")
            resource.resource.value = message.SerializeToString()
            self._directory.receive(told)
        loop = asyncio.get_running_loop()
        self._clock = loop.time
        self._in_flight = InFlight()
        self._names = map(str, count())
        prober = Prober(lambda _endpoint, _reason: None)
        self._log = AccessLog(
            directory=self._directory,
            in_flight=self._in_flight,
            prober=prober,
            telemetry=Telemetry(self._directory, self._in_flight),
            log=open_log(io.TextIOWrapper(io.BytesIO())),
        )
        self._scraper = scrape.Scraper(
            clock=loop.time,
            dice=die.random,
            in_flight=self._in_flight,
            prober=prober,
            changed=lambda _endpoint, _reason: None,
            failed=lambda _endpoint: None,
            connect=lambda address, **_: _Connection(self._servers[address]),
        )
        self._scraper.follow(self._directory.members)

    def route(self, arrival: Arrival) -> tuple[int, object]:
        """Hold an exchange."""
        pool = self._directory.pools[_POOL]
        body_follows = pool.reads_prompt
        exchange = Exchange(pool, body_follows=body_follows, identify=self._names.__next__, dice=self._die.random)
        now = self._clock()
        pool.note_use(now)
        message = ProcessingRequest()
        for key, value in (("x-gateway-model-name", arrival.model), ("content-length", str(len(arrival.body)))):
            message.request_headers.headers.headers.add(key=key, raw_value=value.encode())
        exchange.receive(message)
        if body_follows:
            message = ProcessingRequest()
            message.request_body.body = arrival.body
            exchange.receive(message)
        picked = exchange.picked
        if picked is None:
            raise RuntimeError(f"the picker refused a request: {exchange.refused}")
        picked.began = now
        self._in_flight.begin(picked)
        return self._servers[picked.decision.picked.address].place, picked.identity

    def end(self, server: int, ticket: object, arrival: Arrival) -> None:
        """Log, when Envoy would."""
        message = StreamAccessLogsMessage()
        message.http_logs.log_entry.append(self._entry(server, str(ticket), arrival))
        asyncio.get_running_loop().call_later(self._die.random() * _FLUSH + _WAY, self._log.receive, message)

    def _entry(self, server: int, identity: str, arrival: Arrival) -> HttpAccessLogEntry:
        entry = HttpAccessLogEntry()
        common = entry.common_properties
        common.metadata.filter_metadata["pointsman"].fields["id"].string_value = identity
        address = next(each.address for each in self._servers.values() if each.place == server)
        host, _, port = address.rpartition(":")
        common.upstream_remote_address.socket_address.address = host
        common.upstream_remote_address.socket_address.port_value = int(port)
        common.upstream_cluster = _CLUSTER
        common.upstream_request_attempt_count = 1
        entry.request.request_body_bytes = len(arrival.body)
        entry.response.response_code.value = 200
        entry.response.response_code_details = "via_upstream"
        return entry

    async def close(self) -> None:
        """Stop scraping."""
        await self._scraper.close()


MAKERS: Mapping[str, Callable[[Sequence[Server], Random], Router]] = {
    "round robin": RoundRobin,
    "least request": LeastRequest,
    "DEFAULT": lambda servers, die: Picker(servers, die, STRATEGY_DEFAULT),
    "PREFIX_CACHE": lambda servers, die: Picker(servers, die, STRATEGY_PREFIX_CACHE),
}


class Server:
    """A simulated server without its socket."""

    def __init__(self, place: int, fleet: Fleet) -> None:
        self.place = place
        self.address = f"10.0.0.{place + 1}:8000"
        self.spec = fleet.spec
        self.driver = Driver(self.spec, fleet.timing)
        self.reader = Reader(self.spec, fleet.timing, Adapters(self.spec))


@dataclass(frozen=True, slots=True)
class _Connection:
    server: Server

    async def get(self, _path: str) -> Page:
        await asyncio.sleep(_WAY)
        return Page(200, metrics.render(self.server.spec, self.server.driver))

    def close(self) -> None:
        pass


def run(router: str, trace: Trace, fleet: Fleet, seed: int = 0) -> list[Outcome]:
    """Play a trace with a router of `MAKERS`."""
    return _run(_play(MAKERS[router], trace, fleet, Random(seed)))  # noqa: S311  (nothing secret)


async def _play(
    make: Callable[[Sequence[Server], Random], Router], trace: Trace, fleet: Fleet, die: Random
) -> list[Outcome]:
    servers = [Server(place, fleet) for place in range(fleet.servers)]
    router = make(servers, die)
    loop = asyncio.get_running_loop()
    began = loop.time() + 1.0
    outcomes: list[Outcome] = []

    async def ask(arrival: Arrival) -> None:
        await asyncio.sleep(began + arrival.at - loop.time())
        place, ticket = router.route(arrival)
        await asyncio.sleep(_WAY)
        server = servers[place]
        work = server.reader.read(arrival.body, chat=True)
        answer = server.driver.submit(work)
        await answer.more(0)
        first = loop.time()
        await answer.completed()
        server.driver.leave(answer)
        router.end(place, ticket, arrival)
        outcomes.append(
            Outcome(
                due=arrival.at,
                sent=arrival.at,
                first=first - began,
                last=loop.time() - began,
                answer=work.answer_tokens,
                prompt=work.prompt_tokens,
                cached=answer.cached,
            )
        )

    async with asyncio.TaskGroup() as group:
        for arrival in trace.arrivals:
            group.create_task(ask(arrival))
    if isinstance(router, Picker):
        await router.close()
    return outcomes


class _Selector(selectors.SelectSelector):
    """Lets no time pass: whoever would wait for a timer finds the clock there already."""

    def __init__(self, pass_time: Callable[[float], None]) -> None:
        super().__init__()
        self._pass_time = pass_time

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("everybody waits for somebody else")
        self._pass_time(timeout)
        return super().select(0)


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._now = 1000.0
        super().__init__(_Selector(self._pass))

    def time(self) -> float:
        return self._now

    def _pass(self, seconds: float) -> None:
        self._now += max(0.0, seconds)


def _run(work: Coroutine[Any, Any, _T]) -> _T:
    with asyncio.Runner(loop_factory=_Loop) as runner:
        return runner.run(work)
