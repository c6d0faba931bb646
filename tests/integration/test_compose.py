"""The services of docker-compose.yml as plain processes, with their own arguments, at addresses of loopback's."""

import os
import shutil
import sys
from asyncio import create_subprocess_exec
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import pytest
from compose import SERVICES, address, entrypoint, option, volumes
from running import until

from pointsman.bootstrap import binary
from pointsman.status import ask

_PROGRAMS = {"pointsman": [sys.executable, "-P", "-m", "pointsman"], "/usr/local/bin/envoy": [str(binary())]}
# Processes start slowly on a machine that tests keep busy (seconds).
_PATIENCE = 60
_QUESTION = {"temperature": 0, "messages": [{"role": "user", "content": "who are you?"}]}

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere 127.0.0.1 alone is loopback")


class Compose:
    """The services' processes, which share a network of loopback's: 172.28.0.x is 127.`net`.0.x."""

    def __init__(self, folder: Path, net: int) -> None:
        self._folder = folder
        self._net = net
        self._processes: dict[str, Process] = {}

    def here(self, text: str, service: str = "envoy") -> str:
        """Return a text with the addresses that it has here; what is bound on all addresses is bound on one."""
        own = address(service).replace("172.28.", f"127.{self._net}.")
        for outside, inside in (("172.28.", f"127.{self._net}."), ("0.0.0.0", own), ("127.0.0.1", own)):  # noqa: S104 - replaced
            text = text.replace(outside, inside)
        return text

    async def start(self, service: str) -> None:
        """Start what the service's image starts, with the service's arguments and files."""
        words = [*entrypoint(service), *SERVICES[service]["command"]]
        for inside, outside in volumes(service).items():
            copy = self._folder / service / inside.strip("/").replace("/", "-")
            (shutil.copytree if outside.is_dir() else self._copy)(outside, copy)
            for file in copy.glob("*.yaml") if copy.is_dir() else [copy]:
                file.write_text(self.here(file.read_text(), service))
            words = [str(copy) if word == inside else word for word in words]
        program, *arguments = [self.here(word, service if "--bind" not in words else "envoy") for word in words]
        with (self._folder / f"{service}.log").open("wb") as log:
            self._processes[service] = await create_subprocess_exec(
                *_PROGRAMS[program], *arguments, stdin=DEVNULL, stdout=log, stderr=log, cwd=self._folder
            )

    @staticmethod
    def _copy(outside: Path, inside: Path) -> None:
        inside.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(outside, inside)

    async def healthy(self, service: str) -> bool:
        """Whether the service's health check says so."""
        _, program, *words = SERVICES[service]["healthcheck"]["test"]
        assert program == "python"
        done = await create_subprocess_exec(sys.executable, *map(self.here, words), stdout=DEVNULL, stderr=DEVNULL)
        return await done.wait() == 0

    async def stop(self) -> None:
        """End all of them, as an engine does; none may have ended before."""
        ended = [name for name, process in self._processes.items() if process.returncode is not None]
        for process in self._processes.values():
            if process.returncode is None:
                process.terminate()
        codes = {name: await process.wait() for name, process in self._processes.items()}
        assert not ended, (ended, {name: (self._folder / f"{name}.log").read_text()[-2000:] for name in ended})
        assert set(codes.values()) == {0}, codes


@pytest.fixture
async def compose(tmp_path: Path) -> AsyncIterator[Compose]:
    compose = Compose(tmp_path, 16 + os.getpid() % 200)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(compose.stop)
        for service in SERVICES:
            await compose.start(service)
        yield compose


async def test_all_services_together_answer_both_questions(compose: Compose) -> None:
    for service in ("control-plane", "picker"):

        async def healthy(service: str = service) -> bool:
            return await compose.healthy(service)

        await until(healthy, _PATIENCE)
    (port,) = (each.rpartition(":")[2] for each in SERVICES["envoy"]["ports"])
    url = f"http://{compose.here(address('envoy'))}:{port}/v1/chat/completions"
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as session:

        async def served() -> bool:
            try:
                async with session.post(url, json={"model": "qwen", **_QUESTION}) as answer:
                    return answer.status == 200
            except aiohttp.ClientError:
                return False

        await until(served, _PATIENCE)
        for model in ("qwen", "deepseek-r1"):
            async with session.post(url, json={"model": model, **_QUESTION}) as answer:
                said = await answer.json()
                assert (answer.status, said["model"]) == (200, model)
    found = await ask(compose.here(option("control-plane", "--admin")))
    assert {each["role"]: each["in_sync"] for each in found["proxies"]} == {"envoy": True, "picker": True}
    assert not found["problems"]
