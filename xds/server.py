"""The ADS server: pumps messages between sockets and the streams of the clients; all decisions are theirs.

Each client has one reader and one writer.  The writer waits for a slow client, and what it has yet to write is bounded
by the protocol: one response for each type.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import grpc

from protos.pointsman.envoy.v1.base_pb2 import Node
from protos.pointsman.envoy.v1.discovery_pb2 import DeltaDiscoveryRequest, DeltaDiscoveryResponse
from xds.group import Delivery, Group
from xds.snapshot import Snapshot
from xds.status import ENVOY, PICKER, ClientStatus, Nack, NackHandler, Peer, describe
from xds.stream import Response, Stream
from xds.wire import METHOD, read, write

_OPTIONS = (
    ("grpc.max_send_message_length", -1),
    # Requests name resources and versions, tens of thousands at most; whoever may not ask for anything can send one.
    ("grpc.max_receive_message_length", 64 << 20),
    # A client that is gone without a word is noticed: pickers wait for the answers of every connected Envoy.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    # A second server on the same port would silently take half of the clients.
    ("grpc.so_reuseport", 0),
)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a client is not served: it proves to be nobody, or somebody else, or it cannot be known at present."""

    status: Literal["UNAUTHENTICATED", "PERMISSION_DENIED", "UNAVAILABLE"]
    reason: str


Permit = Callable[[Peer], Refusal | None]
"""Says why a client whose identity is known may not be who its first request says; None to serve it."""

Admit = Callable[[Mapping[str, str], tuple[str, ...] | None], Awaitable[Permit | Refusal]]
"""Finds out who a client is, before anything that it sends is read.

By the metadata of its stream, and the names in the certificate that it has shown (its subject alternative names); None
where it has shown none.
"""


async def _admit_everybody(_metadata: Mapping[str, str], _names: tuple[str, ...] | None) -> Permit:
    """Admit: whoever reaches a socket of one user is that user."""
    return lambda _: None


@dataclass(slots=True, eq=False)
class _Client:
    peer: Peer
    stream: Stream
    # None ends the writer.
    outbox: asyncio.Queue[Response | None] = field(default_factory=asyncio.Queue)


