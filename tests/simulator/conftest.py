from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest
from aiohttp import ClientSession

from simulator import ModelServer, Site, Timing
from simulator.commands import Launch, find_server


@pytest.fixture
async def start() -> AsyncIterator[Callable[..., Awaitable[ModelServer]]]:
    """Start servers of the model "m" on free ports; they stop with the test."""
    async with AsyncExitStack() as stack:

        async def start_one(arguments: str = "", timing: Timing | None = None, **env: str) -> ModelServer:
            script = f"vllm serve /models/m --served-model-name m {arguments}"
            spec = find_server(Launch("server", command=("sh", "-c", script), env=tuple(env.items())))
            assert spec is not None
            spec = replace(spec, absent_adapters=("/absent",))
            server = ModelServer(Site("m-0", "127.0.0.1", 0), spec, timing or Timing(prefill=1e-7, decode=1e-3))
            await server.start()
            stack.push_async_callback(server.stop, 0.01)
            return server

        yield start_one


@pytest.fixture
async def client() -> AsyncIterator[ClientSession]:
    async with ClientSession() as session:
        yield session
