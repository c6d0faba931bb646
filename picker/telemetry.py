"""The picker's Prometheus metrics, under ``pointsman_picker_``, and the HTTP port that serves them.

The hot path pays for a few counters only: children are resolved once for each set of labels, and everything that can
be read from the tables is read when somebody asks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from picker.in_flight import InFlight
from picker.pools import Directory

_DECISION = (25e-6, 50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 50e-3)
_REQUEST = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)


class _Children(NamedTuple):
    requests: Counter
    decision: Histogram
    duration: Histogram
    first_byte: Histogram


class Telemetry:
    """Counts what happens."""

    def __init__(self, directory: Directory, in_flight: InFlight) -> None:
        self._directory = directory
        self.registry = CollectorRegistry()
        self._requests = self._counter("requests", "Requests finished.", ("pool", "model", "status"))
        self._refused = self._counter("refusals", "Requests that the picker answered itself.", ("pool", "reason"))
        self._decided = self._counter("decisions", "Picks, by what decided.", ("pool", "reason"))
        self._retried = self._counter("retried_requests", "Requests that took more than one attempt.", ("pool",))
        self._unmatched = self._counter(
            "unmatched_requests", "Requests finished that this picker did not pick for.", ()
        )
        self._scrape_errors = self._counter("scrape_errors", "Scrapes that failed.", ("endpoint", "pod"))
        self._avoided = self._counter("avoidances", "Times that an endpoint became avoided.", ("endpoint", "pod"))
        self._decision = self._histogram("decision_seconds", "Time of an exchange within the picker.", _DECISION)
        self._duration = self._histogram("request_duration_seconds", "Time of a request as Envoy saw it.", _REQUEST)
        self._first_byte = self._histogram(
            "time_to_first_byte_seconds", "Time until the first byte of the answer, as Envoy saw it.", _REQUEST
        )
        self.registry.register(_Tables(directory, in_flight))
        self._decisions: dict[tuple[str, str], Counter] = {}
        self._children: dict[tuple[str, str, int], _Children] = {}

    def _counter(self, name: str, text: str, labels: tuple[str, ...]) -> Counter:
        return Counter(f"pointsman_picker_{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(f"pointsman_picker_{name}", text, ("pool",), buckets=buckets, registry=self.registry)

    def finish(
        self, pool: str, model: str, status: int, decision: float | None, duration: float, first_byte: float | None
    ) -> None:
        """Count a finished request; times in seconds."""
        known = self._directory.pools.get(pool)
        # Clients choose models' names: only declared ones become labels.
        label = model if known is not None and model in known.rules.models else ("other" if model else "none")
        children = self._children.get((pool, label, status)) or self._resolve(pool, label, status)
        children.requests.inc()
        if decision is not None:
            children.decision.observe(decision)
        children.duration.observe(duration)
        if first_byte is not None:
            children.first_byte.observe(first_byte)

    def _resolve(self, pool: str, label: str, status: int) -> _Children:
        children = _Children(
            self._requests.labels(pool, label, status),
            self._decision.labels(pool),
            self._duration.labels(pool),
            self._first_byte.labels(pool),
        )
        self._children[pool, label, status] = children
        return children

    def decide(self, pool: str, reason: str) -> None:
        """Count a pick, by its reason: a scorer's name, "draw" or "only"."""
        counter = self._decisions.get((pool, reason))
        if counter is None:
            counter = self._decisions[pool, reason] = self._decided.labels(pool, reason)
        counter.inc()

    def refuse(self, pool: str, reason: str) -> None:
        """Count a request that the picker answered itself."""
        self._refused.labels(pool if pool in self._directory.pools else "unknown", reason).inc()

    def retry(self, pool: str) -> None:
        """Count a request that took several attempts."""
        self._retried.labels(pool).inc()

    def miss(self) -> None:
        """Count a finished request without a record."""
        self._unmatched.inc()

    def fail_scrape(self, address: str, pod: str) -> None:
        """Count a scrape that failed."""
        self._scrape_errors.labels(address, pod).inc()

    def avoid(self, address: str, pod: str) -> None:
        """Count an endpoint's becoming avoided."""
        self._avoided.labels(address, pod).inc()


class _Tables(Collector):
    """Gauges read from the tables at the moment they are asked for."""

    def __init__(self, directory: Directory, in_flight: InFlight) -> None:
        self._directory = directory
        self._in_flight = in_flight

    def collect(self) -> Iterator[GaugeMetricFamily]:
        labels = ("pool", "pod", "endpoint")
        prefix = "pointsman_picker_endpoint_"
        waiting = GaugeMetricFamily(f"{prefix}waiting_requests", "Requests waiting, as last reported.", labels=labels)
        running = GaugeMetricFamily(f"{prefix}running_requests", "Requests running, as last reported.", labels=labels)
        kv_usage = GaugeMetricFamily(f"{prefix}kv_cache_usage_ratio", "KV cache in use, 0..1.", labels=labels)
        in_flight = GaugeMetricFamily(f"{prefix}in_flight_requests", "Requests sent there, unfinished.", labels=labels)
        avoided = GaugeMetricFamily(f"{prefix}avoided", "1 while no request is sent there by choice.", labels=labels)
        ready = GaugeMetricFamily("pointsman_picker_pool_endpoints", "Endpoints of the pool.", labels=("pool",))
        for pool in self._directory.pools.values():
            rows = pool.table.endpoints if pool.table is not None else ()
            ready.add_metric((pool.name,), len(rows))
            for row in rows:
                values = (pool.name, row.pod, row.address)
                if row.reported:
                    waiting.add_metric(values, row.waiting)
                    running.add_metric(values, row.running)
                    kv_usage.add_metric(values, row.kv_usage)
                in_flight.add_metric(values, row.in_flight)
                avoided.add_metric(values, float(row.avoided))
        yield from (waiting, running, kv_usage, in_flight, avoided, ready)
        yield GaugeMetricFamily(
            "pointsman_picker_in_flight_requests",
            "Requests picked for and not reported finished.",
            len(self._in_flight),
        )


def metrics_app(telemetry: Telemetry, ready: Callable[[], bool]) -> web.Application:
    """Serve ``/metrics``, ``/healthz`` (the process runs) and ``/readyz`` (it takes exchanges)."""

    async def metrics(_request: web.Request) -> web.Response:
        return web.Response(
            body=generate_latest(telemetry.registry),
            headers={"content-type": "text/plain; version=0.0.4; charset=utf-8"},
        )

    async def healthz(_request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_request: web.Request) -> web.Response:
        return (
            web.Response(text="ok\n") if ready() else web.Response(status=503, text="waiting for the control plane\n")
        )

    app = web.Application()
    app.router.add_get("/metrics", metrics)
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    return app
