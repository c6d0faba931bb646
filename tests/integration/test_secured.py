"""Control plane, picker and a real Envoy that prove themselves to one another, as in a cluster."""

import asyncio
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import grpc
import pytest
from aiohttp import web
from cryptography import x509
from secured import ENVOYS, GATEWAY, NAMESPACE, PICKERS, Secured

from picker.ads import SERVER_NAME
from pointsman.authority import Authority, Leaf
from protos.pointsman.envoy.v1.base_pb2 import Node
from protos.pointsman.envoy.v1.discovery_pb2 import DeltaDiscoveryRequest, DeltaDiscoveryResponse
from translators.identities import account_name
from xds.wire import METHOD

DAY = timedelta(days=1)
SECRET = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"  # noqa: S105 - a type
OWN = f"{NAMESPACE}/{GATEWAY}"
# What counts as a stall of this process, and for how long Envoy may be of the opinion that it got by that (seconds).
_STALL, _AFTERMATH = 0.1, 5.0


async def until(holds: Callable[[], Awaitable[bool]], seconds: float = 60) -> None:
    async with asyncio.timeout(seconds):
        while not await holds():
            await asyncio.sleep(0.05)


@asynccontextmanager
async def model_server() -> AsyncIterator[int]:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(text="served")

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield runner.addresses[0][1]
    await runner.cleanup()


async def ask(port: int) -> str:
    """The answer of the model server, or what the gateway said instead."""
    try:
        async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/v1/x") as got:
            return await got.text()
    except aiohttp.ClientConnectionError as error:
        return type(error).__name__


@asynccontextmanager
async def asking(port: int) -> AsyncIterator[Counter[str]]:
    """Ask again and again, on new connections, and count what is answered.

    The picker is in this process. Envoy finds one unhealthy that gives no answer for half a second: where the machine
    has no time for this process, that is not counted.
    """
    answers: Counter[str] = Counter()
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    stalled = -_AFTERMATH

    async def watch() -> None:
        nonlocal stalled
        while not stop.is_set():
            due = loop.time() + 0.02
            await asyncio.sleep(0.02)
            if loop.time() - due > _STALL:
                stalled = loop.time()

    async def go_on() -> None:
        while not stop.is_set():
            answer = await ask(port)
            if "picker_unavailable" not in answer or loop.time() - stalled > _AFTERMATH:
                answers[answer] += 1
            await asyncio.sleep(0.01)

    tasks = [asyncio.create_task(each) for each in (watch(), go_on())]
    try:
        yield answers
    finally:
        stop.set()
        await asyncio.gather(*tasks)


async def refusal(
    secured: Secured, token: str | None, group: str, role: str = "envoy", leaf: Leaf | None = None, xds: str = ""
) -> str:
    """Why a client is refused; "" where it is served. leaf: the certificate that it shows."""
    options = (("grpc.ssl_target_name_override", SERVER_NAME),)
    pair = (leaf.key, leaf.chain) if leaf is not None else ()
    security = grpc.ssl_channel_credentials(secured.identities.roots.encode(), *pair)
    async with grpc.aio.secure_channel(xds or secured.xds, security, options=options) as channel:
        call = channel.stream_stream(
            METHOD,
            request_serializer=DeltaDiscoveryRequest.SerializeToString,
            response_deserializer=DeltaDiscoveryResponse.FromString,
        )(metadata=(("authorization", f"Bearer {token}"),) if token is not None else ())
        node = Node(id="stranger", cluster=group)
        node.metadata.fields["role"].string_value = role
        try:
            await call.write(DeltaDiscoveryRequest(node=node, type_url=SECRET))
            await call.read()
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            return (await call.code()).name
        return ""


async def test_strangers_are_refused_and_certificates_renewed_while_requests_go_on(tmp_path: Path) -> None:
    today = datetime.now(UTC)
    authority = Authority.new(today - 6 * 365 * DAY)
    async with model_server() as upstream:
        secured = Secured(tmp_path, upstream, authority, today - 3 * DAY)
        async with secured.running():
            await _until_served(secured)
            await _who_is_refused(secured)
            async with asking(secured.port) as answers:
                await _leaves_are_renewed(secured, today)
                await _roots_are_renewed(secured, today)
                await _until_more(answers)
            assert set(answers) == {"served"}
            shown = [await secured.admin(path) for path in ("config_dump?include_eds", "certs", "stats")]
            logs = [(tmp_path / "envoy.log").read_text(), _log_of(secured)]
            for text in (*shown, *logs):
                assert "PRIVATE KEY" not in text
                assert not any(token in text for token in secured.asked)
            assert "pointsman/identity" in shown[0]


