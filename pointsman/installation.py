"""A running gateway: simulated model servers, control plane, picker and Envoy, as children of this process."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
import orjson

from pointsman import bootstrap
from pointsman.failure import Failure
from pointsman.file_limit import raise_file_limit
from pointsman.logs import Line, parse
from pointsman.placement import place
from pointsman.ports import accepts, check_free, free_port, host
from pointsman.runtime import Runtime
from pointsman.supervisor import Program, Supervisor
from pointsman.world_view import wanted
from resources import Gateway, World
from simulator import WRITTEN
from sources import FolderSource

# /status as JSON (`report.status`).
Report = Mapping[str, Any]

_STEP = 0.05
# The start of five programs on a busy machine takes seconds; what takes longer than this does not come (seconds).
_PATIENCE = 60.0
_PICKER_HEALTHY = r"^cluster\.pointsman-picker\.membership_healthy$"


@dataclass(frozen=True, slots=True)
class Options:
    """What to run."""

    folder: Path
    simulate: bool = False
    bind: str = "127.0.0.1"
    model_finder: str | None = None
    concurrency: int | None = None
    verbose: bool = False


class Installation:
    """An asynchronous context: everything runs inside, nothing is left after it.

    `announce(text)` is told of children that end and are restarted, `log(line)` of every line that they print.
    Entering raises Failure when the folder is not there, an address is taken, or Envoy is missing.
    """

    def __init__(self, options: Options, *, announce: Callable[[str], None], log: Callable[[Line], None]) -> None:
        self._options = options
        self._log = log
        self._runtime = Runtime()
        self._supervisor = Supervisor(announce=announce, relay=self._relay, roll=self._runtime)
        self._session: aiohttp.ClientSession | None = None
        self._envoy: aiohttp.ClientSession | None = None
        self.admin = ""
        self.metrics = ""

    async def __aenter__(self) -> Self:
        envoy = bootstrap.binary()
        check_ports(self._options)
        raise_file_limit()
        self.admin, self.metrics = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
        await self._runtime.__aenter__()
        try:
            self._session = aiohttp.ClientSession()
            socket = self.envoy_admin.removeprefix("unix:")
            self._envoy = aiohttp.ClientSession(connector=aiohttp.UnixConnector(socket))
            await self._start(envoy)
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._stop()

    @property
    def envoy_admin(self) -> str:
        """The address of Envoy's admin interface: "unix:/path"."""
        return self._runtime.socket("envoy")

    @property
    def pods(self) -> Path:
        """The folder of the simulated Pods' manifests."""
        return self._runtime.directory / "pods"

    def pids(self) -> Mapping[str, int]:
        """Return the process ids of the children that run, by name."""
        return self._supervisor.pids()

    async def ready(self, patience: float = _PATIENCE) -> Report:
        """Wait until every listener accepts connections and all know their configuration; return how it stands.

        Failure, saying what is missing, after `patience` seconds.
        """
        missing = "the control plane does not answer"
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                while True:
                    report = await self.report(statuses=False)
                    missing = "the control plane does not answer" if report is None else _missing(report)
                    if report is not None and not missing:
                        missing = await self._other_missing(report)
                    if report is not None and not missing:
                        return report
                    await asyncio.sleep(_STEP)
        raise Failure(f"not ready after {patience:g} s: {missing}")

    async def _other_missing(self, report: Report) -> str:
        """Say that simulated pods are not known yet, or that the picker does not take exchanges; else ""."""
        if self._options.simulate and not _all_known(self.pods, report["pods"]):
            return "the simulated model servers are not ready"
        if not any(gateway["pools"] for gateway in report["gateways"]):
            return ""
        if await self._get(f"http://{self.metrics}/readyz", {}) is None:
            return "the picker is not ready"
        return "" if await self._is_picker_in_use() else "Envoy has not noticed the picker yet"

    async def _is_picker_in_use(self) -> bool:
        """Tell whether Envoy's health check has found the picker."""
        body = await self._get("http://envoy/stats", {"filter": _PICKER_HEALTHY}, self._envoy)
        return body is not None and body.strip().endswith(b": 1")

    async def report(self, after: int | None = None, *, statuses: bool = True) -> Report | None:
        """Return how everything stands, waiting for a generation newer than `after`; None when nobody answers.

        statuses: those of objects as well, which at ten thousand routes are megabytes.
        """
        query = {**({} if statuses else {"statuses": "no"}), **({} if after is None else {"after": str(after)})}
        body = await self._get(f"http://{self.admin}/status", query)
        if body is None:
            return None
        report: Report = orjson.loads(body)
        return report

    async def reports(self, report: Report) -> AsyncIterator[Report]:
        """Yield how everything stands whenever it may have changed since `report`."""
        generation: int | None = report["generation"]
        while True:
            found = await self.report(generation, statuses=False)
            if found is None:
                # It is being restarted, and counts from the beginning.
                generation = None
                await asyncio.sleep(_STEP)
                continue
            if found["generation"] != generation:
                yield found
            generation = found["generation"]

    async def _get(
        self, where: str, query: Mapping[str, str], session: aiohttp.ClientSession | None = None
    ) -> bytes | None:
        """Return the answer's body, or None unless it is a good one."""
        session = session or self._session
        assert session is not None, "inside the context"  # noqa: S101 - for the type checker
        try:
            async with session.get(where, params=query) as response:
                body = await response.read()
                return body if response.ok else None
        except (aiohttp.ClientError, ConnectionError, TimeoutError):
            return None

    async def _start(self, envoy: Path) -> None:
        xds, picker = self._runtime.socket("xds"), self._runtime.socket("picker")
        folders = [str(self._options.folder)]
        config = self._runtime.directory / "envoy.yaml"
        config.write_text(bootstrap.bootstrap(xds=xds, picker=picker, admin=self.envoy_admin), encoding="utf-8")
        if self._options.simulate:
            self.pods.mkdir()
            await self._python("simulator", "simulate", *folders, "--pods", str(self.pods), "--xds", xds)
            folders.append(str(self.pods))
        finder = () if self._options.model_finder is None else ("--model-finder", self._options.model_finder)
        places = ("--places", str(self._runtime.directory / "places.json"))
        options = ("--xds", xds, "--admin", self.admin, "--bind", self._options.bind, *places, *finder)
        await self._python("control-plane", "control-plane", *folders, *options)
        # Imported while the other children start: loading gRPC takes its time.
        from picker import ENVIRONMENT  # noqa: PLC0415

        where = ("--xds", xds, "--listen", picker, "--metrics", self.metrics, "--group", bootstrap.GROUP)
        explains = ("--debug",) if self._options.verbose else ()
        await self._python("picker", "picker", *where, *explains, environment=ENVIRONMENT)
        await self._supervisor.start(
            Program(name="envoy", argv=bootstrap.command(envoy, config, concurrency=self._options.concurrency))
        )

    async def _python(self, name: str, *arguments: str, environment: Mapping[str, str] | None = None) -> None:
        # -P: a folder of the user's that is called like one of our packages must not hide it.
        argv = (sys.executable, "-P", "-m", "pointsman", *arguments)
        await self._supervisor.start(Program(name=name, argv=argv, environment=environment or {}))

    async def _stop(self) -> None:
        for session in filter(None, (self._session, self._envoy)):
            await session.close()
        await self._supervisor.stop()
        await self._runtime.__aexit__(None, None, None)

    def _relay(self, name: str, raw: bytes) -> None:
        line = parse(name, raw)
        if line is not None:
            self._log(line)


