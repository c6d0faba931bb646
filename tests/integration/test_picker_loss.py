"""Without the picker, or with one that is no good, a pool is served or refused as its failure mode says.

All is well soon after its return.
"""

import asyncio
import os
import signal
from pathlib import Path

import aiohttp
import kinds
from impostor import TROUBLES, Impostor
from load import Answer, Question, ask, load
from running import Running, Start, stalls, until

# Pools of both API versions. Those with models have their bodies held by the picker, the others are picked by headers.
OPEN = ("open", "open-alpha", "open-models")
CLOSED = ("close", "close-alpha", "unset", "unset-alpha", "unset-models")
# Longer than Envoy would keep for another attempt.
LONG = 200_000
# Less than Envoy waits for a picker's answer that it has not given up yet (seconds).
PATIENCE = 4.0
# What the gateway promises, and what a busy machine may add to it (seconds).
BOUND, SLACK = 2.0, 1.5


def question(pool: str, *, stream: bool = False, tokens: int = 2, padding: int = 0) -> Question:
    return Question("base", headers={"pool": pool}, stream=stream, tokens=tokens, padding=padding)


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


async def test_a_picker_that_hangs_and_goes_on(start: Start, tmp_path: Path) -> None:
    write(tmp_path)
    running = await start(tmp_path)
    loop = asyncio.get_running_loop()
    async with (
        load(running, *[question(pool) for pool in OPEN], question("open-models", padding=LONG)) as served,
        load(running, *[question(pool) for pool in CLOSED]) as refused,
    ):
        await refused.more(20)
        assert not refused.bad
        picker = running.installation.pids()["picker"]
        os.kill(picker, signal.SIGSTOP)
        hung = loop.time()

        def is_later(answer: Answer) -> bool:
            return answer.began > hung + BOUND + SLACK

        between = await served.more(50, is_later)
        await refused.more(20, is_later)
        os.kill(picker, signal.SIGCONT)
        back = loop.time()
        for pool in CLOSED:
            await until_served(running, pool)
        settled = loop.time()
        await refused.more(20)
    # Those who asked before it was found out have waited for it, and were served or refused after all.
    assert not served.bad, served.bad[:3]
    assert {(answer.status, answer.code()) for answer in refused.bad} == {(503, "picker_unavailable")}
    assert all(hung <= answer.ended and answer.began <= settled for answer in refused.bad)
    # Then nobody waits: Envoy itself serves or refuses.
    later = [each for each in served.answers + refused.answers if is_later(each) and each.ended < back]
    assert max(each.ended - each.began for each in later) < PATIENCE
    assert {each.status for each in later if each in refused.answers} == {503}
    assert len({answer.pod for answer in between}) == 2
    assert picker == running.installation.pids()["picker"]


async def test_a_picker_that_is_absent_from_the_start_or_answers_nonsense(start: Start, tmp_path: Path) -> None:
    """In the picker's place, for an Envoy that has never seen it, there is nobody, and then somebody else."""
    write(tmp_path)
    running = await start(tmp_path)
    pids = running.installation.pids()
    os.kill(pids["picker"], signal.SIGSTOP)
    where = socket_of(pids["picker"])
    where.unlink()
    os.kill(pids["envoy"], signal.SIGKILL)
    await until(lambda: is_answering(running), 30)
    await check(running, "absent")
    for trouble in TROUBLES:
        async with Impostor(where, trouble) as impostor:
            await until(lambda impostor=impostor: is_asked(running, impostor), 20)
            await check(running, trouble)
    os.kill(pids["picker"], signal.SIGKILL)
    await until(lambda: is_back(running, pids["picker"]), 30)
    for pool in CLOSED:
        await until_served(running, pool)


async def check(running: Running, trouble: str) -> None:
    """Check what each pool answers while the picker is in this trouble; a pod that serves is Envoy's own choice."""
    for pool in OPEN:
        for padding in (0, 0, LONG):
            answer = await ask(running.session, running.url, question(pool, padding=padding))
            assert answer.good, (trouble, pool, answer)
            assert answer.pod.startswith("chat-")
    for pool in CLOSED:
        answer = await ask(running.session, running.url, question(pool))
        assert (answer.status, answer.code()) == (503, "picker_unavailable"), (trouble, pool, answer)


def socket_of(picker: int) -> Path:
    """Where a picker listens."""
    words = Path(f"/proc/{picker}/cmdline").read_text().split("\0")
    return Path(words[words.index("--listen") + 1].removeprefix("unix:"))


async def is_answering(running: Running) -> bool:
    return bool((await ask(running.session, running.url, question("open"))).status)


async def is_asked(running: Running, impostor: Impostor) -> bool:
    await ask(running.session, running.url, question("open"))
    return impostor.asked > 0


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
