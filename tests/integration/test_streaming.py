"""Answers take their time: events pass one by one, and the route waits as long as its policy says."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest
from shop import Shop, chat

pytestmark = pytest.mark.asyncio(loop_scope="session")

TOKENS = 20
# The slow server's pace, in seconds for each token.
PACE = 0.025


@pytest.mark.parametrize("model", ["slow", "quick"], ids=["headers to the picker", "body to the picker"])
async def test_events_pass_one_by_one(shop: Shop, model: str) -> None:
    # A busy machine may deliver some together, but not most of them, and not always.
    for _ in range(3):
        arrivals = await stream(shop, model)
        assert len(arrivals) == TOKENS
        apart = len({round(arrival / PACE) for arrival in arrivals})
        if apart > TOKENS / 2:
            return
    raise AssertionError(f"{TOKENS} tokens came in {apart} moments")


async def stream(shop: Shop, model: str) -> list[float]:
    """Ask for a stream; return when its tokens arrived."""
    loop = asyncio.get_running_loop()
    arrivals: list[float] = []
    last = b""
    request = shop.running.session.post(
        f"{shop.url}/v1/chat/completions",
        data=chat(model, max_tokens=TOKENS, stream=True),
        headers={"host": "models.example", "content-type": "application/json"},
    )
    async with request as response:
        assert response.status == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        async for line in response.content:
            if line.startswith(b"data: {") and json.loads(line[6:])["choices"][0]["delta"].get("content"):
                arrivals.append(loop.time())
            last = line if line.strip() else last
    assert last.strip() == b"data: [DONE]"
    return arrivals


def routes(dump: Any) -> Iterator[dict[str, Any]]:
    for config in dump["configs"]:
        for dynamic in config.get("dynamic_route_configs", []):
            for host in dynamic["route_config"]["virtual_hosts"]:
                yield from host.get("routes", [])


async def test_the_route_waits_a_day(shop: Shop) -> None:
    actions = [each for each in routes(json.loads(await shop.envoy("/config_dump"))) if "route" in each]
    shorter = {each["name"] for each in actions if each["route"]["timeout"] != "86400s"}
    # Rules with a timeout of their own.
    assert shorter == {"httproute/default/broken/rule/3/match/0", "httproute/default/services/rule/3/match/0"}
    assert all(each["route"]["idle_timeout"] == each["route"]["timeout"] for each in actions)
    assert len(actions) > 15
