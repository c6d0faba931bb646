"""Two Gateways that want one port, as `pointsman up` serves them."""

import asyncio
import os
import shlex
import shutil
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import kinds
import pytest
from certificates import pair
from load import Question, ask

from pointsman.ports import port_to_keep

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs several loopback addresses")


class Up:
    """A running `pointsman up`; `said` is what it has printed so far."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.said: list[str] = []

    async def says(self, text: str) -> str:
        """Wait for a line with this text in it."""
        assert self.process.stdout is not None
        async with asyncio.timeout(60):
            async for raw in self.process.stdout:
                self.said.append(raw.decode().rstrip("\n"))
                if text in self.said[-1]:
                    return self.said[-1]
        raise AssertionError("\n".join(["ended", *self.said]))


@asynccontextmanager
async def up(folder: Path, *options: str, prefix: tuple[str, ...] = ()) -> AsyncIterator[Up]:
    command = (*prefix, sys.executable, "-P", "-m", "pointsman", "up", str(folder), "--concurrency", "1", *options)
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        yield Up(process)
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGINT)
        assert await process.wait() == 0


def is_free(address: str, port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((address, port)) != 0


async def test_each_gets_an_address_of_its_own(tmp_path: Path) -> None:
    port = port_to_keep()
    # The class of one of them is not in the folder.
    gateways = kinds.gateway("first", port=port), kinds.gateway("second", class_name="theirs", port=port)
    kinds.write(tmp_path / "gateways.yaml", kinds.gateway_class(), *gateways)
    kinds.write(tmp_path / "servers.yaml", kinds.deployment("chat", "--served-model-name base other", replicas=2))
    kinds.write(tmp_path / "pool.yaml", kinds.pool("chat", "chat"))
    for gateway, model in (("first", "base"), ("second", "other")):
        route = kinds.route(gateway, kinds.rule(kinds.to_pool("chat"), model=model), gateway=gateway)
        kinds.write(tmp_path / f"{gateway}.yaml", route)
    addresses = {"base": "127.0.0.1", "other": "127.0.0.2"}
    async with up(tmp_path, "--simulate") as running:
        await running.says("Ctrl-C ends it")
        said = [line.strip() for line in running.said]
        for gateway, address in zip(("first", "second"), addresses.values(), strict=True):
            assert f"listener http: http://{address}:{port}" in said[said.index(f"Gateway default/{gateway}") :]
        assert any(line.startswith("note: ") and "theirs" in line and "default/second" in line for line in said), said
        assert sum(line.startswith("pod default/chat-") for line in said) == 4
        async with aiohttp.ClientSession() as session:
            for model, address in addresses.items():
                for asked in addresses:
                    answer = await ask(session, f"http://{address}:{port}", Question(asked))
                    assert answer.status == (200 if asked == model else 404), answer
        curls = [line for line in said if line.startswith("curl ")]
        assert len(curls) == 2
        for line in curls:
            await paste(line)
    assert all(is_free(address, port) for address in addresses.values())


@pytest.mark.parametrize("hostname", [None, "*.example.com"])
async def test_a_listener_with_tls_is_served_as_printed(tmp_path: Path, hostname: str | None) -> None:
    gateway = kinds.gateway()
    (listener,) = gateway["spec"]["listeners"]
    tls = {"protocol": "HTTPS", "tls": {"certificateRefs": [{"name": "web"}]}}
    named = {"hostname": hostname} if hostname else {}
    gateway["spec"]["listeners"] = [{**listener, **tls, **named, "port": (port := port_to_keep())}]
    kinds.write(tmp_path / "gateway.yaml", kinds.gateway_class(), gateway, pair("any.example.com").secret("web"))
    kinds.write(tmp_path / "servers.yaml", kinds.deployment("chat", "--served-model-name base"))
    kinds.write(tmp_path / "pool.yaml", kinds.pool("chat", "chat"))
    kinds.write(tmp_path / "route.yaml", kinds.route("chat", kinds.rule(kinds.to_pool("chat"), model="base")))
    async with up(tmp_path, "--simulate") as running:
        await running.says("Ctrl-C ends it")
        said = [line.strip() for line in running.said]
        assert any(line.startswith(f"listener http: https://127.0.0.1:{port}") for line in said), said
        (line,) = (line for line in said if line.startswith("curl -k "))
        await paste(line)


async def paste(line: str) -> None:
    """Run a printed command line in a shell, as it stands."""
    if shutil.which("curl") is None:
        return
    shell = await asyncio.create_subprocess_shell(
        f"{line} --silent --fail", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await shell.communicate()
    assert shell.returncode == 0, (line, output)
    assert b'"chat.completion"' in output, (line, output)


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("setpriv") is None, reason="needs a privilege to give up")
async def test_a_port_that_may_not_be_bound_is_moved_and_the_line_says_so(tmp_path: Path) -> None:
    first = int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
    if first <= 1:
        pytest.skip("every port may be bound here")
    port = next(each for each in range(first - 1, 0, -1) if is_free("127.0.0.1", each + 10_000))
    kinds.write(tmp_path / "gateway.yaml", kinds.gateway_class(), kinds.gateway(port=port))
    drop = ("setpriv", "--bounding-set", "-net_bind_service", "--inh-caps", "-net_bind_service")
    async with up(tmp_path, prefix=(*drop, "--")) as running:
        line = await running.says("listener http: ")
        assert line.strip() == f"listener http: http://127.0.0.1:{port + 10_000} (port {port} may not be bound here)"
        assert shlex.split(await running.says("curl "))[1] == f"http://127.0.0.1:{port + 10_000}"