async def _until_served(secured: Secured) -> None:
    async def served() -> bool:
        return await ask(secured.port) == "served"

    await until(served)


async def _until_more(answers: Counter[str]) -> None:
    """Wait for answers of requests made from now on."""
    answered = answers.total()

    async def more() -> bool:
        return answers.total() > answered + 3

    await until(more)


async def _who_is_refused(secured: Secured) -> None:
    envoys, pickers = ({owner: token for token, owner in secured.tokens.items()}[each] for each in (ENVOYS, PICKERS))
    for token in (None, "", "made-up"):
        assert await refusal(secured, token, OWN) == "UNAUTHENTICATED"
    secured.tokens["of a neighbour"] = (NAMESPACE, "other-ours")
    for token, group, role in (
        ("of a neighbour", OWN, "envoy"),
        ("of a neighbour", secured.picker_group, "picker"),
        (envoys, "shop/other", "envoy"),
        (envoys, secured.picker_group, "picker"),
        (pickers, OWN, "envoy"),
    ):
        assert await refusal(secured, token, group, role) == "PERMISSION_DENIED"
    assert await refusal(secured, envoys, OWN) == ""
    # In plain text nobody gets so far; nor does anybody without a certificate, or with another's, at the picker.
    async with grpc.aio.insecure_channel(secured.xds) as channel:
        with pytest.raises(grpc.aio.AioRpcError):
            await channel.unary_unary(METHOD)(b"", timeout=10)
    name = f"spiffe://pointsman/envoy/{OWN}"
    bare = ssl.create_default_context(cadata=secured.identities.roots)
    bare.check_hostname = False
    bare.set_alpn_protocols(["h2"])
    picker = _certified(secured, "spiffe://pointsman/picker/a/b/1", secured.authority)
    foreign = _certified(secured, name, Authority.new(datetime.now(UTC) - DAY))
    for context in (None, bare, picker, foreign):
        assert await _is_turned_away(secured.picker_port, context)
    assert not await _is_turned_away(secured.picker_port, _certified(secured, name, secured.authority))


async def test_certificates_of_accounts_are_renewed_without_a_dropped_stream(tmp_path: Path) -> None:
    today = datetime.now(UTC)
    async with model_server() as upstream:
        secured = Secured(tmp_path, upstream, Authority.new(today - 6 * 365 * DAY), today - 3 * DAY, mutual=True)
        async with secured.running():
            await _until_served(secured)
            assert {each.peer.group for each in secured.server.status()} == {OWN, secured.picker_group}
            await _who_is_refused_with_certificates(secured, today)
            async with asking(secured.port) as answers:
                await _accounts_are_renewed(secured, today)
                await _accounts_of_a_new_root(secured, today)
                await _until_more(answers)
            assert set(answers) == {"served"}
            shown = [await secured.admin(path) for path in ("config_dump?include_eds", "certs", "stats")]
            for text in (*shown, (tmp_path / "envoy.log").read_text(), _log_of(secured)):
                assert "PRIVATE KEY" not in text
            # The API server was asked about the token alone that came where tokens count.
            assert secured.asked == ["right"]


async def _who_is_refused_with_certificates(secured: Secured, today: datetime) -> None:
    issue = secured.authority.issue
    envoys, pickers = (account_name(*each) for each in (ENVOYS, PICKERS))
    picker = secured.picker_group
    secured.tokens["right"] = ENVOYS
    for leaf, group, role, status in (
        (issue(envoys, "client", today), OWN, "envoy", ""),
        (issue(pickers, "client", today), picker, "picker", ""),
        (issue(envoys, "client", today), "shop/other", "envoy", "PERMISSION_DENIED"),
        (issue(envoys, "client", today), picker, "picker", "PERMISSION_DENIED"),
        (issue(pickers, "client", today), OWN, "envoy", "PERMISSION_DENIED"),
        (issue(account_name(NAMESPACE, "other-ours"), "client", today), OWN, "envoy", "PERMISSION_DENIED"),
        # What Envoys meet pickers with.
        (issue(f"spiffe://pointsman/envoy/{OWN}", "client", today), OWN, "envoy", "UNAUTHENTICATED"),
        # These get no answer, but the end of the connection: a stranger, one that has expired, what is of a server.
        (None, OWN, "envoy", "UNAVAILABLE"),
        (Authority.new(today - DAY).issue(envoys, "client", today), OWN, "envoy", "UNAVAILABLE"),
        (issue(envoys, "client", today - 8 * DAY), OWN, "envoy", "UNAVAILABLE"),
        (issue(envoys, "server", today), OWN, "envoy", "UNAVAILABLE"),
    ):
        assert await refusal(secured, "right", group, role, leaf, secured.xds_mtls) == status
    # A version before has them come with a token, where all others do; there a certificate counts for nothing.
    assert await refusal(secured, "right", OWN) == ""
    assert await refusal(secured, None, OWN, leaf=issue(envoys, "client", today)) == "UNAUTHENTICATED"
    # Whoever may ask the control plane is no Envoy for a picker because of that.
    assert await _is_turned_away(secured.picker_port, _certified(secured, envoys, secured.authority))


