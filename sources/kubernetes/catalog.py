"""Which kinds are served at the moment: discovered at the start, and again when CustomResourceDefinitions change.

A kind that was served counts as gone only when its definition is: an API server that is starting up may not know for a
while what it serves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from contextlib import suppress

import orjson
import structlog

from resources import Object
from sources.kubernetes.api import METADATA, METADATA_LIST, Api
from sources.kubernetes.discovery import Served, discover
from sources.kubernetes.errors import NOT_FOUND, ApiError, UnreachableError

_DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
# A definition is served a moment after it is there (seconds).
_LAG = 0.25
_LOOKS = 20
# Seconds between looks where nothing is to be heard of definitions, as without the right to watch them.
_INTERVAL = 15.0
_RETRY = 0.5

_log = structlog.get_logger("kubernetes")


class Catalog:
    """Knows for each kind whether, and how, it is served."""

    def __init__(self, api: Api, kinds: Iterable[type[Object]]) -> None:
        self._api = api
        self._kinds = tuple(kinds)
        self._served: Mapping[type[Object], Served] = {}
        self._known = asyncio.Event()
        self._changed = asyncio.Event()
        self._rung = asyncio.Event()

    @property
    def known(self) -> bool:
        """Whether the API server has said what it serves."""
        return self._known.is_set()

    def get(self, kind: type[Object]) -> Served | None:
        """Return how a kind is served; None when it is not, as far as is known."""
        return self._served.get(kind)

    async def wait_for(self, kind: type[Object]) -> Served:
        """Wait until a kind is served."""
        while (served := self._served.get(kind)) is None:
            await self._changed.wait()
        return served

    async def run(self) -> None:
        """Keep the catalog true."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._listen())
            tasks.create_task(self._keep())

    async def _keep(self) -> None:
        while True:
            await self._look()
            looks = 0
            while self._rung.is_set() and looks < _LOOKS:
                # Changes come in bursts, and take effect a little later.
                looks += 1
                await asyncio.sleep(_LAG)
                await self._look()
            self._rung.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(_INTERVAL if self.known else _RETRY):
                    await self._rung.wait()

    async def _look(self) -> None:
        try:
            found = dict(await discover(self._api, self._kinds))
            for kind, served in self._served.items():
                if kind not in found and not await self._is_gone(served):
                    found[kind] = served
        except (ApiError, UnreachableError) as error:
            if not self.known:
                _log.warning("API server does not say what it serves", reason=str(error))
            return
        first = not self.known
        if first or found != self._served:
            missing = sorted(kind.KIND for kind in self._kinds if kind not in found)
            _log.info("kinds served", missing=missing)
            self._served = found
            self._known.set()
            self._changed.set()
            self._changed = asyncio.Event()

    async def _is_gone(self, served: Served) -> bool:
        try:
            await self._api.get(f"{_DEFINITIONS}/{served.plural}.{served.kind.GROUP}", accept=METADATA)
        except ApiError as error:
            return error.status == NOT_FOUND
        return False

    async def changed(self) -> None:
        """Wait for the next change."""
        await self._changed.wait()

    async def _listen(self) -> None:
        """Ring at each change of a definition."""
        while True:
            with suppress(ApiError, UnreachableError):
                listed = await self._api.get(_DEFINITIONS, {"limit": "1"}, accept=METADATA_LIST)
                version = orjson.loads(listed)["metadata"]["resourceVersion"]
                # What changed before the watch began.
                self._rung.set()
                query = {"resourceVersion": version, "allowWatchBookmarks": "true", "timeoutSeconds": "290"}
                async for line in self._api.watch(_DEFINITIONS, query, accept=METADATA):
                    if b'"type":"BOOKMARK"' not in line[:40]:
                        self._rung.set()
            await asyncio.sleep(_RETRY)
