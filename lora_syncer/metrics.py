"""What the syncer shows to Prometheus, on an address of its own."""

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager

from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

from lora_syncer.plan import Kind


class Metrics:
    """The syncer's metrics; `lora_syncer_adapter_status` is that of the Inference Extension's sidecar."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._status = Gauge(
            "lora_syncer_adapter_status",
            "Whether the adapter is loaded (1) or not (0), for every adapter that the configuration names.",
            ["adapter_name"],
            registry=self._registry,
        )
        self._actions = Counter(
            "lora_syncer_actions",
            "Requests made to the model server, by what they ask for and whether it was done.",
            ["action", "outcome"],
            registry=self._registry,
        )
        self._valid = Gauge(
            "lora_syncer_config_valid",
            "Whether the configuration as it stands can be used.",
            registry=self._registry,
        )
        self._names: frozenset[str] = frozenset()
        for kind in Kind:
            for outcome in ("done", "failed"):
                self._actions.labels(kind.value, outcome)

    def show(self, named: Iterable[str], present: Mapping[str, object]) -> None:
        """Show the state of the adapters that the configuration names; others are forgotten."""
        names = frozenset(named)
        for name in self._names - names:
            self._status.remove(name)
        for name in names:
            self._status.labels(name).set(name in present)
        self._names = names

    def count(self, kind: Kind, *, done: bool) -> None:
        """Count an action."""
        self._actions.labels(kind.value, "done" if done else "failed").inc()

    def judge(self, *, valid: bool) -> None:
        """Show whether the configuration can be used."""
        self._valid.set(valid)

    def render(self) -> bytes:
        """Write all metrics in Prometheus' text format."""
        return generate_latest(self._registry)


@asynccontextmanager
async def serve(metrics: Metrics, host: str | None, port: int) -> AsyncIterator[int]:
    """Serve the metrics on every path meanwhile, on all addresses if `host` is None; yields the port.

    Raises OSError when the address is taken.
    """

    async def answer(_: web.BaseRequest) -> web.StreamResponse:
        return web.Response(body=metrics.render(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    runner = web.ServerRunner(web.Server(answer, access_log=None))
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        await site.start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()
