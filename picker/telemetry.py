"""Counting what happens, and the HTTP port that serves it to Prometheus.

The hot path pays for a few additions only: everything is given names and labels when somebody asks
(`picker.families`).
"""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, generate_latest

from picker.exchange import Picked
from picker.families import Endpoints, Requests
from picker.in_flight import InFlight
from picker.pools import Directory
from picker.tallies import OTHER, Key, Tallies, Tally

_NONE = "none"


class Telemetry:
    """Counts what happens."""

    def __init__(self, directory: Directory, in_flight: InFlight) -> None:
        self._directory = directory
        self.registry = CollectorRegistry()
        self._tallies = Tallies()
        self._decisions: dict[tuple[str, str], int] = {}
        self._refused = self._counter("refusals", "Requests that the picker answered itself.", ("pool", "reason"))
        self._retried = self._counter("retried_requests", "Requests that took more than one attempt.", ("pool",))
        self._unmatched = self._counter(
            "unmatched_requests", "Requests finished that this picker did not pick for.", ()
        )
        self._scrape_errors = self._counter("scrape_errors", "Scrapes that failed.", ("endpoint", "pod"))
        self._avoided = self._counter("avoidances", "Times that an endpoint became avoided.", ("endpoint", "pod"))
        # The endpoints that have a series of their own in a counter.
        self._named: set[tuple[str, str]] = set()
        self.registry.register(Requests(self._tallies, self._decisions, in_flight))
        self.registry.register(Endpoints(directory))

    def _counter(self, name: str, text: str, labels: tuple[str, ...]) -> Counter:
        return Counter(f"pointsman_picker_{name}", text, labels, registry=self.registry)

    def decide(self, picked: Picked) -> None:
        """Count a pick, by its reason: a scorer's name, "draw" or "only"."""
        key = (picked.pool, picked.decision.reason)
        self._decisions[key] = self._decisions.get(key, 0) + 1
        picked.label = self._label(picked.pool, picked.model)

    def tally(self, gateway: str, route: str, pool: str, model: str, target: str, status: int) -> Tally:
        """Count a finished request, and return where its figures are to be added."""
        label = self._label(pool, model)
        # A target is the configuration's word, unless it is the model itself or another picker's.
        shown = label if target == model else self._label(pool, target)
        tally = self._tallies.of(Key(gateway, route, pool, label, shown, status))
        tally.count += 1
        return tally

    def _label(self, pool: str, model: str) -> str:
        """Clients choose models' names: only those become labels that are declared or served."""
        known = self._directory.pools.get(pool)
        if known is not None and known.knows(model):
            return model
        return OTHER if model else _NONE

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
        self._named.add((address, pod))
        self._scrape_errors.labels(address, pod).inc()

    def avoid(self, address: str, pod: str) -> None:
        """Count an endpoint's becoming avoided."""
        self._named.add((address, pod))
        self._avoided.labels(address, pod).inc()

    def forget_others(self) -> None:
        """Drop the series of endpoints that are gone: pods come and go, and each would leave some."""
        present = {(address, member.endpoint.pod) for address, member in self._directory.members.items()}
        for address, pod in self._named - present:
            self._scrape_errors.remove(address, pod)
            self._avoided.remove(address, pod)
        self._named &= present


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
