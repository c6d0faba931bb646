"""When a pool's own picker fails: Envoy notices by itself, and a pool that fails open goes on by our picker's choice.

Kubernetes says nothing in all of this: the picker's EndpointSlice stays as it is.
"""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import kinds
import pytest
from load import CHAT, Answer, Question, ask, load
from oracle import OracleProcess
from running import Running, Start, until

from pointsman.ports import port_to_keep

# Envoy keeps 64 KiB of an exchange to begin it anew elsewhere.
LONG = 200_000
# What the gateway promises, and what a busy machine may add to it (seconds).
BOUND, SLACK = 2.0, 1.0


def question(mode: str, *, stream: bool = False, tokens: int = 2, padding: int = 0, trouble: str = "") -> Question:
    headers = {"pool": mode, **({"x-trouble": trouble} if trouble else {})}
    return Question("base", headers=headers, stream=stream, tokens=tokens, padding=padding)


@dataclass
class World:
    """Two pools of the same pods and with one picker: Open and Close."""

    running: Running
    picker: OracleProcess

    async def ask(self, mode: str, **more: object) -> Answer:
        return await ask(self.running.session, self.running.url, question(mode, **more))  # type: ignore[arg-type]

    @asynccontextmanager
    async def stream(self, mode: str) -> AsyncIterator[aiohttp.StreamReader]:
        """Ask for a long answer, and have its body as it comes."""
        asked = question(mode, stream=True, tokens=400)
        headers = {"content-type": "application/json", **asked.headers}
        url = f"{self.running.url}{CHAT}"
        async with self.running.session.post(url, data=asked.body(), headers=headers) as response:
            assert response.status == 200
            yield response.content

    async def until_asked(self, mode: str, since: float) -> float:
        """Wait until the picker is asked; return how long that took."""

        async def is_asked() -> bool:
            return bool((await self.ask(mode)).served)

        await until(is_asked, BOUND + SLACK)
        return asyncio.get_running_loop().time() - since

    async def picked_by_ours(self, answer: Answer) -> bool:
        """Whether a request was served by the choice of our own picker."""
        line = await self.running.handled(answer.request_id)
        return answer.good and line["pod_picked"] == line["pod_served"] == f"default/{answer.pod}"


@asynccontextmanager
async def world(start: Start, folder: Path, *, there: bool = True) -> AsyncIterator[World]:
    picker = OracleProcess(port_to_keep())
    kinds.write(folder / "gateway.yaml", kinds.gateway_class(), kinds.gateway())
    kinds.write(folder / "servers.yaml", kinds.deployment("chat", "--served-model-name base", replicas=2))
    service = kinds.picker_service("oracle", protocol="kubernetes.io/h2c")
    kinds.write(folder / "picker.yaml", service, kinds.picker_slice("oracle", picker.port))
    pools = [kinds.picked_pool(mode.lower(), "chat", "oracle", f"Fail{mode}") for mode in ("Open", "Close")]
    kinds.write(folder / "pools.yaml", *pools)
    rules = [kinds.rule(kinds.to_pool(mode.lower()), headers={"pool": mode}) for mode in ("Open", "Close")]
    kinds.write(folder / "route.yaml", kinds.route("route", *rules))
    try:
        if there:
            await picker.start()
        running = await start(folder)
        made = World(running, picker)
        if there:
            for mode in ("Open", "Close"):
                await made.until_asked(mode, 0)
        yield made
    finally:
        await picker.kill()


async def test_a_picker_that_is_absent_from_the_start(start: Start, tmp_path: Path) -> None:
    async with world(start, tmp_path, there=False) as w:
        for padding in (0, LONG):
            for _ in range(5):
                answer = await w.ask("Open", padding=padding)
                assert await w.picked_by_ours(answer), answer
                answer = await w.ask("Close", padding=padding)
                assert (answer.status, answer.code()) == (503, "picker_unavailable")
        began = await w.picker.start()
        for mode in ("Open", "Close"):
            assert await w.until_asked(mode, began) <= BOUND + SLACK
        assert (await w.ask("Open")).good
        assert (await w.ask("Close")).good


