"""The Kubernetes source: one watch for each kind, or for each object that is followed by name, told as readings.

Nothing is told before every kind that is served has been listed once: half a World would take from Envoy what works.
Only an optional one is not waited for that must not be read, and an object followed by name that cannot be. Who needs
some kinds alone asks for those (`listed`).
From then on trouble with the API server only means that no news comes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import structlog

from resources import Key, Object, Upsert
from sources.kubernetes.api import JSON, METADATA, METADATA_LIST, Api
from sources.kubernetes.by_name import ByName, NamedWatchers
from sources.kubernetes.catalog import Catalog
from sources.kubernetes.discovery import Served
from sources.kubernetes.errors import FORBIDDEN, GONE, NOT_FOUND, ApiError, UnreachableError
from sources.kubernetes.follower import Change, Follower, Page, Told
from sources.readings import ObjectNotice, ObjectProblem, Reading

_PAGE = "500"
# Seconds after which the server ends a watch at the latest, so that a load balancer's connections are spread anew.
# Those that began together, which may be hundreds, end at different times.
_WATCH = 290
_FIRST_RETRY = 0.1
_LAST_RETRY = 5.0
# Attempts after which an object that is followed by name counts as one that cannot be read.
_ATTEMPTS = 3

_log = structlog.get_logger("kubernetes")


@dataclass(frozen=True, slots=True)
class Interest:
    """What to follow of a kind.

    field_selector, label_selector: as the API has them (``type=kubernetes.io/tls``).  keeps_status: whether `told` is
    to be kept.  keep: of which objects, in the API's words, anything is kept.  bare: whether metadata alone is asked
    for.  namespace: the only one that is followed, whichever the others are.  optional: whether to begin without it as
    long as it must not be read.  by_name: which objects to follow, where it is not all of them; each is then a watch of
    its own.
    """

    kind: type[Object]
    field_selector: str = ""
    label_selector: str = ""
    namespace: str = ""
    bare: bool = False
    optional: bool = False
    keeps_status: bool = False
    keep: Callable[[Mapping[str, Any]], bool] = lambda _: True
    by_name: ByName | None = None


class KubernetesSource:
    """Objects of a cluster, in all namespaces or in some.

    `dice` gives numbers from 0 to 1, to spread retries. `retold` is called for each object whose status was told anew,
    of the kinds whose status is kept.
    """

    def __init__(
        self,
        api: Api,
        interests: Iterable[Interest],
        *,
        namespaces: Sequence[str] = (),
        dice: Callable[[], float],
        retold: Callable[[Key], None] = lambda _: None,
    ) -> None:
        interests = tuple(interests)
        self._api = api
        self._dice = dice
        self._retold = retold
        self.catalog = Catalog(api, (each.kind for each in interests))
        self._watchers = [
            _Watcher(self, each, namespace)
            for each in interests
            if each.by_name is None
            for namespace in _namespaces(each, namespaces)
        ]
        self._pending: dict[Key, Change] = {}
        self._news = asyncio.Event()
        self._heard = asyncio.Event()
        self._named = [
            NamedWatchers(each.kind, each.by_name, partial(_Watcher, self, each), self._news.set)
            for each in interests
            if each.by_name is not None
        ]

    @property
    def synced(self) -> bool:
        """Whether every kind that is served has been listed, but those that are optional and must not be read."""
        return (
            self.catalog.known
            and all(each.settled or self.catalog.get(each.interest.kind) is None for each in self._watchers)
            and all(each.settled for each in self._named)
        )

    async def listed(self, kinds: Collection[type[Object]]) -> tuple[Change, ...]:
        """Wait until these kinds, as far as they are served, have been listed; return what there is of them.

        That may be long before `watch` tells of anything.
        """
        watchers = [each for each in self._watchers if each.interest.kind in kinds]
        while not self.catalog.known or any(
            not each.settled and self.catalog.get(each.interest.kind) is not None for each in watchers
        ):
            await self._heard.wait()
        return tuple(Upsert(item) for each in watchers for item in each.follower.known)

    def told(self, key: Key) -> Told | None:
        """Return what the API server last said of an object's status; None where it has no such object."""
        for each in self._watchers:
            if (key.group, key.kind) == (each.interest.kind.GROUP, each.interest.kind.KIND):
                found = each.follower.told.get(key)
                if found is not None:
                    return found
        return None

    def note(self, key: Key, told: Told) -> None:
        """Take over what the API server says of an object that was written, ahead of the watch."""
        for each in self._watchers:
            if key in each.follower.told:
                each.follower.told[key] = told

    @property
    def all_told(self) -> Iterable[Key]:
        """Every object whose status is kept."""
        return [key for each in self._watchers for key in each.follower.told]

    def served(self, key: Key) -> Served | None:
        """Return how an object's kind is served; None where it is not."""
        for each in self._watchers:
            if (key.group, key.kind) == (each.interest.kind.GROUP, each.interest.kind.KIND):
                return self.catalog.get(each.interest.kind)
        return None

    async def watch(self, stop: asyncio.Event) -> AsyncIterator[Reading]:
        """Deliver all objects as the first reading, and a reading whenever anything is different, until `stop`."""
        works = [each.run() for each in self._watchers] + [each.run() for each in self._named]
        tasks = [asyncio.create_task(each) for each in (*works, self.catalog.run())]
        stopping = asyncio.create_task(stop.wait())
        first = True
        try:
            while not stop.is_set():
                news = asyncio.create_task(self._news.wait())
                done, _ = await asyncio.wait({news, stopping, *tasks}, return_when=asyncio.FIRST_COMPLETED)
                news.cancel()
                for task in done & {*tasks}:
                    # None of them ends but by a bug of ours.
                    task.result()
                if stop.is_set():
                    return
                self._news.clear()
                for each in self._named:
                    self._put(each.adapt())
                if first and not self.synced:
                    continue
                first = False
                held = frozenset().union(*(each.held for each in self._named))
                changes = self._due(held)
                if changes or not held:
                    yield Reading(changes, self._problems(), self._notices())
        finally:
            for task in (*tasks, stopping):
                task.cancel()
            await asyncio.gather(*tasks, stopping, return_exceptions=True)

    def hear(self, retold: set[Key]) -> None:
        """Pass on which statuses were told anew."""
        for key in retold:
            self._retold(key)
        retold.clear()

    def take(self, changes: Sequence[Change], retold: set[Key]) -> None:
        """Take in what a watcher found."""
        self.hear(retold)
        for each in self._named:
            each.note(changes)
        self._put(changes)
        self._news.set()
        self._heard.set()
        self._heard = asyncio.Event()

    def _put(self, changes: Iterable[Change]) -> None:
        for change in changes:
            self._pending[change.object.key if isinstance(change, Upsert) else change.key] = change

    def _due(self, held: frozenset[tuple[str, str]]) -> tuple[Change, ...]:
        """Take what is to be told: all but changes of kinds that are held back."""
        due, self._pending = self._pending, {}
        if held:
            self._pending = {key: change for key, change in due.items() if (key.group, key.kind) in held}
        return tuple(change for key, change in due.items() if key not in self._pending)

    @property
    def spacing(self) -> float:
        """Seconds between two attempts at an object that is followed by name and cannot be read."""
        return max((each.spacing for each in self._named), default=0.0)

    async def pause(self, attempt: int, least: float = 0.0) -> None:
        """Wait before another attempt, the longer the more there have been."""
        longest = min(_LAST_RETRY, _FIRST_RETRY * 2.0 ** min(attempt, 10))
        await asyncio.sleep(max(least, self.spread(longest)))

    def spread(self, longest: float) -> float:
        """Return a time between half of this one and the whole."""
        return longest * (0.5 + self._dice() / 2)

    @property
    def api(self) -> Api:
        """The API server."""
        return self._api

    def _problems(self) -> tuple[ObjectProblem, ...]:
        found = {text for each in self._all for text in each.follower.problems.values()}
        found |= {each.trouble for each in self._all if each.trouble}
        return tuple(sorted(map(ObjectProblem, found)))

    def _notices(self) -> tuple[ObjectNotice, ...]:
        return tuple(sorted(ObjectNotice(text) for each in self._all for text in each.follower.notices()))

    @property
    def _all(self) -> Iterable[_Watcher]:
        return (*self._watchers, *(watcher for each in self._named for watcher in each.watchers))


