"""What a controller makes before it has read all of a cluster: Envoys of Gateways that have none, and nothing else."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web
from api_server import api_of

from pointsman.controller import Controller, ControllerOptions
from pointsman.interests import interests
from pointsman.ports import port_to_keep
from pointsman.provisioning import bootstrap_template
from resources import Gateway, GatewayClass, HTTPRoute, Object
from translators import CONTROLLER
from translators.infrastructure import Infrastructure

PATIENCE = 30.0
_PLURALS = {each.kind: f"{each.kind.KIND.lower()}s" for each in interests(frozenset({CONTROLLER}))}


class Cluster:
    """As much of an API server as has lists, and holds back that of the HTTPRoutes until it is told to give it."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {}
        self.applied: list[str] = []
        self.deleted: list[str] = []
        self.routes = asyncio.Event()
        self.asked_for_routes = asyncio.Event()
        self.over = asyncio.Event()
        self._version = 0

    def put(self, kind: type[Object], name: str, **spec: object) -> None:
        metadata = {"name": name, **({"namespace": "shop"} if kind.NAMESPACED else {})}
        self._store(self._path(kind, name), {"metadata": metadata, "spec": spec})

    def gone(self, kind: type[Object], name: str) -> None:
        del self.objects[self._path(kind, name)]

    @staticmethod
    def _path(kind: type[Object], name: str) -> str:
        group = f"apis/{kind.GROUP}" if kind.GROUP else "api"
        place = "namespaces/shop/" if kind.NAMESPACED else ""
        return f"/{group}/{kind.VERSIONS[0]}/{place}{_PLURALS[kind]}/{name}"

    def _store(self, path: str, item: dict[str, Any]) -> dict[str, Any]:
        self._version += 1
        metadata = {"uid": path, **item["metadata"], "resourceVersion": str(self._version), "generation": 1}
        self.objects[path] = {**item, "metadata": metadata}
        return self.objects[path]

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Say what a client asks for."""
        path = request.path
        if request.method == "PATCH":
            self.applied.append(path)
            return web.json_response(self._store(path, orjson.loads(await request.read())))
        if request.method == "DELETE":
            self.deleted.append(path)
            return web.json_response(self.objects.pop(path, {}))
        if request.method in {"POST", "PUT"}:
            body = orjson.loads(await request.read())
            return web.json_response(self._store(f"{path}/{body['metadata']['name']}", body))
        if "watch" in request.query:
            stream = web.StreamResponse()
            await stream.prepare(request)
            await self.over.wait()
            return stream
        return await self._get(path)

    async def _get(self, path: str) -> web.Response:
        if (known := _discovery().get(path)) is not None:
            return web.json_response(known)
        if path in self.objects:
            return web.json_response(self.objects[path])
        plural = path.rpartition("/")[2]
        if plural not in _PLURALS.values():
            return web.json_response({"reason": "NotFound", "message": "not found"}, status=404)
        if plural == _PLURALS[HTTPRoute]:
            self.asked_for_routes.set()
            await self.routes.wait()
        root = path.rpartition("/")[0]
        items = [
            each for name, each in self.objects.items() if name.startswith(f"{root}/") and name.split("/")[-2] == plural
        ]
        api_version = root.removeprefix("/apis/").removeprefix("/api/")
        metadata = {"resourceVersion": str(self._version)}
        return web.json_response({"apiVersion": api_version, "metadata": metadata, "items": items})

    def made(self, plural: str) -> int:
        return sum(f"/{plural}/" in each for each in self.applied)


def _discovery() -> Mapping[str, Any]:
    """Return what is served, by path: every kind that is followed, in its first version."""
    found: dict[str, Any] = {}
    for kind, plural in _PLURALS.items():
        version = kind.VERSIONS[0]
        root = f"/apis/{kind.GROUP}/{version}" if kind.GROUP else f"/api/{version}"
        found.setdefault(root, {"resources": []})["resources"].append({"name": plural, "kind": kind.KIND})
        if kind.GROUP:
            found[f"/apis/{kind.GROUP}"] = {
                "versions": [{"version": version}],
                "preferredVersion": {"version": version},
            }
    return found


INFRASTRUCTURE = Infrastructure(
    xds="127.0.0.1:18000",
    bootstrap=bootstrap_template(),
    envoy_image="envoy:a",
    pointsman_image="pointsman:a",
    own_namespace="ours",
)
# Gateways are in the controller's own namespace.
MUTUAL = replace(INFRASTRUCTURE, xds_mtls="127.0.0.1:18001", own_namespace="shop")


@asynccontextmanager
async def controlled(cluster: Cluster, folder: Path, infrastructure: Infrastructure) -> AsyncIterator[Controller]:
    async with api_of(cluster.answer, folder) as api:
        options = ControllerOptions(
            xds=f"127.0.0.1:{port_to_keep()}",
            admin=f"127.0.0.1:{port_to_keep()}",
            xds_mtls=f"127.0.0.1:{port_to_keep()}" if infrastructure.xds_mtls else "",
            infrastructure=infrastructure,
            own_namespace=infrastructure.own_namespace,
        )
        controller, stop = Controller(options, api), asyncio.Event()
        running = asyncio.create_task(controller.run(stop))
        try:
            yield controller
        finally:
            stop.set()
            cluster.over.set()
            await running


async def until(holds: Any, running: float = PATIENCE) -> None:
    async with asyncio.timeout(running):
        while not holds():
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("infrastructure", [INFRASTRUCTURE, MUTUAL], ids=["tokens", "certificates"])
async def test_envoys_are_started_while_routes_are_read_and_nothing_else_is_touched(
    tmp_path: Path, infrastructure: Infrastructure
) -> None:
    cluster = Cluster()
    cluster.put(GatewayClass, "ours", controllerName=CONTROLLER)
    listeners = [{"name": "http", "port": 80, "protocol": "HTTP"}]
    cluster.put(Gateway, "front", gatewayClassName="ours", listeners=listeners)
    async with controlled(cluster, tmp_path, infrastructure):
        await until(lambda: cluster.made("deployments") and cluster.made("services"))
        assert cluster.asked_for_routes.is_set()
        assert not cluster.routes.is_set()
        # Who was there before the routes were known, and what it is told, has not changed.
        assert not [each for each in cluster.applied if each.endswith("/status")]
        cluster.routes.set()
        await until(lambda: [each for each in cluster.applied if each.endswith("/status")])
    assert cluster.made("secrets") == bool(infrastructure.xds_mtls)
    before = len(cluster.applied)

    # A new version's controller finds Envoys of an older one: they are changed, but not before everything is known.
    cluster.routes.clear()
    cluster.over.clear()
    cluster.put(Gateway, "side", gatewayClassName="ours", listeners=listeners)
    async with controlled(cluster, tmp_path, replace(infrastructure, envoy_image="envoy:b")):
        await until(lambda: any("side-ours" in each and "/services/" in each for each in cluster.applied[before:]))
        assert not [each for each in cluster.applied[before:] if "front-ours" in each]
        cluster.routes.set()
        await until(lambda: any("deployments/front-ours" in each for each in cluster.applied[before:]))
    assert cluster.deleted == []


async def test_the_secret_of_a_certificate_is_swept_with_the_rest_and_no_other_is(tmp_path: Path) -> None:
    cluster = Cluster()
    cluster.routes.set()
    cluster.put(GatewayClass, "ours", controllerName=CONTROLLER)
    listeners = [{"name": "http", "port": 80, "protocol": "HTTP"}]
    cluster.put(Gateway, "front", gatewayClassName="ours", listeners=listeners)
    async with controlled(cluster, tmp_path, MUTUAL):
        await until(lambda: cluster.made("services"))
    path = "/api/v1/namespaces/shop/secrets/front-ours-identity"
    made = cluster.objects[path]
    assert {*made["data"]} == {"tls.crt", "tls.key"}
    # Beside the authority's, one that nobody has put a name to.
    cluster.objects[path.replace("front-ours", "theirs")] = {**made, "metadata": {"name": "theirs-identity"}}
    cluster.over.clear()
    cluster.gone(Gateway, "front")
    async with controlled(cluster, tmp_path, MUTUAL):
        await until(lambda: path in cluster.deleted)
    assert [each for each in cluster.deleted if "/secrets/" in each] == [path]
