import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from pointsman.admin import Admin
from pointsman.control_plane import ControlPlane
from pointsman.failure import Failure
from pointsman.placement import Host
from pointsman.sites import OneMachine
from pointsman.translation_settings import settings
from sources import FolderSource, Reading
from xds import ClientStatus, Peer

GATEWAY = """
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: a}
spec:
  gatewayClassName: inference-gateway
  listeners: [{name: http, protocol: HTTP, port: 8080}]
"""
ENVOY = ClientStatus(Peer("envoy-1", "folder", "envoy", "envoy"), in_sync=True, types=(), nacks=())


def control_plane(host: Host) -> ControlPlane:
    return ControlPlane(OneMachine(host=host, publish=lambda _: None), settings(host.bind, None))


class Served:
    """A control plane, and a client of its admin endpoint on a unix socket."""

    def __init__(self, folder: Path, session: aiohttp.ClientSession) -> None:
        self.plane = control_plane(Host(first_port=1))
        self.admin = Admin(self.plane, lambda: [ENVOY], f"unix:{folder / 'admin.sock'}")
        self.source = FolderSource([folder])
        self._session = session

    async def get(self, path: str) -> tuple[int, str]:
        async with self._session.get(f"http://admin{path}") as response:
            return response.status, await response.text()


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    (tmp_path / "a.yaml").write_text(GATEWAY)
    connector = aiohttp.UnixConnector(str(tmp_path / "admin.sock"))
    async with aiohttp.ClientSession(connector=connector) as session:
        found = Served(tmp_path, session)
        await found.admin.start()
        try:
            yield found
        finally:
            await found.admin.stop()


async def test_it_is_ready_once_something_is_published(served: Served) -> None:
    assert await served.get("/healthz") == (200, "ok\n")
    assert (await served.get("/readyz"))[0] == 503
    served.plane.take(served.source.read())
    assert await served.get("/readyz") == (200, "ready\n")


async def test_the_status_waits_for_what_is_newer(served: Served) -> None:
    generation = served.plane.state.generation
    waiting = asyncio.create_task(served.get(f"/status?after={generation}"))
    await asyncio.sleep(0)
    assert not waiting.done()
    served.plane.take(Reading())
    status, body = await waiting
    assert status == 200
    assert f'"generation": {generation + 1}' in body
    assert '"node": "envoy-1"' in body


async def test_the_metrics_are_prometheus(served: Served) -> None:
    served.plane.take(served.source.read())
    _, body = await served.get("/metrics")
    assert 'pointsman_resources{type="Listener"} 1.0' in body
    assert "pointsman_translation_seconds_count 1.0" in body
    assert "pointsman_translation_failures_total 0.0" in body
    assert "pointsman_problems 0.0" in body
    assert 'pointsman_xds_nodes{in_sync="true",role="envoy"} 1.0' in body


async def test_the_dump_shows_what_is_published(served: Served) -> None:
    served.plane.take(served.source.read())
    _, body = await served.get("/config_dump")
    assert '"@type": "type.googleapis.com/envoy.config.listener.v3.Listener"' in body


@pytest.mark.parametrize("address", ["nonsense", "127.0.0.1:http", "192.0.2.1:80"])
async def test_an_address_that_cannot_be_bound_is_a_failure(address: str) -> None:
    plane = control_plane(Host())
    admin = Admin(plane, list, address)
    with pytest.raises(Failure, match=f"--admin {address}"):
        await admin.start()
    await admin.stop()
