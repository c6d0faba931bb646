"""A small asynchronous Kubernetes client: requests, and informers (list and watch)."""

import asyncio
import json
import logging
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from http import HTTPStatus
from typing import Self

import aiohttp

from .config import PKI, SERVER
from .manifest import Manifest

log = logging.getLogger("kube")

Handler = Callable[[Manifest | None, Manifest | None], object]
"""Told of each change: the object before and after, one of which may be None."""

_LONGEST_ERROR = 500  # characters of an answer that are kept


class ApiError(Exception):
    """An answer of 400 and more, or none at all (status 0)."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


class Kube:
    """The administrator's connections to the API server."""

    def __init__(self) -> None:
        self._stack = AsyncExitStack()
        self._session: aiohttp.ClientSession

    async def __aenter__(self) -> Self:
        context = ssl.create_default_context(cafile=PKI / "ca.crt")
        context.load_cert_chain(PKI / "admin.crt", PKI / "admin.key")
        connector = aiohttp.TCPConnector(ssl=context, limit=0)
        self._session = await self._stack.enter_async_context(aiohttp.ClientSession(SERVER, connector=connector))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def request(
        self, method: str, path: str, body: Manifest | None = None, content: str = "application/json"
    ) -> Manifest:
        """Send a request and return the object that is answered; ApiError where it is refused or fails."""
        data = None if body is None else json.dumps(body)
        timeout, headers = aiohttp.ClientTimeout(total=30), {"Content-Type": content}
        try:
            async with self._session.request(method, path, data=data, timeout=timeout, headers=headers) as answer:
                text = await answer.text()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise ApiError(0, repr(error)) from error
        if answer.status >= HTTPStatus.BAD_REQUEST:
            raise ApiError(answer.status, text[:_LONGEST_ERROR])
        found: Manifest = json.loads(text)
        return found

    async def get(self, path: str) -> Manifest | None:
        """The object, or None where there is none."""
        try:
            return await self.request("GET", path)
        except ApiError as error:
            if error.status == HTTPStatus.NOT_FOUND:
                return None
            raise

    async def create(self, path: str, body: Manifest) -> None:
        """Create an object; fine where it exists."""
        try:
            await self.request("POST", path, body)
        except ApiError as error:
            if error.status != HTTPStatus.CONFLICT:
                raise

    async def patch(self, path: str, body: Manifest) -> None:
        """Merge into an object."""
        await self.request("PATCH", path, body, "application/merge-patch+json")

    async def watch(self, path: str, version: str) -> AsyncIterator[Manifest]:
        """The events of a collection, for some minutes."""
        timeout = aiohttp.ClientTimeout(total=None, sock_read=330)
        params = {"watch": "1", "resourceVersion": version, "timeoutSeconds": "300", "allowWatchBookmarks": "true"}
        async with self._session.get(path, params=params, timeout=timeout) as answer:
            if answer.status >= HTTPStatus.BAD_REQUEST:
                raise ApiError(answer.status, await answer.text())
            buffer = b""
            async for chunk in answer.content.iter_any():
                *lines, buffer = (buffer + chunk).split(b"\n")
                for line in lines:
                    yield json.loads(line)


def key_of(item: Manifest) -> tuple[str, str]:
    """Namespace and name."""
    return item["metadata"].get("namespace", ""), item["metadata"]["name"]


class Informer:
    """Keeps `objects` (by namespace and name) like the API server's, and tells handlers of every change."""

    def __init__(self, kube: Kube, path: str) -> None:
        self._kube, self._path = kube, path
        self.objects: dict[tuple[str, str], Manifest] = {}
        self.handlers: list[Handler] = []
        self.synced = asyncio.Event()

    def get(self, namespace: str, name: str) -> Manifest | None:
        """The object, if there is one."""
        return self.objects.get((namespace, name))

    def _set(self, key: tuple[str, str], new: Manifest | None) -> None:
        old = self.objects.pop(key, None)
        if new is not None:
            self.objects[key] = new
        for handler in self.handlers:
            try:
                handler(old, new)
            except Exception:
                log.exception("handler of %s", self._path)

    async def run(self) -> None:
        """List and watch, for ever."""
        while True:
            try:
                await self._list_and_watch()
            except (aiohttp.ClientError, TimeoutError, ApiError, OSError) as error:
                log.warning("watch of %s: %r", self._path, error)
                await asyncio.sleep(1)

    async def _list_and_watch(self) -> None:
        answer = await self._kube.request("GET", self._path)
        present = {key_of(item): item for item in answer["items"]}
        for key in [each for each in self.objects if each not in present]:
            self._set(key, None)
        for key, item in present.items():
            self._set(key, item)
        self.synced.set()
        version = answer["metadata"]["resourceVersion"]
        while True:
            async for event in self._kube.watch(self._path, version):
                if event["type"] == "ERROR":  # too old a version: list again
                    return
                version = event["object"]["metadata"]["resourceVersion"]
                if event["type"] != "BOOKMARK":
                    self._set(key_of(event["object"]), None if event["type"] == "DELETED" else event["object"])
