"""What the replicas of a program tell one another: each has a Lease of its own, with a text in an annotation.

A replica whose Lease is not renewed is gone, and what it said counts no more.  That takes an API server that would
tell of renewals: while it is away, and for a while after it is back, nobody is gone.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import orjson
import structlog

from sources.kubernetes.api import Api
from sources.kubernetes.election import LEASES, moment
from sources.kubernetes.errors import ApiError, UnreachableError

LABEL = "pointsman.dev/replica-of"
ANNOTATION = "pointsman.dev/told"

# Seconds: between renewals, until a replica that does not renew is gone, and from then until its Lease is deleted.
_INTERVAL = 3.0
_DURATION = 12.0
_MOURNING = 60.0
# The shortest time between two texts (seconds).
_BREATH = 0.25
_RETRY = 1.0

# What cannot be in an object's name (RFC 1123).
_NO_NAME = re.compile("[^a-z0-9.-]+")

_log = structlog.get_logger("replicas")


@dataclass(frozen=True, slots=True)
class _Member:
    renewed: str
    text: str
    # When that was seen first.
    at: float


class Members:
    """The replicas that share the Lease `name`; this one is `identity`."""

    def __init__(self, api: Api, namespace: str, name: str, identity: str) -> None:
        self._api = api
        self._namespace = namespace
        self._group = name
        self._identity = identity
        self._path = LEASES.format(namespace)
        self._text = ""
        self._asked = asyncio.Event()
        self._members: dict[str, _Member] = {}
        self._changed = asyncio.Event()
        self._heard: Mapping[str, str] = {}
        # When the API server last said anything: of this replica's own Lease, if of nothing else.
        self._told_at = 0.0
        # Why the API server does not let it tell anything.
        self.trouble = ""

    @property
    def heard(self) -> Mapping[str, str]:
        """What the others that are there say, by identity."""
        return self._heard

    def say(self, text: str) -> None:
        """Have the others hear a text, in place of the last one."""
        if text != self._text:
            self._text = text
            self._asked.set()

    async def changed(self) -> None:
        """Wait until something else is heard."""
        await self._changed.wait()

    async def run(self) -> None:
        """Say and hear, for ever; at the end this one is no longer among the replicas."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._speak())
                tasks.create_task(self._listen())
                tasks.create_task(self._look_around())
        finally:
            with suppress(ApiError, UnreachableError, TimeoutError):
                async with asyncio.timeout(_RETRY):
                    await self._api.delete(f"{self._path}/{self._lease}")

    @property
    def _lease(self) -> str:
        return f"{self._group}-{_NO_NAME.sub('-', self._identity.lower()).strip('-.')}"

    async def _speak(self) -> None:
        while True:
            self._asked.clear()
            text = self._text
            metadata = {
                "name": self._lease,
                "namespace": self._namespace,
                "labels": {LABEL: self._group},
                "annotations": {ANNOTATION: text},
            }
            spec = {
                "holderIdentity": self._identity,
                "leaseDurationSeconds": int(_DURATION),
                "renewTime": moment(),
            }
            body = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}
            try:
                await self._api.apply(f"{self._path}/{self._lease}", body, manager=self._group)
            except UnreachableError:
                await asyncio.sleep(_RETRY)
                continue
            except ApiError as error:
                trouble = f"Lease {self._namespace}/{self._lease}: cannot be written: {error.message or error.reason}"
                if trouble != self.trouble:
                    self.trouble = trouble
                    _log.warning("not said to the other replicas", reason=trouble)
                await asyncio.sleep(_RETRY)
                continue
            self.trouble = ""
            await asyncio.sleep(_BREATH)
            with suppress(TimeoutError):
                async with asyncio.timeout(_INTERVAL):
                    await self._asked.wait()

    async def _listen(self) -> None:
        while True:
            try:
                await self._follow()
            except (ApiError, UnreachableError):
                now = asyncio.get_running_loop().time()
                self._members = {
                    name: replace(each, at=now) for name, each in self._members.items() if self._lives(each)
                }
            await asyncio.sleep(_RETRY)

    async def _follow(self) -> None:
        query = {"labelSelector": f"{LABEL}={self._group}"}
        listed = orjson.loads(await self._api.get(self._path, query))
        items = listed.get("items") or []
        for name in self._members.keys() - {each["metadata"]["name"] for each in items}:
            del self._members[name]
        for each in items:
            self._hear(each)
        self._tell()
        query |= {"resourceVersion": listed["metadata"]["resourceVersion"], "timeoutSeconds": "290"}
        async for line in self._api.watch(self._path, query):
            said = orjson.loads(line)
            if said.get("type") in {"ADDED", "MODIFIED"}:
                self._hear(said["object"])
            elif said.get("type") == "DELETED":
                self._members.pop(said["object"]["metadata"]["name"], None)
            else:
                return
            self._tell()

    def _lives(self, member: _Member) -> bool:
        return self._told_at - member.at <= _DURATION

    def _hear(self, lease: Mapping[str, Any]) -> None:
        metadata = lease["metadata"]
        now = self._told_at = asyncio.get_running_loop().time()
        if metadata["name"] == self._lease:
            return
        renewed = (lease.get("spec") or {}).get("renewTime") or ""
        text = (metadata.get("annotations") or {}).get(ANNOTATION) or ""
        last = self._members.get(metadata["name"])
        if last is None or (last.renewed, last.text) != (renewed, text):
            self._members[metadata["name"]] = _Member(renewed, text, now)

    async def _look_around(self) -> None:
        """Forget replicas that are gone, and take away the Leases that they left."""
        while True:
            await asyncio.sleep(_INTERVAL)
            self._tell()
            for name, member in list(self._members.items()):
                if self._told_at - member.at > _DURATION + _MOURNING:
                    with suppress(ApiError, UnreachableError):
                        await self._api.delete(f"{self._path}/{name}")

    def _tell(self) -> None:
        heard = {name: each.text for name, each in self._members.items() if self._lives(each)}
        if heard != self._heard:
            self._heard = heard
            self._changed.set()
            self._changed = asyncio.Event()
