"""The server over real sockets, with a client that speaks the protocol by hand."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import grpc
import pytest
from google.protobuf.struct_pb2 import Struct

from protos.pointsman.envoy.v1.base_pb2 import Node
from protos.pointsman.envoy.v1.discovery_pb2 import DeltaDiscoveryRequest, DeltaDiscoveryResponse, Status
from xds import AdsServer, ClientStatus, Nack, Peer, Permit, Refusal, Sealed, Snapshot
from xds.type_urls import CLUSTER, ENDPOINTS
from xds.wire import METHOD

GROUP = "default/gateway"


def clusters(*names: str, size: int = 1) -> Snapshot:
    return Snapshot.of(Sealed(CLUSTER, name, b"x" * size, "1", f"Service default/{name}") for name in names)


class Client:
    """One stream to the server."""

    def __init__(
        self, channel: grpc.aio.Channel, *, role: str | None = None, node: str = "node-1", token: str = ""
    ) -> None:
        call = channel.stream_stream(
            METHOD,
            request_serializer=DeltaDiscoveryRequest.SerializeToString,
            response_deserializer=DeltaDiscoveryResponse.FromString,
        )
        self.stream = call(metadata=(("authorization", token),) if token else ())
        metadata = Struct()
        if role is not None:
            metadata.update({"role": role})
        self.node = Node(id=node, cluster=GROUP, metadata=metadata, user_agent_name="envoy")

    async def subscribe(self, type_url: str = CLUSTER) -> None:
        await self.stream.write(DeltaDiscoveryRequest(node=self.node, type_url=type_url))

    async def read(self) -> DeltaDiscoveryResponse:
        async with asyncio.timeout(5):
            response = await self.stream.read()
        assert isinstance(response, DeltaDiscoveryResponse)
        return response

    async def answer(self, response: DeltaDiscoveryResponse, error: str | None = None) -> None:
        request = DeltaDiscoveryRequest(type_url=response.type_url, response_nonce=response.nonce)
        if error is not None:
            request.error_detail.CopyFrom(Status(code=3, message=error))
        await self.stream.write(request)


class Nacks(asyncio.Queue[Nack]):
    """Where the server puts refusals."""


@pytest.fixture
def nacks() -> Nacks:
    return Nacks()


@pytest.fixture
async def server(nacks: Nacks) -> AsyncIterator[AdsServer]:
    server = AdsServer("127.0.0.1:0", nacks.put_nowait)
    await server.start()
    yield server
    await server.stop(0)


@pytest.fixture
async def channel(server: AdsServer) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(server.address, options=[("grpc.max_receive_message_length", -1)]) as channel:
        yield channel


def only(statuses: tuple[ClientStatus, ...]) -> ClientStatus:
    [status] = statuses
    return status


async def test_serves_and_reports(server: AdsServer, channel: grpc.aio.Channel) -> None:
    server.publish(GROUP, clusters("a", "b"))
    client = Client(channel)
    await client.subscribe()
    response = await client.read()
    assert [(each.name, each.version, each.resource.value) for each in response.resources] == [
        ("a", "1", b"x"),
        ("b", "1", b"x"),
    ]
    assert {each.resource.type_url for each in response.resources} == {CLUSTER}
    status = only(server.status())
    assert (status.peer.node, status.peer.group, status.peer.role, status.peer.user_agent) == (
        "node-1",
        GROUP,
        "envoy",
        "envoy",
    )
    assert not status.in_sync
    assert status.types[0].outstanding
    await client.answer(response)
    assert await server.wait_in_sync(GROUP, 5)
    assert only(server.status()).in_sync
    assert only(server.status()).types[0].held == 2
    server.publish(GROUP, clusters("b"))
    response = await client.read()
    assert response.removed_resources == ["a"]


async def test_a_refusal_names_the_object(server: AdsServer, channel: grpc.aio.Channel, nacks: Nacks) -> None:
    server.publish(GROUP, clusters("a"))
    client = Client(channel)
    await client.subscribe()
    await client.answer(await client.read(), "no such field")
    nack = await asyncio.wait_for(nacks.get(), 5)
    assert (nack.name, nack.origin, nack.message, nack.peer.node) == (
        "a",
        "Service default/a",
        "no such field",
        "node-1",
    )
    assert not await server.wait_in_sync(GROUP, 60)
    assert only(server.status()).nacks == (nack,)


async def test_waits_for_an_envoy(server: AdsServer) -> None:
    server.publish(GROUP, clusters())
    assert not await server.wait_in_sync(GROUP, 0.01)


async def test_a_group_never_published_is_left_alone(server: AdsServer, channel: grpc.aio.Channel) -> None:
    client = Client(channel)
    await client.subscribe()
    server.publish("default/other", clusters("a"))
    server.publish(GROUP, clusters("b"))
    assert [each.name for each in (await client.read()).resources] == ["b"]


async def test_large_messages_pass(server: AdsServer, channel: grpc.aio.Channel) -> None:
    server.publish(GROUP, clusters("a", size=32 << 20))
    client = Client(channel)
    await client.subscribe()
    assert len((await client.read()).resources[0].resource.value) == 32 << 20


async def test_a_picker_follows_envoy(server: AdsServer, channel: grpc.aio.Channel) -> None:
    envoy, picker = Client(channel), Client(channel, role="picker", node="picker-1")
    server.publish(GROUP, Snapshot.of([]))
    for client in (envoy, picker):
        await client.subscribe(ENDPOINTS)
        await client.answer(await client.read())
    assert [status.peer.role for status in server.status()] == ["envoy", "picker"]
    server.publish(GROUP, Snapshot.of([Sealed(ENDPOINTS, "a", b"", "1", "Service default/a")]))
    response = await envoy.read()
    seen = asyncio.create_task(picker.read())
    await asyncio.sleep(0)
    assert not seen.done()
    await envoy.answer(response)
    assert [each.name for each in (await seen).resources] == ["a"]


async def test_who_leaves_is_forgotten(server: AdsServer, channel: grpc.aio.Channel) -> None:
    server.publish(GROUP, clusters())
    client = Client(channel)
    await client.subscribe()
    await client.read()
    client.stream.cancel()
    await gone(server)


async def test_who_hangs_up_is_forgotten(server: AdsServer, channel: grpc.aio.Channel) -> None:
    client = Client(channel)
    await client.subscribe()
    await client.stream.done_writing()
    assert await client.stream.read() is grpc.aio.EOF
    await gone(server)


async def gone(server: AdsServer) -> None:
    async with asyncio.timeout(5):
        while server.status():
            await asyncio.sleep(0.005)


async def test_a_client_must_say_who_it_is(server: AdsServer, channel: grpc.aio.Channel) -> None:
    client = Client(channel)
    await client.stream.write(DeltaDiscoveryRequest(type_url=CLUSTER))
    with pytest.raises(grpc.aio.AioRpcError, match="names no node"):
        await client.read()
    assert server.status() == ()


async def test_a_stop_ends_the_streams(server: AdsServer, channel: grpc.aio.Channel) -> None:
    client = Client(channel)
    await client.subscribe()
    server.publish(GROUP, clusters())
    await client.read()
    await server.stop(5)
    assert await client.stream.read() is grpc.aio.EOF
    assert server.status() == ()


async def test_serves_on_a_unix_socket(tmp_path: Path) -> None:
    server = AdsServer(f"unix:{tmp_path}/xds")
    await server.start()
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(server.stop, 0)
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(server.address))
        server.publish(GROUP, clusters("a"))
        client = Client(channel)
        await client.subscribe()
        assert len((await client.read()).resources) == 1


async def test_an_address_in_use_is_an_error(server: AdsServer) -> None:
    second = AdsServer(server.address)
    with pytest.raises(RuntimeError, match="bind"):
        await second.start()
    await second.stop(0)


async def _admit(metadata: Mapping[str, str], _names: tuple[str, ...] | None) -> Permit | Refusal:
    """Know one token, which is that of an Envoy of GROUP."""

    def permit(peer: Peer) -> Refusal | None:
        own = (peer.group, peer.role) == (GROUP, "envoy")
        return None if own else Refusal("PERMISSION_DENIED", f"{peer.group} is not yours")

    known = metadata.get("authorization") == "right"
    return permit if known else Refusal("UNAUTHENTICATED", "who are you?")


async def test_who_is_not_known_or_asks_for_what_is_not_its_own_is_sent_nothing() -> None:
    server = AdsServer("127.0.0.1:0", admit=_admit)
    await server.start()
    server.publish(GROUP, clusters("a"))
    async with grpc.aio.insecure_channel(server.address) as channel:
        # Refused before it has said a word.
        for token in ("", "wrong"):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await Client(channel, token=token).read()
            assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
        neighbour, picker = Client(channel, token="right"), Client(channel, token="right", role="picker")  # noqa: S106
        neighbour.node.cluster = "default/other"
        for client in (neighbour, picker):
            await client.subscribe()
            with pytest.raises(grpc.aio.AioRpcError, match="is not yours") as refused:
                await client.read()
            assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
        assert server.status() == ()
        own = Client(channel, token="right")  # noqa: S106
        await own.subscribe()
        assert [each.name for each in (await own.read()).resources] == ["a"]
    await server.stop(0)
