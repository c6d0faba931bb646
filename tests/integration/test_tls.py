"""TLS that ends at the gateway, through real Envoy."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import kinds
import pytest
from certificates import Pair, pair
from cryptography import x509
from running import Running, Start, until
from witness import witness

SOON = 10
"""How long a change may take on a busy machine (seconds)."""

WEB, CHAT = pair("web.example.com"), pair("chat.example.com", "*.chat.example.com")


def listener(name: str, hostname: str | None = None, secret: str = "web", **ref: str) -> kinds.Manifest:  # noqa: S107 - a name
    made: dict[str, Any] = {"name": name, "port": 8080, "protocol": "HTTPS"}
    if hostname:
        made["hostname"] = hostname
    return {**made, "tls": {"certificateRefs": [{"name": secret, **ref}]}}


def gateway(*listeners: kinds.Manifest) -> kinds.Manifest:
    made = kinds.gateway()
    return {**made, "spec": {**made["spec"], "listeners": list(listeners)}}


@contextlib.asynccontextmanager
async def written(folder: Path, *listeners: kinds.Manifest) -> AsyncIterator[None]:
    """A folder with a route for each listener, which tells the backend which it was."""
    async with witness() as port:
        kinds.write(folder / "gateway.yaml", kinds.gateway_class(), gateway(*listeners))
        kinds.write(folder / "backend.yaml", *kinds.served_at("web", "127.0.0.1", port))
        for each in listeners:
            changes = {"set": [{"name": "x-listener", "value": each["name"]}]}
            seen = {"type": "RequestHeaderModifier", "requestHeaderModifier": changes}
            route = kinds.route(each["name"], kinds.rule(kinds.to_service("web"), filters=[seen]))
            route["spec"]["parentRefs"][0]["sectionName"] = each["name"]
            kinds.write(folder / f"route-{each['name']}.yaml", route)
        yield


async def ask(running: Running, host: str, sni: str | None = None, trusted: Pair | None = None) -> tuple[int, str]:
    """Ask for a host; return the status, and the listener that the backend was told of."""
    context = trusted.trusted() if trusted else _anything()
    url = f"https://127.0.0.1:{running.port}/"
    async with (
        aiohttp.ClientSession() as session,
        session.get(url, headers={"host": host}, ssl=context, server_hostname=sni or host) as response,
    ):
        if response.status != 200:
            return response.status, ""
        seen = await response.json()
    return 200, next(value for name, value in seen["headers"] if name == "x-listener")


def _anything() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


async def shown(running: Running, sni: str) -> int:
    """Return the serial number of the certificate that is shown to a client which asks for a name."""
    _, writer = await asyncio.open_connection("127.0.0.1", running.port, ssl=_anything(), server_hostname=sni)
    try:
        der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        return x509.load_der_x509_certificate(der).serial_number
    finally:
        writer.close()


async def test_listeners_of_one_port_are_told_apart_by_the_name_in_the_handshake(start: Start, tmp_path: Path) -> None:
    kinds.write(tmp_path / "secrets.yaml", WEB.secret("web"), CHAT.secret("chat"))
    listeners = [
        listener("any"),
        listener("own", "web.example.com"),
        listener("wild", "*.chat.example.com", "chat"),
    ]
    async with written(tmp_path, *listeners):
        running = await start(tmp_path, simulate=False)
        assert await ask(running, "web.example.com", trusted=WEB) == (200, "own")
        assert await ask(running, "a.chat.example.com", trusted=CHAT) == (200, "wild")
        assert await ask(running, "a.b.chat.example.com") == (200, "wild")
        assert await ask(running, "elsewhere.example.com") == (200, "any")
        # A host of another listener is misdirected on a connection that was made for this one (RFC 9110).
        assert await ask(running, "web.example.com", sni="a.chat.example.com") == (421, "")
        assert await ask(running, "elsewhere.example.com", sni="web.example.com") == (421, "")
        assert await ask(running, "a.chat.example.com", sni="elsewhere.example.com") == (421, "")
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await ask(running, "web.example.com", trusted=CHAT)


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
async def test_it_speaks_http2_and_no_old_tls(start: Start, tmp_path: Path) -> None:
    kinds.write(tmp_path / "secrets.yaml", WEB.secret("web"))
    async with written(tmp_path, listener("own", "web.example.com")):
        running = await start(tmp_path, simulate=False)
        context = WEB.trusted()
        context.set_alpn_protocols(["h2", "http/1.1"])
        _, writer = await asyncio.open_connection(
            "127.0.0.1", running.port, ssl=context, server_hostname="web.example.com"
        )
        assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == "h2"
        writer.close()
        old = _anything()
        old.minimum_version, old.maximum_version = ssl.TLSVersion.MINIMUM_SUPPORTED, ssl.TLSVersion.TLSv1_1
        old.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await asyncio.open_connection("127.0.0.1", running.port, ssl=old, server_hostname="web.example.com")


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    """Ask on a connection; return the status line."""
    writer.write(b"GET / HTTP/1.1\r\nhost: web.example.com\r\n\r\n")
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(line for line in head.lower().splitlines() if line.startswith(b"content-length:"))
    await reader.readexactly(int(length.split(b":")[1]))
    return head.splitlines()[0]


async def test_another_certificate_is_shown_and_no_connection_ends(start: Start, tmp_path: Path) -> None:
    kinds.write(tmp_path / "secrets.yaml", WEB.secret("web"))
    async with written(tmp_path, listener("own", "web.example.com")):
        running = await start(tmp_path, simulate=False)
        address, name = ("127.0.0.1", running.port), "web.example.com"
        reader, writer = await asyncio.open_connection(*address, ssl=WEB.trusted(), server_hostname=name)
        assert await answer(reader, writer) == b"HTTP/1.1 200 OK"
        for serial in (2, 3, 4):
            kinds.write(tmp_path / "secrets.yaml", pair(name, serial=serial).secret("web"))

            async def is_shown(wanted: int = serial) -> bool:
                return await shown(running, name) == wanted

            await until(is_shown, SOON)
            assert await answer(reader, writer) == b"HTTP/1.1 200 OK"
        writer.close()


async def test_envoy_goes_on_with_a_certificate_that_becomes_unreadable_or_goes(start: Start, tmp_path: Path) -> None:
    kinds.write(tmp_path / "secrets.yaml", WEB.secret("web"))
    async with written(tmp_path, listener("own", "web.example.com")):
        running = await start(tmp_path, simulate=False)
        broken = Pair(WEB.chain, CHAT.key)
        for manifests, problem in (([broken.secret("web")], "is not the key"), ([], "does not exist")):
            kinds.write(tmp_path / "secrets.yaml", *manifests)

            async def is_told(wanted: str = problem) -> bool:
                return any(wanted in line for line in (await running.report())["problems"])

            await until(is_told, SOON)
            assert await ask(running, "web.example.com", trusted=WEB) == (200, "own")


async def test_a_listener_beside_others_without_a_certificate_holds_up_none(start: Start, tmp_path: Path) -> None:
    kinds.write(tmp_path / "secrets.yaml", WEB.secret("web"))
    async with written(tmp_path, listener("own", "web.example.com"), listener("none", "chat.example.com", "chat")):
        running = await start(tmp_path, simulate=False)

        async def answers() -> bool:
            with contextlib.suppress(aiohttp.ClientError, OSError):
                return await ask(running, "web.example.com", trusted=WEB) == (200, "own")
            return False

        async def is_served() -> bool:
            with contextlib.suppress(aiohttp.ClientError, OSError):
                return await ask(running, "chat.example.com", trusted=CHAT) == (200, "none")
            return False

        await until(answers, SOON)
        assert not await is_served()
        kinds.write(tmp_path / "secrets.yaml", WEB.secret("web"), CHAT.secret("chat"))
        await until(is_served, SOON)
        assert await answers()


async def test_no_key_is_shown(start: Start, tmp_path: Path) -> None:
    kinds.write(tmp_path / "secrets.yaml", WEB.secret("web"))
    async with written(tmp_path, listener("own", "web.example.com")):
        running = await start(tmp_path, simulate=False)
        assert await ask(running, "web.example.com", trusted=WEB) == (200, "own")
        async with aiohttp.ClientSession() as session:
            shown_at = [f"http://{running.installation.admin}/{path}" for path in ("config_dump", "status", "metrics")]
            texts = [await (await session.get(url)).text() for url in shown_at]
        assert "secret/default/web" in texts[0]
        assert "[redacted]" in texts[0]
        everything = "\n".join([*texts, *map(str, running.lines), *running.said])
        lines = [line for line in WEB.key.decode().splitlines() if "-----" not in line]
        encoded = WEB.secret("web")["data"]["tls.key"]  # type: ignore[index]
        assert not [line for line in (*lines, encoded) if line in everything]
