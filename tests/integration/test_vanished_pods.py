"""A pod that vanishes with its node, without a word: what waits there is asked of another one."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import kinds
import networks
import pytest
from load import Answer, Question, ask
from networks import Machine
from picker_metrics import scrape
from running import starter, until
from served import Served, served, table
from touchy_server import TouchyServer

pytestmark = pytest.mark.skipif(not networks.can_be_made(), reason="takes Linux and the rights of root")

GATEWAY, NODE, STAYS = "10.9.0.1", "10.9.0.2", "127.79.0.1"
PORT = 8000
SILENCE = 20.0  # seconds, from then on


def test_requests_at_a_node_that_vanishes_are_asked_elsewhere(tmp_path: Path) -> None:
    kinds.write(tmp_path / "gateway.yaml", kinds.gateway_class(), kinds.gateway())
    kinds.write(tmp_path / "pods.yaml", *kinds.pods("touchy", [NODE, STAYS], port=PORT))
    kinds.write(tmp_path / "pool.yaml", kinds.pool("pool", "touchy"), kinds.model("touchy", "pool"))
    kinds.write(tmp_path / "route.yaml", kinds.route("route", kinds.rule(kinds.to_pool("pool"))))
    vanishing = TouchyServer("touchy-0", NODE, PORT)
    with Machine() as here, Machine() as node:
        networks.join(here, node, GATEWAY, NODE)
        node.run(vanishing.__aenter__())

        def vanish() -> None:
            node.run(node.ip("address", "delete", f"{NODE}/24", "dev", "wire"))

        async def hold() -> None:
            vanishing.working.clear()

        node.run(hold())
        waited, arrived = here.run(scenario(tmp_path, vanish))
        node.run(vanishing.__aexit__())
    assert all(each.answer.status == 200 and each.served == "touchy-1" for each in waited), table(waited)
    moved = [each for each in waited if each.picked == "touchy-0"]
    assert moved
    assert {each.attempts for each in moved} == {2}
    assert max(each.answer.ended - each.answer.began for each in moved) < 2 * SILENCE
    # Those that come meanwhile need not wait so long: a connection is given up after a second.
    assert all(answer.good and answer.ended - answer.began < SILENCE / 2 for answer in arrived), arrived
    assert {answer.pod for answer in arrived} == {"touchy-1"}


async def scenario(folder: Path, vanish: Callable[[], None]) -> tuple[list[Served], list[Answer]]:
    """Ask, have the node vanish when it has some of the requests, and ask on."""
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(TouchyServer("touchy-1", STAYS, PORT))
        running = await starter(stack)(folder, simulate=False)
        question = Question("touchy")
        waiting = [asyncio.create_task(ask(running.session, running.url, question)) for _ in range(8)]

        async def held() -> bool:
            name = "pointsman_picker_endpoint_in_flight_requests"
            return (await scrape(running)).total(name, endpoint=f"{NODE}:{PORT}") > 0

        await until(held, 10)
        await asyncio.to_thread(vanish)
        arrived = []
        while not all(task.done() for task in waiting):
            arrived.append(await ask(running.session, running.url, question))
            await asyncio.sleep(0.1)
        return await served(running, [task.result() for task in waiting]), arrived
