"""Keeps objects in a cluster as they are wanted: applies those that differ, deletes those that are wanted no more.

Rules, and everything that decides on a write lives in this file:

1. Whose an object is, its labels say. What bears the name of one that is wanted and is somebody else's is left alone,
   and said; what nobody has put a name to is taken over while it is as it was seen.
2. What is not there is made without force: where two make it at the same moment, the field managers differ, and the API
   server lets the first one have it. What is changed is the object that was seen, and no other of its name.
3. What another field manager of ours applied (in an earlier version, under another name) it gives up at once; else what
   is wanted no more would stay.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson
import structlog

from resources import Key, Object
from sources.kubernetes.api import Api
from sources.kubernetes.discovery import Served
from sources.kubernetes.errors import CONFLICT, NOT_FOUND, ApiError, UnreachableError
from sources.kubernetes.follower import Told

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

    `manager` is the field manager that applies it; `patience` is how many seconds it has to be wanted before it is made
    where it is not there.
    """

    key: Key
    api_version: str
    # That of a Secret has a private key in it.
    body: Mapping[str, Any] = field(repr=False)
    form: str
    manager: str
    patience: float = 0.0


@dataclass(slots=True)
class _Applied:
    """What an object was applied as last, and the version that it then had; `seen` once the watch has told of it."""

    form: str
    uid: str
    version: str
    at: float
    seen: bool = False


@dataclass(frozen=True, slots=True)
class _Found:
    """What bears the name of an object that is wanted, and whose it is; it must have `version` still, if any."""

    whose: str | None
    uid: str
    version: str = ""


def _pinned(body: Mapping[str, Any], found: _Found) -> Mapping[str, Any]:
    """Return a body that the API server takes for the object that was found, and for no other of its name."""
    pins = {"uid": found.uid, **({"resourceVersion": found.version} if found.version else {})}
    return {**body, "metadata": {**body["metadata"], **pins}}


class Applier:
    """Applies objects, one after another.

    there: the objects that are ours or may become so, as they were last seen. told: what was last seen of the key's
    object; a version that is not the one that was applied may be somebody's change, and is applied again, which changes
    nothing where it was none. served: how the kind of a key is served. whose: says that an object with these labels is
    somebody else's ("is not ..."), "" where it is ours, None where they do not say. managers: what we are and were.
    linger: how many seconds an object stays that is wanted no more.
    """

    def __init__(
        self,
        api: Api,
        *,
        there: Callable[[], Mapping[Key, Object]],
        told: Callable[[Key], Told | None],
        served: Callable[[Key], Served | None],
        whose: Callable[[Mapping[str, str]], str | None],
        managers: frozenset[str],
        linger: Callable[[Object], float] = lambda _: 0.0,
    ) -> None:
        self._api = api
        self._there = there
        self._told = told
        self._served = served
        self._whose = whose
        self._managers = managers
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
        """Take what is to be there from here on; what is ours beside it goes, unless `keep` says otherwise."""
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

    def _version(self, key: Key) -> str:
        told = self._told(key)
        return told.resource_version if told is not None else ""

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
            found = await self._find(key, path)
            if found is not None and found.whose:
                self._complain(key, f"{key}: is there already and {found.whose}: it is left alone")
                return False
            body = _pinned(wanted.body, found) if found is not None else wanted.body
            answer = orjson.loads(await self._api.apply(path, body, manager=wanted.manager, force=found is not None))
            answer = await self._release(path, wanted, answer)
        except ApiError as error:
            if error.status not in _PASSING:
                self._complain(key, f"{key}: cannot be made: {error.message or error.reason}")
            return False
        except UnreachableError:
            return False
        self._settled(key)
        metadata = answer["metadata"]
        version = str(metadata.get("resourceVersion") or "")
        before = self._version(key)
        self._applied[key] = _Applied(
            wanted.form, metadata.get("uid") or "", version, asyncio.get_running_loop().time()
        )
        if before != version:
            _log.info("object applied", object=str(key))
        return True

    async def _find(self, key: Key, path: str) -> _Found | None:
        """Return what bears the name: as the watch told it, or else as it is, for a watch by label does not tell."""
        item, told, applied = self._there().get(key), self._told(key), self._applied.get(key)
        # After it went, another may have made one, of which `there` does not tell yet.
        same = told is not None and (applied is None or applied.uid == told.uid)
        if told is not None and same and item is not None and self._whose(item.metadata.labels) == "":
            return _Found("", told.uid)
        try:
            metadata = orjson.loads(await self._api.get(path))["metadata"]
        except ApiError as error:
            if error.status == NOT_FOUND:
                return None
            raise
        whose = self._whose(metadata.get("labels") or {})
        # One that nobody has put a name to may be taken over by another at this moment.
        return _Found(whose, metadata["uid"], metadata["resourceVersion"] if whose is None else "")

    async def _release(self, path: str, wanted: Wanted, answer: Mapping[str, Any]) -> Mapping[str, Any]:
        """Have the field managers that we were before give up what they applied; return the object after that."""
        entries = answer["metadata"].get("managedFields") or ()
        names = {each.get("manager") for each in entries if each.get("operation") == "Apply"}
        for name in sorted(self._managers & names - {wanted.manager}):
            metadata = {"name": wanted.key.name, "namespace": wanted.key.namespace, "uid": answer["metadata"]["uid"]}
            body = {"apiVersion": wanted.api_version, "kind": wanted.key.kind, "metadata": metadata}
            answer = orjson.loads(await self._api.apply(path, body, manager=name))
        return answer

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
        applied, told = self._applied.get(key), self._told(key)
        uid = applied.uid if applied is not None else told.uid if told is not None else ""
        options = {"propagationPolicy": "Background", "preconditions": {"uid": uid} if uid else {}}
        try:
            await self._api.delete(served.path(key.namespace, key.name), options)
        except ApiError as error:
            if error.status == CONFLICT:
                # Another one of its name.
                self._applied.pop(key, None)
                return False
            if error.status != NOT_FOUND:
                _log.warning("object not deleted", object=str(key), reason=str(error))
                return False
        except UnreachableError:
            return False
        self._applied.pop(key, None)
        _log.info("object deleted", object=str(key))
        return True