async def _connections(secured: Secured) -> int:
    return await secured.stat("cluster.pointsman-control-plane.upstream_cx_total")


async def _accounts_are_renewed(secured: Secured, today: datetime) -> None:
    connections, before = await _connections(secured), await secured.admin("certs")
    secured.now = today
    assert secured.identities.take(secured.authority)
    chain = secured.identities.of_account(*ENVOYS).chain
    secured.show_roots()
    serial = f"{x509.load_pem_x509_certificate(chain).serial_number:x}"
    assert serial not in before

    async def renewed() -> bool:
        return serial in await secured.admin("certs")

    await until(renewed)
    assert await _connections(secured) == connections
    assert "Control plane away" not in _log_of(secured)


async def _accounts_of_a_new_root(secured: Secured, today: datetime) -> None:
    """A new root is heard of, then signs; a replica that trusts it alone is shown what it has signed."""
    connections = await _connections(secured)
    renewed = secured.authority.renewed(today - timedelta(hours=2))
    assert len(renewed.roots) == 2
    updates = "cluster.pointsman-control-plane.client_ssl_socket_factory.ssl_context_update_by_sds"
    updated = await secured.stat(updates)
    assert secured.identities.take(renewed)
    secured.site.certify()
    secured.show_roots()

    async def heard() -> bool:
        return await secured.stat(updates) > updated and all(each.in_sync for each in secured.server.status())

    await until(heard)
    assert await _connections(secured) == connections
    assert "Control plane away" not in _log_of(secured)
    secured.identities.take(Authority(renewed.roots[1:]))
    await secured.restart_control_plane()

    async def back() -> bool:
        return len(secured.server.status()) == 2 and all(each.in_sync for each in secured.server.status())

    await until(back)


def _certified(secured: Secured, name: str, authority: Authority) -> ssl.SSLContext:
    """What a client needs that shows a certificate of this name and cares for nobody else's."""
    leaf = authority.issue(name, "client", datetime.now(UTC) - DAY)
    path = secured.folder / "client.pem"
    path.write_bytes(leaf.key + leaf.chain)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    context.load_cert_chain(path)
    return context


async def _is_turned_away(port: int, context: ssl.SSLContext | None) -> bool:
    """Whether a connection ends before the picker says the first word of HTTP/2, which it does unasked."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    except ssl.SSLError:
        return True
    writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes.fromhex("000000040000000000"))
    try:
        async with asyncio.timeout(30):
            return await reader.read(9) == b""
    except (ssl.SSLError, ConnectionError):
        return True
    finally:
        writer.close()


async def _leaves_are_renewed(secured: Secured, today: datetime) -> None:
    connections = await secured.stat("cluster.pointsman-control-plane.upstream_cx_total")
    before = await secured.admin("certs")
    secured.now = today
    assert secured.identities.take(secured.authority)
    secured.site.certify()

    async def renewed() -> bool:
        return await secured.admin("certs") != before and all(each.in_sync for each in secured.server.status())

    await until(renewed)
    # The stream that brought them is the one that there was.
    assert await secured.stat("cluster.pointsman-control-plane.upstream_cx_total") == connections
    assert "Control plane away" not in _log_of(secured)


async def _roots_are_renewed(secured: Secured, today: datetime) -> None:
    """A new root is heard of, then signs; whoever connects anew does so with a token that is new as well."""
    renewed = secured.authority.renewed(today - timedelta(hours=2))
    assert len(renewed.roots) == 2
    assert secured.identities.take(renewed)
    secured.site.certify()
    secured.show_roots()
    tokens = {secured.issue(account) for account in (ENVOYS, PICKERS)}

    secured.asked.clear()
    await secured.restart_control_plane()

    async def back() -> bool:
        return len(secured.server.status()) == 2 and all(each.in_sync for each in secured.server.status())

    await until(back)
    assert tokens <= set(secured.asked)


def _log_of(secured: Secured) -> str:
    return secured.picker_log.buffer.getvalue().decode()  # type: ignore[attr-defined]
