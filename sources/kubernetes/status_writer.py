"""Writes statuses, each when it differs from what the API server has: in order of need, and no faster than allowed.

An object's status is written by server-side apply on its `status`. What changes again before its turn comes is written
once: a Gateway that a thousand routes attach to says so now and then, not a thousand times.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import orjson
import structlog

from resources import Key
from sources.kubernetes.api import Api
from sources.kubernetes.discovery import Served
from sources.kubernetes.errors import CONFLICT, NOT_FOUND, ApiError, UnreachableError
from sources.kubernetes.follower import Told
from sources.kubernetes.merging import ATOMIC, Json, Owns, is_atomic, merge

MANAGER = "pointsman"

# Writes a second, and how many of them may come at once.
RATE = 50.0
_BURST = 20
_WORKERS = 4
# Seconds between two writes of one object.
_INTERVAL = 0.25
_RETRY = 1.0
# Written before others: people wait for the address of a Gateway, and its ten thousand routes take minutes.
_URGENT = frozenset({"Gateway", "GatewayClass"})

_log = structlog.get_logger("kubernetes")


class Cluster(Protocol):
    """What the writer reads of the source."""

    def told(self, key: Key) -> Told | None:
        """Return what the API server last said of an object."""

    def note(self, key: Key, told: Told) -> None:
        """Take over what the API server says of an object that was written."""

    def served(self, key: Key) -> Served | None:
        """Return how the object's kind is served."""


class StatusWriter:
    """Writes what is wanted. `owns` tells our entries in lists that several controllers write."""

    def __init__(self, api: Api, cluster: Cluster, *, owns: Owns, rate: float = RATE) -> None:
        self._api = api
        self._cluster = cluster
        self._owns = owns
        self._spacing = 1.0 / rate
        self._wanted: dict[Key, Json] = {}
        # Keys in order of their turn, those that others wait for by themselves; those that a worker has are not here.
        self._urgent: dict[Key, None] = {}
        self._due: dict[Key, None] = {}
        self._busy: set[Key] = set()
        self._written_at: dict[Key, float] = {}
        # What was written last, and what the server made of it.
        self._answered: dict[Key, tuple[Json, bytes]] = {}
        self._next = 0.0
        self._news = asyncio.Event()
        self.writes = 0
        self.failures = 0

    def want(self, statuses: Mapping[Key, Json]) -> None:
        """Take what every object's status is to be from here on; an object that is not named has none from us."""
        changed = [key for key, body in statuses.items() if self._wanted.get(key) != body]
        left = self._wanted.keys() - statuses.keys()
        self._wanted = dict(statuses)
        for key in left:
            self._wanted_none(key)
        for key in (*changed, *left):
            self.check(key)

    def sweep(self, keys: Iterable[Key]) -> None:
        """Have our entries taken out of the statuses of these objects, unless something is wanted of them."""
        for key in keys:
            if key not in self._wanted:
                self._wanted_none(key)
                self.check(key)

    def check(self, key: Key) -> None:
        """Look again whether an object has the status that it should: somebody may have changed it."""
        due = self._urgent if key.kind in _URGENT else self._due
        due.setdefault(key, None)
        self._news.set()

    async def run(self) -> None:
        """Write, for ever; whoever runs it anew has everything looked at again."""
        for key in self._wanted:
            self.check(key)
        async with asyncio.TaskGroup() as tasks:
            for _ in range(_WORKERS):
                tasks.create_task(self._work())

    def _wanted_none(self, key: Key) -> None:
        """Have our entries taken out of an object's status, where that is a list of several controllers' entries."""
        told = self._cluster.told(key)
        current = orjson.loads(told.status) if told is not None else {}
        emptied: Json = {name: [] for name in ATOMIC if current.get(name)}
        if emptied:
            self._wanted[key] = emptied

    async def _work(self) -> None:
        while True:
            key = self._take()
            if key is None:
                self._news.clear()
                await self._news.wait()
                continue
            self._busy.add(key)
            try:
                await self._settle(key)
            finally:
                self._busy.discard(key)

    def _take(self) -> Key | None:
        for due in (self._urgent, self._due):
            for key in due:
                if key not in self._busy:
                    del due[key]
                    return key
        return None

    async def _settle(self, key: Key) -> None:
        loop = asyncio.get_running_loop()
        told, served, desired = self._cluster.told(key), self._cluster.served(key), self._wanted.get(key)
        if told is None or served is None or desired is None or self._merged(told, desired) is None:
            return
        if self._answered.get(key) == (desired, told.status):
            # The server keeps no more of it: its schema lacks a field.
            return
        wait = self._written_at.get(key, -_INTERVAL) + _INTERVAL - loop.time()
        if wait > 0:
            loop.call_later(wait, self.check, key)
            return
        await self._throttle()
        # Meanwhile both may have changed.
        told, desired = self._cluster.told(key), self._wanted.get(key)
        merged = self._merged(told, desired) if told is not None and desired is not None else None
        if told is None or desired is None or merged is None:
            return
        await self._write(key, served, told, merged, desired)

    def _merged(self, told: Told, desired: Json) -> dict[str, Any] | None:
        now = dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return merge(orjson.loads(told.status), desired, owns=self._owns, now=now)

    async def _write(self, key: Key, served: Served, told: Told, status: Json, desired: Json) -> None:
        loop = asyncio.get_running_loop()
        metadata: dict[str, object] = {"name": key.name, "uid": told.uid}
        if key.namespace:
            metadata["namespace"] = key.namespace
        if is_atomic(desired):
            metadata["resourceVersion"] = told.resource_version
        body = {"apiVersion": served.api_version, "kind": key.kind, "metadata": metadata, "status": status}
        path = served.path(key.namespace, key.name, subresource="status")
        try:
            answer = orjson.loads(await self._api.apply(path, body, manager=MANAGER))
        except ApiError as error:
            if error.status == NOT_FOUND:
                self._written_at.pop(key, None)
                self._answered.pop(key, None)
                return
            self.failures += 1
            if error.status != CONFLICT:
                _log.warning("status not written", object=str(key), reason=str(error))
            # A conflict is over when the watch has told of the other's write.
            loop.call_later(_INTERVAL if error.status == CONFLICT else _RETRY, self.check, key)
        except UnreachableError:
            loop.call_later(_RETRY, self.check, key)
        else:
            self.writes += 1
            self._written_at[key] = loop.time()
            left = Told.of(answer)
            self._answered[key] = desired, left.status
            self._cluster.note(key, left)

    async def _throttle(self) -> None:
        """Wait for this write's turn: a burst at once, then one by one."""
        now = asyncio.get_running_loop().time()
        self._next = max(self._next, now - _BURST * self._spacing) + self._spacing
        if self._next > now:
            await asyncio.sleep(self._next - now)
