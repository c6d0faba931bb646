"""What tests with a running gateway share."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from pointsman.installation import Installation, Options
from pointsman.logs import HANDLED, Line
from pointsman.ports import port_to_keep

EXAMPLE = Path(__file__).parents[2] / "examples" / "model-routing"
_STEP = 0.01
FINDERS = ("lua", "ai_protocol_manager")


@dataclass
class Running:
    """A gateway that runs on a folder of its own."""

    folder: Path
    port: int
    installation: Installation
    session: aiohttp.ClientSession
    lines: list[Line] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    _handled: dict[str, Mapping[str, object]] = field(default_factory=dict)
    _read: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def chat(self, model: str, text: str = "hello", **more: object) -> aiohttp.ClientResponse:
        """Send a chat completion and read the whole answer."""
        body = {"model": model, "messages": [{"role": "user", "content": text}], "max_tokens": 2, **more}
        response = await self.session.post(f"{self.url}/v1/chat/completions", json=body)
        await response.read()
        return response

    async def report(self) -> Mapping[str, Any]:
        """What /status says, once it says anything."""
        while (report := await self.installation.report()) is None:
            await asyncio.sleep(0.02)
        return report

    async def pods(self, pool: str) -> dict[str, str]:
        """The addresses of a pool's pods by name, "namespace/name"."""
        report = await self.report()
        pools = [each for gateway in report["gateways"] for each in gateway["pools"] if each["name"] == pool]
        return {pod["name"]: pod["address"] for each in pools for pod in each["pods"]}

    def simulated(self) -> list[Mapping[str, Any]]:
        """The manifests of the simulated pods."""
        return [orjson.loads(file.read_bytes()) for file in sorted(self.installation.pods.glob("*.json"))]

    async def fault(self, address: str, mode: str, *, pod: str | None = None) -> None:
        """Make a simulated model server misbehave: refuse, reset, unavailable, hang, or none to end it.

        A server that refuses cannot be told to stop refusing: ask another server's address, and name the `pod`.
        """
        body = {"mode": mode} | ({"pod": pod.split("/")[-1]} if pod else {})
        async with self.session.post(f"http://{address}/simulator/fault", json=body) as response:
            assert response.status < 300, await response.text()

    async def handled(self, request_id: str) -> Mapping[str, object]:
        """The picker's line for a request, once it is written."""
        async with asyncio.timeout(20):
            while request_id not in self._handled:
                for line in self.lines[self._read :]:
                    if line.event == HANDLED:
                        self._handled.setdefault(str(line.fields.get("request_id")), line.fields)
                self._read = len(self.lines)
                await asyncio.sleep(0.01)
        return self._handled[request_id]


async def until(condition: Callable[[], Awaitable[bool]], seconds: float) -> float:
    """Wait until a condition holds; return how many seconds that took, or fail.

    Time for which this process did not get to run does not count: that is not the fault of those waited for, who may
    not have got to run either.
    """
    loop = asyncio.get_running_loop()
    start = loop.time()
    async with stalls() as stalled:
        while not await condition():
            assert loop.time() - start - stalled() < seconds, f"not within {seconds} s"
            await asyncio.sleep(_STEP)
        return loop.time() - start - stalled()


@asynccontextmanager
async def stalls() -> AsyncIterator[Callable[[], float]]:
    """Yield what tells for how many seconds so far this process wanted to run and could not."""
    loop = asyncio.get_running_loop()
    stalled = 0.0

    async def watch() -> None:
        nonlocal stalled
        while True:
            due = loop.time() + _STEP
            await asyncio.sleep(_STEP)
            stalled += max(0.0, loop.time() - due)

    watching = asyncio.create_task(watch())
    try:
        yield lambda: stalled
    finally:
        watching.cancel()


Start = Callable[..., Awaitable[Running]]
"""What the fixture `start` is: (folder, *, simulate, finder, ...) -> Running."""


def starter(stack: AsyncExitStack) -> Start:
    """Return what starts gateways that end with `stack`."""

    async def run(folder: Path, *, simulate: bool = True, finder: str | None = None, **more: Any) -> Running:
        port = port_to_keep()
        for file in folder.rglob("*.yaml"):
            file.write_text(file.read_text().replace("port: 8080", f"port: {port}"))
        lines: list[Line] = []
        said: list[str] = []
        options = Options(folder=folder, simulate=simulate, model_finder=finder, concurrency=1, **more)
        installation = await stack.enter_async_context(Installation(options, announce=said.append, log=lines.append))
        await installation.ready()
        session = await stack.enter_async_context(
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=30))
        )
        return Running(folder, port, installation, session, lines, said)

    return run
