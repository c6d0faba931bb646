"""The control plane's own HTTP endpoint: how everything stands, for people and for Prometheus.

/status       gateways, problems, notices, refusals, connected nodes, and every object's status
              (?after=N waits up to 30 s for a generation newer than N, ?statuses=no leaves those of objects out)
/config_dump  all that is published
/metrics      Prometheus
/healthz      the process answers
/readyz       a configuration is published
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping

import orjson
from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric, SummaryMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from pointsman import report
from pointsman.control_plane import ControlPlane
from pointsman.failure import Failure
from resources import Key
from xds import ClientStatus

Clients = Callable[[], Iterable[ClientStatus]]

_LONGEST_WAIT = 30.0


class Admin:
    """Serves the endpoint at "host:port" or "unix:/path", from `start` to `stop`.

    more: further metrics. problems: those besides the translation's. amended: statuses that say more than its own.
    """

    def __init__(
        self,
        plane: ControlPlane,
        clients: Clients,
        address: str,
        more: Iterable[Collector] = (),
        problems: Callable[[], Iterable[str]] = tuple,
        amended: Callable[[], Mapping[Key, Mapping[str, object]]] = dict,
    ) -> None:
        self._plane = plane
        self._clients = clients
        self._problems = problems
        self._amended = amended
        self._address = address
        self._registry = CollectorRegistry(auto_describe=False)
        for collector in (_Instruments(plane, clients), *more):
            self._registry.register(collector)
        self._runner = web.AppRunner(self._application(), access_log=None, shutdown_timeout=0.1)

    async def start(self) -> None:
        """Listen.  Failure when the address cannot be bound."""
        await self._runner.setup()
        try:
            await self._site().start()
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "neither unix:PATH nor HOST:PORT"
            raise Failure(f"--admin {self._address}: {reason}") from None

    async def stop(self) -> None:
        """End all requests and stop listening."""
        await self._runner.cleanup()

    def _site(self) -> web.BaseSite:
        path = self._address.removeprefix("unix:")
        if path != self._address:
            return web.UnixSite(self._runner, path)
        host, _, port = self._address.rpartition(":")
        return web.TCPSite(self._runner, host.strip("[]"), int(port))

    def _application(self) -> web.Application:
        application = web.Application()
        application.router.add_get("/status", self._status)
        application.router.add_get("/config_dump", self._config_dump)
        application.router.add_get("/metrics", self._metrics)
        application.router.add_get("/healthz", self._healthz)
        application.router.add_get("/readyz", self._readyz)
        return application

    async def _status(self, request: web.Request) -> web.Response:
        after = request.query.get("after", "")
        if after.isdecimal():
            try:
                async with asyncio.timeout(_LONGEST_WAIT):
                    await self._plane.after(int(after))
            except TimeoutError:
                pass  # the present state is an answer too
        found = report.status(self._plane.state, self._clients(), self._problems())
        if request.query.get("statuses") != "no":
            found["statuses"] = report.statuses_of(self._plane.state, self._amended())
        return _json(found)

    async def _config_dump(self, _: web.Request) -> web.Response:
        return _json(report.config_dump(self._plane.state))

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=generate_latest(self._registry), headers={"content-type": CONTENT_TYPE_LATEST})

    async def _healthz(self, _: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _readyz(self, _: web.Request) -> web.Response:
        ready = self._plane.state.translation is not None
        return web.Response(text="ready\n" if ready else "nothing published yet\n", status=200 if ready else 503)


def _json(body: object) -> web.Response:
    return web.Response(body=orjson.dumps(body, option=orjson.OPT_INDENT_2), content_type="application/json")


class _Instruments(Collector):
    """Reads the metrics off the state at each scrape, so that they cannot disagree with /status."""

    def __init__(self, plane: ControlPlane, clients: Clients) -> None:
        self._plane = plane
        self._clients = clients

    def collect(self) -> Iterator[Metric]:
        """Yield every metric."""
        yield from self._totals()
        yield from self._gauges()

    def _totals(self) -> Iterator[Metric]:
        counts = self._plane.counts
        yield SummaryMetricFamily(
            "pointsman_translation_seconds",
            "Time from a change of the folder's objects to its publication.",
            count_value=counts.translations,
            sum_value=counts.seconds,
        )
        yield CounterMetricFamily(
            "pointsman_translation_failures", "Translations that failed by a bug of ours.", value=counts.failures
        )
        nacks = CounterMetricFamily("pointsman_xds_nacks", "Resources refused by a client.", labels=["type"])
        for type_url, count in sorted(counts.nacks.items()):
            nacks.add_metric([_short(type_url)], count)
        yield nacks

    def _gauges(self) -> Iterator[Metric]:
        state = self._plane.state
        resources = GaugeMetricFamily("pointsman_resources", "Published resources.", labels=["type"])
        for type_url, count in sorted(report.counts_by_type(state).items()):
            resources.add_metric([_short(type_url)], count)
        yield resources
        yield GaugeMetricFamily("pointsman_problems", "Problems in the manifests.", value=len(state.problems))
        nodes = GaugeMetricFamily("pointsman_xds_nodes", "Connected clients.", labels=["role", "in_sync"])
        connected = [(client.peer.role, str(client.in_sync).lower()) for client in self._clients()]
        for labels in sorted(set(connected)):
            nodes.add_metric(labels, connected.count(labels))
        yield nodes


def _short(type_url: str) -> str:
    """Return the message's own name: "Listener"."""
    return type_url.rpartition(".")[2]