async def test_a_picker_that_is_killed_between_requests_and_comes_back(start: Start, tmp_path: Path) -> None:
    async with world(start, tmp_path) as w:
        # The control plane has no part in it.
        control_plane = w.running.installation.pids()["control-plane"]
        os.kill(control_plane, signal.SIGSTOP)
        async with (
            load(w.running, question("Open"), question("Open")) as short,
            load(w.running, question("Open", padding=LONG)) as long,
            load(w.running, question("Close")) as closed,
        ):
            await short.more(20)
            assert not short.bad + long.bad + closed.bad
            killed = await w.picker.kill()
            await asyncio.gather(
                *(each.more(50, lambda answer: answer.began > killed + BOUND) for each in (short, long))
            )
            began = await w.picker.start()
            for mode in ("Open", "Close"):
                assert await w.until_asked(mode, began) <= BOUND + SLACK
            settled = asyncio.get_running_loop().time()
            await closed.more(10)
        os.kill(control_plane, signal.SIGCONT)
    # What Envoy can begin anew is lost only where its answer was passing; what is longer, until Envoy has noticed.
    assert all(answer.began < killed for answer in short.bad), short.bad
    assert all(killed - 1 <= answer.began <= killed + BOUND for answer in long.bad), long.bad[-1]
    assert {answer.status for answer in long.bad} <= {0, 503}
    refused = [answer for answer in closed.bad if answer.status]
    assert {(answer.status, answer.code()) for answer in refused} == {(503, "picker_unavailable")}
    # An answer that was passing breaks off.
    assert all(answer.began < killed for answer in closed.bad if not answer.status), closed.bad
    assert all(killed - 1 <= answer.began <= settled for answer in closed.bad)
    between = [answer for answer in short.answers if answer.began > killed + BOUND and answer.ended < began]
    assert between
    assert await w.picked_by_ours(between[0])


async def test_a_picker_that_hangs_and_goes_on(start: Start, tmp_path: Path) -> None:
    async with world(start, tmp_path) as w:
        loop = asyncio.get_running_loop()
        hung = w.picker.stop()
        waiting: list[tuple[float, str, asyncio.Task[Answer]]] = []
        while loop.time() < hung + BOUND + SLACK:
            waiting += [(loop.time(), mode, asyncio.create_task(w.ask(mode))) for mode in ("Open", "Close")]
            await asyncio.sleep(0.1)
        await asyncio.sleep(SLACK)
        stuck = [began for began, _, task in waiting if not task.done()]
        assert max(stuck) - hung <= BOUND
        later = {
            mode: [task.result() for began, each, task in waiting if each == mode and began > max(stuck)]
            for mode in ("Open", "Close")
        }
        assert await w.picked_by_ours(later["Open"][-1])
        assert all(answer.good and not answer.served for answer in later["Open"])
        assert {(answer.status, answer.code()) for answer in later["Close"]} == {(503, "picker_unavailable")}
        went_on = w.picker.go_on()
        for mode in ("Open", "Close"):
            assert await w.until_asked(mode, went_on) <= BOUND + SLACK
        # Those who had been asking waited, and were served by its choice after all.
        answers = [await task for began, _, task in waiting if began <= max(stuck)]
        assert all(answer.good for answer in answers)


async def test_a_picker_that_dies_while_it_is_asked(start: Start, tmp_path: Path) -> None:
    async with world(start, tmp_path) as w:
        for mode, padding, status in (("Open", 0, 200), ("Open", LONG, 503), ("Close", 0, 503), ("Close", LONG, 503)):
            answer = await w.ask(mode, padding=padding, trouble="die")
            assert answer.status == status, (mode, padding, answer)
            if answer.good:
                assert await w.picked_by_ours(answer)
            else:
                assert answer.code() == "picker_unavailable"
            await w.picker.gone()
            await w.until_asked("Close", await w.picker.start())


async def test_a_picker_that_dies_while_answers_pass_it(start: Start, tmp_path: Path) -> None:
    async with world(start, tmp_path) as w:
        for mode in ("Open", "Close"):
            answer = await w.ask(mode, trouble="die-answering")
            assert (answer.status, answer.code()) == (503, "picker_unavailable")
            await w.picker.gone()
            await w.until_asked("Close", await w.picker.start())
            async with w.stream(mode) as events:
                assert await events.readany()
                await w.picker.kill()
                # Envoy cuts the answer off: what was on its way through the picker is lost.
                with pytest.raises(aiohttp.ClientPayloadError):
                    await events.read()
            # It is over with those that passed it, not with the pool.
            assert (await w.ask("Open")).good
            await w.until_asked("Close", await w.picker.start())


@pytest.mark.parametrize(
    ("trouble", "opened", "closed"),
    [
        ("fail", "ours", "503"),
        ("end", "ours", "503"),
        ("unnamed", "Envoy's", "503"),
        ("confused", "503", "503"),
    ],
)
async def test_a_picker_that_answers_nonsense(
    start: Start, tmp_path: Path, trouble: str, opened: str, closed: str
) -> None:
    async with world(start, tmp_path) as w:
        answer = await w.ask("Open", trouble=trouble)
        assert await _who(w, answer) == opened, answer
        answer = await w.ask("Close", trouble=trouble)
        assert await _who(w, answer) == closed, answer
        # One bad answer says nothing of the next.
        for mode in ("Open", "Close"):
            assert (await w.ask(mode)).served


async def _who(w: World, answer: Answer) -> str:
    if not answer.good:
        assert answer.code() == "picker_unavailable"
        return str(answer.status)
    return "Envoy's" if answer.served else "ours" if await w.picked_by_ours(answer) else "?"
