"""What is asked of an API server for what is to be followed."""

import asyncio
from pathlib import Path

from aiohttp import web
from api_server import api_of

from resources import Delete, Secret, Service, World
from sources.kubernetes import Interest, KubernetesSource

RESOURCES = [{"name": "services", "kind": "Service"}, {"name": "secrets", "kind": "Secret"}]
INTERESTS = (
    Interest(Service),
    Interest(Secret, label_selector="app=ours", namespace="system", bare=True, optional=True),
)


class Server:
    """As much of an API server as has one Secret, and gives its metadata to whoever asks for no more."""

    def __init__(self, *, forbids: bool = False) -> None:
        self.asked: set[tuple[str, str]] = set()
        self.accepted: set[str] = set()
        self._forbids = forbids

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Say what a client asks for."""
        if request.path == "/api/v1":
            return web.json_response({"resources": RESOURCES})
        if not request.path.endswith(("services", "secrets")):
            return web.json_response({"reason": "NotFound", "message": "not found"}, status=404)
        self.asked.add((request.path, request.query.get("labelSelector", "")))
        secrets = request.path.endswith("secrets")
        if secrets:
            self.accepted.add(request.headers["Accept"].partition(";")[2].partition(";")[0])
            if self._forbids:
                return web.json_response({"reason": "Forbidden", "message": "you may not"}, status=403)
        if "watch" in request.query:
            stream = web.StreamResponse()
            await stream.prepare(request)
            await asyncio.sleep(60)
            return stream
        items = [{"metadata": {"name": "a", "namespace": "system", "uid": "1"}}] if secrets else []
        kind = {"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadataList"} if secrets else {}
        return web.json_response({**kind, "metadata": {"resourceVersion": "1"}, "items": items})


async def follow(server: Server, folder: Path) -> tuple[World, tuple[str, ...]]:
    """Follow services in two namespaces and Secrets in one; return the first World, and the problems."""
    async with api_of(server.answer, folder) as api, asyncio.timeout(60):
        source = KubernetesSource(api, INTERESTS, namespaces=("shop", "other"), dice=lambda: 0.5)
        stop = asyncio.Event()
        async for reading in source.watch(stop):
            stop.set()
            changes = [each for each in reading.changes if not isinstance(each, Delete)]
            return World().apply(changes), tuple(map(str, reading.problems))
    raise AssertionError


async def test_one_namespace_alone_is_asked_for_metadata_whichever_are_watched(tmp_path: Path) -> None:
    server = Server()
    world, problems = await follow(server, tmp_path)
    ((namespace, name),) = world.all(Secret)
    assert (namespace, name, problems) == ("system", "a", ())
    assert {*server.asked} == {
        ("/api/v1/namespaces/shop/services", ""),
        ("/api/v1/namespaces/other/services", ""),
        ("/api/v1/namespaces/system/secrets", "app=ours"),
    }
    assert (
        "as=PartialObjectMetadataList"
        in server.accepted
        <= {"as=PartialObjectMetadataList", "as=PartialObjectMetadata"}
    )


async def test_what_is_optional_and_must_not_be_read_is_said_and_not_waited_for(tmp_path: Path) -> None:
    world, (problem,) = await follow(Server(forbids=True), tmp_path)
    assert not world.all(Secret)
    assert "secrets.core: cannot be read: you may not" in problem