class AdsServer:
    """Serves the clients of each part (node.cluster) its latest snapshot over the delta ADS protocol.

    `address` is "host:port", where port 0 takes a free one, or "unix:/path".  `on_nack` is called for each resource
    that a client refuses, and `admit` for each stream, before anything on it is read or sent.
    """

    def __init__(self, address: str, on_nack: NackHandler = lambda _: None, *, admit: Admit = _admit_everybody) -> None:
        self.address = address
        self._on_nack = on_nack
        self._admit = admit
        self._group = Group()
        self._clients: dict[int, _Client] = {}
        self._changed = asyncio.Event()
        self._server = grpc.aio.server(options=_OPTIONS)
        service, method = METHOD.strip("/").split("/")
        handler = grpc.stream_stream_rpc_method_handler(
            self._serve,
            request_deserializer=DeltaDiscoveryRequest.FromString,
            response_serializer=DeltaDiscoveryResponse.SerializeToString,
        )
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))

    def listen_too(self, address: str, credentials: grpc.ServerCredentials) -> str:
        """Listen at another address, too, from `start` on; return it, with the port that was taken in place of 0.

        Raise RuntimeError when it cannot be bound.
        """
        return f"{address.rpartition(':')[0]}:{self._server.add_secure_port(address, credentials)}"

    async def start(self, credentials: grpc.ServerCredentials | None = None) -> None:
        """Listen, with TLS where there are credentials; raise RuntimeError when the address cannot be bound."""
        if credentials is None:
            port = self._server.add_insecure_port(self.address)
        else:
            port = self._server.add_secure_port(self.address, credentials)
        if not self.address.startswith("unix:"):
            self.address = f"{self.address.rpartition(':')[0]}:{port}"
        await self._server.start()

    async def stop(self, grace: float = 0.5) -> None:
        """End all streams and stop listening, within `grace` seconds."""
        for client in self._clients.values():
            client.outbox.put_nowait(None)
        await self._server.stop(grace)

    def publish(self, part: str, snapshot: Snapshot) -> None:
        """Have the clients of a part hold a snapshot; an empty one takes everything from them.

        The clients of a part that was never published are sent nothing, so that they keep what they have.  Pickers that
        are a part of their own see the endpoints that Envoys of other parts have: those are published first.
        """
        self._deliver(self._group.publish(part, snapshot))

    def withdraw(self, part: str) -> None:
        """Send a part's clients nothing from here on; they keep what they have."""
        self._deliver(self._group.withdraw(part))

    async def changed(self) -> None:
        """Wait until something is published, sent or answered."""
        await self._changed.wait()

    def status(self) -> tuple[ClientStatus, ...]:
        """Describe every connected stream."""
        clients = sorted(self._clients.values(), key=lambda client: (client.peer.group, client.peer.node))
        return tuple(
            describe(client.peer, client.stream, in_sync=self._is_in_sync(client.stream)) for client in clients
        )

    async def wait_in_sync(self, part: str, timeout: float) -> bool:  # noqa: ASYNC109 - the caller's patience
        """Wait until the part has an Envoy, and each has accepted its snapshot; tell whether they have.

        Return False after `timeout` seconds, or as soon as they have settled with something refused.
        """
        try:
            async with asyncio.timeout(timeout):
                while True:
                    changed = self._changed
                    verdict = self._verdict(part)
                    if verdict is not None:
                        return verdict
                    await changed.wait()
        except TimeoutError:
            return False

    def _verdict(self, part: str) -> bool | None:
        """Tell whether a part's Envoys are in sync; None while that may still come about by itself."""
        envoys = self._group.envoys_of(part)
        if not envoys:
            return None
        if all(map(self._group.in_sync, envoys)):
            return True
        settled = all(envoy.settled for envoy in envoys)
        return False if settled and any(envoy.refuses for envoy in envoys) else None

    def _is_in_sync(self, stream: Stream) -> bool:
        if stream in self._group.envoys:
            return self._group.in_sync(stream)
        return stream.settled and not stream.refuses

    def _deliver(self, deliveries: Iterable[Delivery]) -> None:
        for stream, responses in deliveries:
            client = self._clients.get(id(stream))
            if client is not None:
                for response in responses:
                    client.outbox.put_nowait(response)
        # Whoever waits looks again, and those who come later wait for the next change.
        self._changed.set()
        self._changed = asyncio.Event()

    async def _serve(
        self, requests: AsyncIterator[DeltaDiscoveryRequest], context: grpc.aio.ServicerContext
    ) -> AsyncIterator[DeltaDiscoveryResponse]:
        metadata = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
        permit = await self._admit(metadata, _names(context))
        if isinstance(permit, Refusal):
            await _refuse(context, permit)
            return
        first = await anext(requests, None)
        if first is None:
            return
        if not first.HasField("node"):
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the first request names no node")
        client = _Client(_peer(first.node), Stream())
        if (refusal := permit(client.peer)) is not None:
            await _refuse(context, refusal)
            return
        self._join(client)
        reader = asyncio.create_task(self._read(client, first, requests))
        try:
            while (response := await client.outbox.get()) is not None:
                yield write(response)
            if reader.done():
                await reader
        finally:
            reader.cancel()
            self._leave(client)

    async def _read(
        self, client: _Client, first: DeltaDiscoveryRequest, requests: AsyncIterator[DeltaDiscoveryRequest]
    ) -> None:
        try:
            self._receive(client, first)
            async for message in requests:
                self._receive(client, message)
        finally:
            client.outbox.put_nowait(None)

    def _receive(self, client: _Client, message: DeltaDiscoveryRequest) -> None:
        self._deliver(self._group.receive(client.stream, read(message)))
        for refusal in client.stream.take_refusals():
            self._on_nack(Nack.of(client.peer, refusal))

    def _join(self, client: _Client) -> None:
        self._clients[id(client.stream)] = client
        join = self._group.join_picker if client.peer.role == PICKER else self._group.join_envoy
        join(client.stream, client.peer.group)

    def _leave(self, client: _Client) -> None:
        del self._clients[id(client.stream)]
        self._deliver(self._group.leave(client.stream))


def _names(context: grpc.aio.ServicerContext) -> tuple[str, ...] | None:
    """Return the names in the client's certificate, which was verified as the connection began; None without one."""
    shown = context.auth_context()
    if "x509_pem_cert" not in shown:
        return None
    return tuple(each.decode(errors="replace") for each in shown.get("x509_subject_alternative_name", ()))


async def _refuse(context: grpc.aio.ServicerContext, refusal: Refusal) -> None:
    await context.abort(grpc.StatusCode[refusal.status], refusal.reason)


def _peer(node: Node) -> Peer:
    role = node.metadata.fields["role"].string_value if "role" in node.metadata.fields else ENVOY
    return Peer(node.id, node.cluster, PICKER if role == PICKER else ENVOY, node.user_agent_name)
