"""Keeps objects in a cluster as they are wanted: applies those that differ, deletes those that are wanted no more.

An object is told to be ours by its label. What bears the name of one that is wanted and not the label is somebody
else's: it is left alone, and said.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
import structlog

from resources import Key, Object
from sources.kubernetes.api import Api
from sources.kubernetes.discovery import Served
from sources.kubernetes.errors import NOT_FOUND, ApiError, UnreachableError
from sources.kubernetes.status_writer import MANAGER

# Seconds for which the watch may be behind, and between two applications of one form.
_LAG = 5.0
_INTERVAL = 1.0
_RETRY = 1.0
_LONGEST_RETRY = 30.0
# Refusals that another attempt may well end: a conflict, too many requests, and trouble of the server's own.
_PASSING = frozenset({409, 429, 500, 502, 503, 504})

_log = structlog.get_logger("infrastructure")


@dataclass(frozen=True, slots=True)
class Wanted:
    """An object as it is to be. `form` tells one form from another: it is the value of an annotation of it.

    `patience` is how many seconds it has to be wanted before it is made where it is not there.
    """

    key: Key
    api_version: str
    body: Mapping[str, Any]
    form: str
    patience: float = 0.0


@dataclass(slots=True)
class _Applied:
    """What an object was applied as last, and the version that it then had; `seen` once the watch has told of it."""

    form: str
    version: str
    at: float
    seen: bool = False


class Applier:
    """Applies objects, one after another.

    there: the objects that bear our label, as they were last seen. version: of the key's object, as it was last seen; a
    version that is not the one that was applied may be somebody's change, and is applied again, which changes nothing
    where it was none. served: how the kind of a key is served. form: the
    annotation that has an object's form. label: ours, and its value. linger: how many seconds an object stays that is
    wanted no more.
    """

    def __init__(
        self,
        api: Api,
        *,
        there: Callable[[], Mapping[Key, Object]],
        version: Callable[[Key], str],
        served: Callable[[Key], Served | None],
        form: str,
        label: tuple[str, str],
        linger: Callable[[Object], float] = lambda _: 0.0,
    ) -> None:
        self._api = api
        self._there = there
        self._version = version
        self._served = served
        self._form = form
        self._label = label
        self._linger = linger
        self._wanted: dict[Key, Wanted] = {}
        self._since: dict[Key, float] = {}
        self._unwanted: dict[Key, float] = {}
        self._keep: Callable[[Object], bool] = lambda _: True
        self._news = asyncio.Event()
        self._applied: dict[Key, _Applied] = {}
        self._changed = asyncio.Event()
        self.problems: dict[Key, str] = {}

    def want(self, objects: Iterable[Wanted], keep: Callable[[Object], bool]) -> None:
        """Take what is to be there from here on; what bears our label beside it goes, unless `keep` says otherwise."""
        now = asyncio.get_running_loop().time()
        self._wanted = {each.key: each for each in objects}
        self._since = {key: self._since.get(key, now) for key in self._wanted}
        self._keep = keep
        for key in self.problems.keys() - self._wanted.keys():
            self._settled(key)
        self.check()

    def check(self, key: Key | None = None) -> None:
        """Look again: something that we made may have been changed or deleted."""
        if key is None or key in self._wanted:
            self._news.set()

    async def changed(self) -> None:
        """Wait until `problems` are others."""
        await self._changed.wait()

    async def run(self) -> None:
        """Apply and delete, for ever; whoever runs it anew has everything looked at again."""
        self._news.set()
        self._unwanted.clear()
        pause = _RETRY
        while True:
            await self._news.wait()
            self._news.clear()
            if await self._settle():
                pause = _RETRY
                continue
            try:
                async with asyncio.timeout(pause):
                    await self._news.wait()
            except TimeoutError:
                self._news.set()
            pause = min(_LONGEST_RETRY, pause * 2)

    async def _settle(self) -> bool:
        """Make what is there what is wanted; tell whether all of it succeeded."""
        whole = True
        for each in list(self._wanted.values()):
            if self._wanted.get(each.key) is each and self._differs(each):
                whole &= await self._apply(each)
        for key, item in self._leftovers().items():
            now = asyncio.get_running_loop().time()
            if self._later(now - self._unwanted.setdefault(key, now), self._linger(item)):
                whole &= await self._delete(key)
        return whole

    def _leftovers(self) -> Mapping[Key, Object]:
        """Return what is there and has to go."""
        found = {
            key: item
            for key, item in self._there().items()
            if key not in self._wanted and not self._keep(item) and item.metadata.deletion_timestamp is None
        }
        self._unwanted = {key: since for key, since in self._unwanted.items() if key in found}
        return found

    def _differs(self, wanted: Wanted) -> bool:
        loop = asyncio.get_running_loop()
        item, applied = self._there().get(wanted.key), self._applied.get(wanted.key)
        if applied is None and item is None:
            return self._later(loop.time() - self._since[wanted.key], wanted.patience)
        if applied is None or applied.form != wanted.form:
            # At the start too: nobody was here to see what was changed before.
            return True
        age = loop.time() - applied.at
        if item is None and not applied.seen:
            # The watch may not have told of it yet.
            return self._later(age, _LAG)
        applied.seen = True
        if item is None:
            return True
        return self._version(wanted.key) != applied.version and self._later(age, _INTERVAL)

    def _later(self, age: float, wait: float) -> bool:
        """Whether the time to act has come; looks again when it has."""
        if age < wait:
            asyncio.get_running_loop().call_later(wait - age, self.check)
        return age >= wait

    async def _apply(self, wanted: Wanted) -> bool:
        key, served = wanted.key, self._served(wanted.key)
        if served is None:
            return True
        path = served.path(key.namespace, key.name)
        try:
            if key not in self._there() and await self._is_foreign(path):
                self._complain(key, f"{key}: is there already and is not Pointsman's: it is left alone")
                return False
            answer = orjson.loads(await self._api.apply(path, wanted.body, manager=MANAGER))
        except ApiError as error:
            if error.status not in _PASSING:
                self._complain(key, f"{key}: cannot be made: {error.message or error.reason}")
            return False
        except UnreachableError:
            return False
        self._settled(key)
        version = str(answer["metadata"].get("resourceVersion") or "")
        before = self._version(key)
        self._applied[key] = _Applied(wanted.form, version, asyncio.get_running_loop().time())
        if before != version:
            _log.info("object applied", object=str(key))
        return True

    async def _is_foreign(self, path: str) -> bool:
        """Whether something bears the name that has not our label: a watch by label does not tell."""
        try:
            item = orjson.loads(await self._api.get(path))
        except ApiError as error:
            if error.status == NOT_FOUND:
                return False
            raise
        label, value = self._label
        return bool((item["metadata"].get("labels") or {}).get(label) != value)

    def _complain(self, key: Key, text: str) -> None:
        if self.problems.get(key) != text:
            _log.warning("object not applied", object=str(key), reason=text)
            self.problems[key] = text
            self._tell()

    def _settled(self, key: Key) -> None:
        if self.problems.pop(key, None) is not None:
            self._tell()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _delete(self, key: Key) -> bool:
        served = self._served(key)
        if served is None:
            return True
        try:
            await self._api.delete(served.path(key.namespace, key.name), {"propagationPolicy": "Background"})
        except ApiError as error:
            if error.status != NOT_FOUND:
                _log.warning("object not deleted", object=str(key), reason=str(error))
                return False
        except UnreachableError:
            return False
        self._applied.pop(key, None)
        _log.info("object deleted", object=str(key))
        return True
