"""What tests with a running gateway share."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from pointsman.installation import Installation
from pointsman.logs import HANDLED, Line

EXAMPLE = Path(__file__).parents[2] / "examples" / "model-routing"
FINDERS = ("json_to_metadata", "ai_protocol_manager")


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class Running:
    """A gateway that runs on a folder of its own."""

    folder: Path
    port: int
    installation: Installation
    session: aiohttp.ClientSession
    lines: list[Line] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

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
        async with asyncio.timeout(5):
            while True:
                for line in self.lines:
                    if line.event == HANDLED and line.fields.get("request_id") == request_id:
                        return line.fields
                await asyncio.sleep(0.01)


async def until(condition: Callable[[], Awaitable[bool]], seconds: float) -> float:
    """Wait until a condition holds; return how many seconds that took, or fail."""
    loop = asyncio.get_running_loop()
    start = loop.time()
    while not await condition():
        assert loop.time() - start < seconds, f"not within {seconds} s"
        await asyncio.sleep(0.01)
    return loop.time() - start


Start = Callable[..., Awaitable[Running]]
"""What the fixture `start` is: (folder, *, simulate, finder, ...) -> Running."""