def _all_known(folder: Path, pods: int) -> bool:
    """Tell whether the simulator has said which pods there are, and `pods` ready ones are as many at least."""
    if not (folder / WRITTEN).exists():
        return False
    there = 0
    for file in folder.glob("*.json"):
        with contextlib.suppress(FileNotFoundError):
            there += "deletionTimestamp" not in orjson.loads(file.read_bytes())["metadata"]
    return pods >= there


def check_ports(options: Options) -> None:
    """Raise Failure when a port that one of the folder's Gateways will get is taken."""
    if not options.folder.is_dir():
        raise Failure(f"{options.folder}: no such folder")
    world = World().apply(FolderSource([options.folder]).read().changes)
    places = place(wanted(world), host(options.bind), {})
    for (namespace, name), gateway in world.all(Gateway).items():
        for listener in gateway.spec.listeners:
            found = places.placements.get((f"{namespace}/{name}", listener.port))
            if found is not None:
                check_free(f"{namespace}/{name}", listener.name, found)


def _missing(report: Report) -> str:
    """Say what keeps the gateway from being ready; "" when nothing does."""
    if report["trouble"]:
        return f"the control plane has failed: {report['trouble']}"
    refusing = {nack["node"] for nack in report["nacks"]}
    for role in ("envoy", "picker"):
        nodes = [node for node in report["nodes"] if node["role"] == role]
        if not nodes:
            return f"the {role} has not connected to the control plane"
        # A refusal is reported as such; what was accepted beside it serves.
        if not all(node["in_sync"] or node["node"] in refusing for node in nodes):
            return f"the {role} has not taken in its configuration"
    if refusing:
        return ""
    for gateway in report["gateways"]:
        for listener in gateway["listeners"]:
            if not accepts(listener["address"], listener["port"]):
                return f"Gateway {gateway['gateway']}: listener {listener['name']} does not accept connections"
    return ""
