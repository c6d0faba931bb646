"""Prefill and decode servers that share nothing but the network."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from http import HTTPStatus

import pytest
from aiohttp import ClientSession
from running import until

from pointsman.ports import port_to_keep
from simulator import DistantRooms, ModelServer, Site, Timing, find_server
from simulator.commands import Launch

LAUNCH = "python3 -m sglang.launch_server --model-path m --disaggregation-mode"


@dataclass
class Pair:
    client: ClientSession
    port: int
    rooms: DistantRooms
    prefill: ModelServer
    decode: ModelServer

    async def ask(self, server: ModelServer, number: int = 1, port: int | None = None) -> tuple[int, str]:
        room = {"bootstrap_host": "127.0.0.1", "bootstrap_port": port or self.port, "bootstrap_room": number}
        body = {"model": "m", "prompt": "x" * 400, "max_tokens": 5, **room}
        async with self.client.post(server.site.url + "/v1/completions", json=body) as response:
            answer = await response.json()
            return response.status, str(answer.get("message", ""))


@pytest.fixture(params=["600"])
async def pair(request: pytest.FixtureRequest) -> AsyncIterator[Pair]:
    """A server of each role; the decode server waits for so many seconds."""
    port = port_to_keep()
    async with AsyncExitStack() as stack:
        servers = []
        for role in ("prefill", "decode"):
            words = f"{LAUNCH} {role} --disaggregation-bootstrap-port {port}".split()
            env = (("SGLANG_DISAGGREGATION_WAITING_TIMEOUT", request.param),)
            spec = find_server(Launch("server", command=tuple(words), env=env))
            assert spec is not None
            rooms = DistantRooms()
            stack.push_async_callback(rooms.end)
            timing = Timing(prefill=1e-7, decode=1e-3)
            server = ModelServer(Site(role, "127.0.0.1", 0), spec, timing, rooms=rooms)
            await server.start()
            stack.push_async_callback(server.stop, 0.01)
            servers.append((rooms, server))
        (rooms, prefill), (_, decode) = servers
        await rooms.listen("127.0.0.1", port)
        client = await stack.enter_async_context(ClientSession())
        yield Pair(client, port, rooms, prefill, decode)


@pytest.mark.parametrize("decode_first", [False, True])
async def test_they_meet(pair: Pair, *, decode_first: bool) -> None:
    order = (pair.decode, pair.prefill) if decode_first else (pair.prefill, pair.decode)
    first = asyncio.create_task(pair.ask(order[0]))
    await until(lambda: _waits(pair), 5)
    assert await pair.ask(order[1]) == (HTTPStatus.OK, "")
    assert await first == (HTTPStatus.OK, "")
    assert pair.prefill.driver.engine.counts.prompt == 100
    assert pair.decode.driver.engine.counts.queried == 0
    assert (pair.prefill.driver.engine.counts.generated, pair.decode.driver.engine.counts.generated) == (1, 5)


async def _waits(pair: Pair) -> bool:
    """Whether one of them waits for the other."""
    said = ""
    for server in (pair.prefill, pair.decode):
        async with pair.client.get(server.site.url + "/metrics") as response:
            said += await response.text()
    return bool(re.search(r"^sglang:num_(prefill_bootstrap|decode_transfer)_queue_reqs.* 1.0$", said, re.MULTILINE))


async def test_rooms_are_told_apart(pair: Pair) -> None:
    servers = (pair.prefill, pair.decode)
    asked = [asyncio.create_task(pair.ask(server, number)) for number in (1, 2) for server in servers]
    assert [await each for each in asked] == [(HTTPStatus.OK, "")] * 4


async def test_nobody_is_met_at_another_address(pair: Pair) -> None:
    port = port_to_keep()
    reason = f"Could not fetch prefill parallel info from bootstrap_addr: 127.0.0.1:{port}"
    assert await pair.ask(pair.decode, port=port) == (HTTPStatus.INTERNAL_SERVER_ERROR, reason)


@pytest.mark.parametrize("pair", ["0"], indirect=True)
async def test_who_does_not_come_is_given_up(pair: Pair) -> None:
    reason = "Decode transfer failed for 1: timed out"
    assert await pair.ask(pair.decode) == (HTTPStatus.INTERNAL_SERVER_ERROR, reason)


async def test_a_prefill_server_that_is_gone_is_told_of(pair: Pair) -> None:
    waiting = asyncio.create_task(pair.ask(pair.decode))
    await until(lambda: _waits(pair), 5)
    await pair.rooms.end()
    status, reason = await waiting
    assert status == HTTPStatus.INTERNAL_SERVER_ERROR
    assert reason.endswith(f"Lost connection with prefill instance (bootstrap_addr: 127.0.0.1:{pair.port})")