def _namespaces(interest: Interest, watched: Sequence[str]) -> Sequence[str]:
    if interest.namespace:
        return (interest.namespace,)
    return watched if watched and interest.kind.NAMESPACED else ("",)


class _Watcher:
    """Follows one kind, in all namespaces ("") or in one, or one object by its name."""

    def __init__(self, source: KubernetesSource, interest: Interest, namespace: str, name: str = "") -> None:
        self._source = source
        self._namespace = namespace
        self._name = name
        # Rights that are given for names (RBAC, resourceNames) are those of requests with this very selector.
        fields = (f"metadata.name={name}" if name else "", interest.field_selector)
        self._fields = ",".join(filter(None, fields))
        self.interest = interest
        self.follower = Follower(
            interest.kind, keeps_status=interest.keeps_status, keep=interest.keep, bare=interest.bare
        )
        # How many attempts have failed since the API server last said anything.
        self._failed = 0
        self._away = False
        # What a user has to mend before this kind can be read.
        self.trouble = ""

    @property
    def settled(self) -> bool:
        """Whether nothing has to be waited for."""
        return self.follower.listed or (bool(self.interest.optional or self._name) and bool(self.trouble))

    async def run(self) -> None:
        """List and watch, for ever."""
        while True:
            served = await self._source.catalog.wait_for(self.interest.kind)
            try:
                await self._follow(served)
                self._failed, self._away = 0, False
            except ApiError as error:
                # One that is back and refuses at first, as it does while it starts, is soon asked again.
                back, self._away = self._away, False
                settled = back or (error.status == GONE and self.follower.listed)
                self._failed = 0 if settled else self._failed + 1
                await self._suffer(served, error, self._failed)
            except UnreachableError as error:
                self._away = True
                self._failed += 1
                if self._failed == 1 and not self._name:
                    _log.warning("watch interrupted", kind=self.interest.kind.KIND, reason=str(error))
                await self._source.pause(self._failed)

    async def _follow(self, served: Served) -> None:
        path = served.path(self._namespace)
        selectors = {"fieldSelector": self._fields, "labelSelector": self.interest.label_selector}
        selected = {name: value for name, value in selectors.items() if value}
        if not self.follower.version:
            await self._list(path, selected)
        self.trouble = ""
        query = {
            **selected,
            "resourceVersion": self.follower.version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(round(self._source.spread(_WATCH))),
        }
        async for line in self._source.api.watch(path, query, accept=METADATA if self.interest.bare else JSON):
            before = len(self.follower.problems), len(self.follower.ignored)
            changes = self.follower.event(line)
            self._failed, self._away = 0, False
            if changes or before != (len(self.follower.problems), len(self.follower.ignored)):
                self._source.take(changes, self.follower.retold)
            else:
                self._source.hear(self.follower.retold)

    async def _list(self, path: str, selected: Mapping[str, str]) -> None:
        self.follower.restart()
        query = {**selected, "limit": _PAGE}
        accept = METADATA_LIST if self.interest.bare else JSON
        coming = asyncio.create_task(self._source.api.get(path, query, accept=accept))
        try:
            while True:
                page = Page.read(await coming)
                self.trouble = ""
                if page.next:
                    # The server puts it together while this one is decoded.
                    more = {**query, "continue": page.next}
                    coming = asyncio.create_task(self._source.api.get(path, more, accept=accept))
                for part in page.parts():
                    self._source.take(self.follower.page(part), self.follower.retold)
                    await asyncio.sleep(0)
                if not page.next:
                    return
        finally:
            coming.cancel()

    async def _suffer(self, served: Served, error: ApiError, attempt: int) -> None:
        if error.status == GONE:
            self.follower.restart()
        elif error.status == NOT_FOUND:
            # Either the server is starting up, or the definition is gone; the catalog knows in a moment.
            if self._source.catalog.get(self.interest.kind) is None:
                self._source.take(self.follower.forget(), self.follower.retold)
                return
        elif error.status == FORBIDDEN or (self._name and attempt >= _ATTEMPTS):
            # Never taken for absence: what the cluster has may be serving.
            self._source.take(self._stand_in(served, error.message), set())
        if attempt == 1 and error.status != GONE:
            name = {"object": f"{self._namespace}/{self._name}"} if self._name else {}
            _log.warning("watch interrupted", kind=self.interest.kind.KIND, **name, reason=str(error))
        await self._source.pause(attempt, max(error.retry_after, self._source.spacing if self._name else 0.0))

    def _stand_in(self, served: Served, reason: str) -> list[Change]:
        """Note that this cannot be read, and return what is to be told of that."""
        what = f"{served.plural}.{served.kind.GROUP or 'core'}"
        changes: list[Change] = []
        if self.interest.by_name is not None:
            stand_in = self.interest.by_name.stand_in(self._namespace, self._name, reason)
            what, changes = str(stand_in.key), self.follower.put(stand_in)
        self.trouble = f"{what}: cannot be read: {reason}"
        return changes
