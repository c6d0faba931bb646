"""Without the picker a pool is served or refused as its failure mode says, and all is well soon after its return."""

import asyncio
import os
import signal
from pathlib import Path

import aiohttp
import kinds
from load import Question, ask, load
from running import Running, Start, stalls, until

# Pools of both API versions. Those with models have their bodies held by the picker, the others are picked by headers.
OPEN = ("open", "open-alpha", "open-models")
CLOSED = ("close", "close-alpha", "unset", "unset-alpha", "unset-models")


def question(pool: str, *, stream: bool = False, tokens: int = 2) -> Question:
    return Question("base", headers={"pool": pool}, stream=stream, tokens=tokens)


def write(folder: Path) -> None:
    kinds.write(folder / "gateway.yaml", kinds.gateway_class(), kinds.gateway(), kinds.own_picker())
    flags = "--served-model-name base --enable-lora --max-loras 2 --lora-modules tuned=/tuned"
    kinds.write(folder / "servers.yaml", kinds.deployment("chat", flags, replicas=2))
    rules = []
    for name in (*OPEN, *CLOSED):
        mode = {"open": "FailOpen", "close": "FailClose", "unset": None}[name.partition("-")[0]]
        alpha = "-" in name
        make = kinds.pool if alpha else kinds.stable_pool
        kinds.write(folder / f"{name}.yaml", make(name, "chat", failure_mode=mode))
        if name.endswith("-models"):
            renamed = kinds.model(f"base-of-{name}", name, {"tuned": 1})
            kinds.write(folder / f"{name}-model.yaml", renamed)
        group = kinds.EXPERIMENTAL if alpha else kinds.STABLE
        rules.append(kinds.rule(kinds.to_pool(name, group=group), headers={"pool": name}))
    kinds.write(folder / "route.yaml", kinds.route("pools", *rules))


async def test_the_failure_mode_says_what_happens_while_the_picker_is_away(start: Start, tmp_path: Path) -> None:
    write(tmp_path)
    running = await start(tmp_path)
    loop = asyncio.get_running_loop()
    async with (
        load(running, *[question(pool) for pool in OPEN]) as served,
        load(running, *[question(pool) for pool in CLOSED]) as refused,
    ):
        await refused.more(20)
        assert not refused.bad
        streams = [
            asyncio.create_task(ask(running.session, running.url, question(pool, stream=True, tokens=800)))
            for pool in (*OPEN, *CLOSED)
        ]
        await served.more(5)
        picker = running.installation.pids()["picker"]
        os.kill(picker, signal.SIGKILL)
        killed = loop.time()
        for pool in CLOSED:
            await until_refused(running, pool)
        await served.more(20)
        await until(lambda: is_back(running, picker), 30)
        async with stalls() as stalled:
            back = loop.time()
            for pool in CLOSED:
                await until_served(running, pool)
            settled = loop.time()
            assert settled - back - stalled() <= 2
        await refused.more(20)
        streamed = await asyncio.gather(*streams)
    # Streams that were running had their pick, whatever the mode of their pool.
    assert all(answer.good for answer in streamed), [answer for answer in streamed if not answer.good]
    assert min(answer.ended for answer in streamed) > killed
    assert not served.bad, served.bad[:3]
    assert {answer.status for answer in refused.bad} == {503}
    assert {answer.code() for answer in refused.bad} == {"picker_unavailable"}
    assert all(killed <= answer.ended and answer.began <= settled for answer in refused.bad)
    for pool in (*OPEN, *CLOSED):
        answer = await ask(running.session, running.url, question(pool))
        line = await running.handled(answer.request_id)
        assert (line["pool"], line["pod_picked"]) == (f"default/{pool}", f"default/{answer.pod}")
    assert "picker ended (signal 9), restarted in 0.1 s" in running.said


async def until_refused(running: Running, pool: str) -> None:
    async def refused() -> bool:
        return (await ask(running.session, running.url, question(pool))).status == 503

    await until(refused, 10)


async def until_served(running: Running, pool: str) -> None:
    async def served() -> bool:
        return (await ask(running.session, running.url, question(pool))).good

    await until(served, 2)


async def is_back(running: Running, before: int) -> bool:
    """Whether another picker than the one before takes requests."""
    if running.installation.pids().get("picker", before) == before:
        return False
    try:
        async with running.session.get(f"http://{running.installation.metrics}/readyz") as response:
            return response.ok
    except aiohttp.ClientError:
        return False
