"""As much of an API server as lists and watches objects of a few kinds, with rights for the names of Secrets."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
from aiohttp import web
from api_server import api_of

from sources.kubernetes import Api

Name = tuple[str, str]
Manifest = Mapping[str, Any]

_GATEWAY_API = {"gatewayclasses": "GatewayClass", "gateways": "Gateway", "httproutes": "HTTPRoute"}
_KINDS = {
    "v1": {"secrets": "Secret"},
    "gateway.networking.k8s.io/v1": {**_GATEWAY_API, "referencegrants": "ReferenceGrant"},
}
_PLURALS = {kind: plural for kinds in _KINDS.values() for plural, kind in kinds.items()}


class SmallApiServer:
    """Objects by kind and name, and what was asked of Secrets.

    asked: of each request for Secrets, the namespace and the name that it selects; "" for all. forbidden: the Secrets,
    and broken: those of which lists end in an error. blocked: those whose lists wait for an event.
    """

    def __init__(self) -> None:
        self.asked: list[Name] = []
        self.forbidden: set[Name] = set()
        self.broken: set[Name] = set()
        self.blocked: dict[Name, asyncio.Event] = {}
        self._objects: dict[str, dict[Name, Manifest]] = {plural: {} for plural in _PLURALS.values()}
        self._events: list[tuple[int, str, str, Manifest]] = []
        self._version = 1
        self._oldest = 0
        self._changed = asyncio.Event()
        self._cut = asyncio.Event()

    def apply(self, *items: Manifest) -> None:
        """Have these objects."""
        for item in items:
            plural, name = self._place(item)
            event = "MODIFIED" if name in self._objects[plural] else "ADDED"
            metadata = {"namespace": name[0], **item["metadata"], "resourceVersion": str(self._version + 1)}
            if not name[0]:
                del metadata["namespace"]
            self._objects[plural][name] = self._happens(event, plural, {**item, "metadata": metadata})

    def delete(self, item: Manifest) -> None:
        """No longer have an object."""
        plural, name = self._place(item)
        self._happens("DELETED", plural, self._objects[plural].pop(name))

    def forget_the_past(self) -> None:
        """End all watches; those that go on from any version until now are refused (410)."""
        self._version += 1
        self._oldest = self._version
        self.cut()

    def cut(self) -> None:
        """End all watches."""
        self._cut.set()
        self._cut = asyncio.Event()

    def _place(self, item: Manifest) -> tuple[str, Name]:
        metadata = item["metadata"]
        namespace = "" if item["kind"] == "GatewayClass" else metadata.get("namespace", "default")
        return _PLURALS[item["kind"]], (namespace, metadata["name"])

    def _happens(self, event: str, plural: str, item: Manifest) -> Manifest:
        self._version += 1
        self._events.append((self._version, event, plural, item))
        self._changed.set()
        self._changed = asyncio.Event()
        return item

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Say what a client asks for."""
        parts = request.path.strip("/").split("/")
        version = "v1" if parts[0] == "api" else "/".join(parts[1:3])
        rest = parts[2 if parts[0] == "api" else 3 :]
        if parts == ["apis", "gateway.networking.k8s.io"]:
            return web.json_response({"versions": [{"version": "v1"}], "preferredVersion": {"version": "v1"}})
        if version not in _KINDS:
            return _refused(404, "NotFound", "not found")
        if not rest:
            kinds = [{"name": plural, "kind": kind} for plural, kind in _KINDS[version].items()]
            return web.json_response({"resources": kinds})
        namespace = rest[1] if rest[0] == "namespaces" else ""
        return await self._told(request, rest[-1], namespace)

    async def _told(self, request: web.Request, plural: str, namespace: str) -> web.StreamResponse:
        selectors = dict(each.split("=") for each in request.query.get("fieldSelector", "").split(",") if each)
        name = selectors.pop("metadata.name", "")
        if plural == "secrets":
            self.asked.append((namespace, name))
            assert selectors == {"type": "kubernetes.io/tls"}
        if (namespace, name) in self.forbidden:
            return _refused(403, "Forbidden", f'secrets "{name}" is forbidden')
        if (namespace, name) in self.broken:
            return _refused(500, "InternalError", "no key to decrypt it with")

        def chosen(item: Manifest) -> bool:
            found = item["metadata"]
            return namespace in {"", found.get("namespace")} and name in {"", found["name"]}

        if "watch" in request.query:
            return await self._watched(request, plural, chosen)
        if (namespace, name) in self.blocked:
            await self.blocked[namespace, name].wait()
        items = [each for each in self._objects[plural].values() if chosen(each)]
        return web.json_response({"metadata": {"resourceVersion": str(self._version)}, "items": items})

    async def _watched(self, request: web.Request, plural: str, chosen: Any) -> web.StreamResponse:
        stream, cut = web.StreamResponse(), self._cut
        await stream.prepare(request)
        last = int(request.query["resourceVersion"])
        if last < self._oldest:
            gone = {"code": 410, "reason": "Expired", "message": "too old"}
            await stream.write(orjson.dumps({"type": "ERROR", "object": gone}) + b"\n")
            return stream
        while not cut.is_set():
            changed = self._changed
            for version, event, of, item in list(self._events):
                if version > last and of == plural and chosen(item):
                    await stream.write(orjson.dumps({"type": event, "object": item}) + b"\n")
            last = self._version
            waits = [asyncio.create_task(each.wait()) for each in (changed, cut)]
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for each in waits:
                    each.cancel()
        return stream


def _refused(status: int, reason: str, message: str) -> web.Response:
    return web.json_response({"reason": reason, "message": message}, status=status)


@asynccontextmanager
async def served(server: SmallApiServer, folder: Path) -> AsyncIterator[Api]:
    """Serve it, and give what asks it."""
    async with api_of(server.answer, folder) as api:
        yield api
        server.cut()
