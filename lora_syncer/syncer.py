"""The syncer at work: reads, asks, plans, acts, and begins again on a change or when the time has come.

An action that fails is tried again after a wait that doubles; the other adapters do not wait for it.
"""

import asyncio
from contextlib import suppress

import structlog
from aiohttp import ClientSession
from yarl import URL

from lora_syncer import config_file
from lora_syncer.backoff import Backoff
from lora_syncer.config import Config, ConfigError
from lora_syncer.metrics import Metrics
from lora_syncer.model_server import ModelServer, RefusedError, UnreachableError
from lora_syncer.options import Settings
from lora_syncer.plan import Action, Conflict, Kind, Plan, Present, plan

_log = structlog.get_logger("lora-syncer")
# Loads under way at once.
_WIDTH = 4
_DONE = {Kind.LOAD: "Adapter loaded", Kind.REPLACE: "Adapter replaced", Kind.UNLOAD: "Adapter unloaded"}
_FAILED = {Kind.LOAD: "Adapter not loaded", Kind.REPLACE: "Adapter not replaced", Kind.UNLOAD: "Adapter not unloaded"}


class Syncer:
    """Keeps one model server's adapters; asks it through `session`."""

    def __init__(self, settings: Settings, session: ClientSession, metrics: Metrics) -> None:
        self._settings = settings
        self._session = session
        self._metrics = metrics
        self._changed = asyncio.Event()
        self._backoff = Backoff(settings.reconcile_trigger)
        self._width = asyncio.Semaphore(_WIDTH)
        self._config: Config | None = None
        self._problem = ""
        self._conflicts: frozenset[Conflict] = frozenset()
        self._loaded: dict[str, str] = {}  # the sources of the adapters that this process has loaded
        self._away_since: float | None = None
        self._away_told = False

    async def run(self) -> None:
        """Keep the adapters until cancelled."""
        watching = asyncio.create_task(config_file.watch(self._settings.config, self._changed))
        try:
            while True:
                self._changed.clear()
                served = await self.reconcile()
                wait = self._settings.reconcile_trigger if served else self._settings.health_check_interval
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._changed.wait(), wait)
        finally:
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await watching

    async def reconcile(self) -> bool:
        """Make the server as the configuration says, as far as it lets that be done; False if it does not serve."""
        config = self._read()
        if config is None:
            return True
        host, port = self._settings.address(config.host, config.port)
        server = ModelServer(self._session, URL.build(scheme="http", host=host, port=port))
        named = (*(adapter.id for adapter in config.wanted), *config.unwanted)
        if not await self._healthy(server):
            self._metrics.show(named, {})
            return False
        try:
            present = await self._present(server)
            intended = plan(config, present)
            self._tell_conflicts(intended)
            self._backoff.keep(intended.actions)
            now = asyncio.get_running_loop().time()
            due = [action for action in intended.actions if self._backoff.may_try(action, now)]
            if due:
                await asyncio.gather(*(self._act(server, action) for action in due))
                present = await self._present(server)
        except UnreachableError as error:
            _log.warning("Model server lost", server=str(server.url), problem=str(error))
            return False
        self._metrics.show(named, present.adapters)
        return True

    def _read(self) -> Config | None:
        """Read the configuration; of one that cannot be used the last good one stays in force."""
        path = self._settings.config
        try:
            config = config_file.read(path)
        except ConfigError as error:
            self._metrics.judge(valid=False)
            if self._problem != str(error):
                self._problem = str(error)
                _log.error("Configuration refused", file=str(path), field=error.field, problem=error.message)
            return self._config
        self._metrics.judge(valid=True)
        if config != self._config or self._problem:
            _log.info(
                "Configuration read",
                file=str(path),
                name=config.name,
                ensure_exist=[adapter.id for adapter in config.wanted],
                ensure_not_exist=list(config.unwanted),
            )
            for field in config.ignored:
                _log.warning("Configuration field ignored", file=str(path), field=field)
        self._config, self._problem = config, ""
        return config

    async def _healthy(self, server: ModelServer) -> bool:
        now = asyncio.get_running_loop().time()
        if await server.healthy():
            if self._away_since is not None:
                _log.info("Model server serves", server=str(server.url))
            self._away_since, self._away_told = None, False
            return True
        if self._away_since is None:
            self._away_since = now
            _log.info("Waiting for the model server", server=str(server.url))
        elif not self._away_told and now - self._away_since >= self._settings.health_check_timeout:
            self._away_told = True
            _log.error("Model server not healthy", server=str(server.url), seconds=round(now - self._away_since))
        return False

    async def _present(self, server: ModelServer) -> Present:
        """List what is there; of what this process has loaded it knows the source, however the server calls it."""
        present = await server.present()
        self._loaded = {name: source for name, source in self._loaded.items() if name in present.adapters}
        return Present({**present.adapters, **self._loaded}, present.models)

    def _tell_conflicts(self, intended: Plan) -> None:
        conflicts = frozenset(intended.conflicts)
        for conflict in intended.conflicts:
            if conflict not in self._conflicts:
                _log.warning("Adapter left as it is", adapter=conflict.id, reason=conflict.reason)
        self._conflicts = conflicts

    async def _act(self, server: ModelServer, action: Action) -> None:
        adapter = action.adapter
        fields = {"adapter": adapter.id, "server": str(server.url)}
        if action.kind is not Kind.UNLOAD:
            fields["source"] = adapter.source
        try:
            async with self._width:
                await _do(server, action)
        except (RefusedError, UnreachableError) as error:
            wait = self._backoff.failed(action, asyncio.get_running_loop().time())
            self._metrics.count(action.kind, done=False)
            _log.error(_FAILED[action.kind], **fields, problem=str(error), retry_in_seconds=wait)
            return
        self._metrics.count(action.kind, done=True)
        if action.kind is Kind.UNLOAD:
            self._loaded.pop(adapter.id, None)
        else:
            self._loaded[adapter.id] = adapter.source
        _log.info(_DONE[action.kind], **fields)


async def _do(server: ModelServer, action: Action) -> None:
    match action.kind:
        case Kind.LOAD:
            await server.load(action.adapter)
        case Kind.REPLACE:
            await server.replace(action.adapter)
        case Kind.UNLOAD:
            await server.unload(action.adapter.id)
