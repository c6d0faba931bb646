from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest
from aiohttp import ClientSession, TCPConnector

from simulator import ModelServer, Site, Timing
from simulator.commands import Launch, find_server

START = (
    "VLLM_ALLOW_RUNTIME_LORA_UPDATING=true vllm serve /models/m --served-model-name m --enable-lora "
    "--lora-modules first=/lora/first"
)


@pytest.fixture
async def start() -> AsyncIterator[Callable[..., Awaitable[ModelServer]]]:
    """Start model servers that take adapters; there are none at /absent."""
    async with AsyncExitStack() as stack:

        async def start_one(script: str = START, port: int = 0) -> ModelServer:
            spec = find_server(Launch("server", command=("sh", "-c", script)))
            assert spec is not None
            spec = replace(spec, absent_adapters=("/absent",))
            server = ModelServer(Site("m-0", "127.0.0.1", port), spec, Timing())
            await server.start()
            stack.push_async_callback(server.stop, 0.01)
            return server

        yield start_one


@pytest.fixture
async def session() -> AsyncIterator[ClientSession]:
    async with ClientSession(connector=TCPConnector(force_close=True)) as session:
        yield session
