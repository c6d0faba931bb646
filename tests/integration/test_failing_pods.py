"""A pod that fails costs no request, is avoided while it fails, and no request's content makes it look failed."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

import kinds
import pytest
import pytest_asyncio
from load import Answer, Question, ask, load
from picker_metrics import scrape
from running import Running, Start, until
from touchy_server import TROUBLE, TouchyServer

from pointsman.ports import port_to_keep

pytestmark = pytest.mark.asyncio(loop_scope="module")

STURDY, TOUCHY = "default/sturdy-pool", "default/touchy-pool"
FLAGS = "--served-model-name sturdy renamed --max-model-len 1000000 --no-enable-prefix-caching"
SHORT = Question("sturdy", tokens=1)
# The prompt of the picker's own questions.
PROBE = "1"
# Envoy keeps 1 MiB of a body for retries unless told otherwise.
QUESTIONS = (
    *[SHORT] * 4,
    *[Question("sturdy", padding=200_000)] * 2,
    Question("sturdy", padding=1_500_000),
    Question("other", padding=1_500_000),
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def touchy(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[list[TouchyServer]]:
    port = port_to_keep()
    servers = [TouchyServer(f"touchy-{index}", f"127.77.{index}.1", port) for index in range(3)]
    folder = tmp_path_factory.getbasetemp() / "touchy"
    pods = kinds.pods("touchy", [server.address for server in servers], port=port)
    kinds.write(folder / "pods.yaml", *pods, kinds.pool("touchy-pool", "touchy", port=port))
    kinds.write(folder / "declared.yaml", kinds.model("touchy", "touchy-pool"))
    kinds.write(folder / "service.yaml", kinds.service("touchy", port=port))
    routes = [
        kinds.rule(kinds.to_service("touchy", port=port), headers={"backend": "service"}),
        kinds.rule(kinds.to_pool("touchy-pool"), model="touchy"),
    ]
    kinds.write(folder / "route.yaml", kinds.route("touchy", *routes))
    async with AsyncExitStack() as stack:
        for server in servers:
            await stack.enter_async_context(server)
        yield servers


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(start_shared: Start, touchy: list[TouchyServer], tmp_path_factory: pytest.TempPathFactory) -> Running:
    assert touchy
    folder = Path(tmp_path_factory.getbasetemp() / "touchy")
    kinds.write(folder / "gateway.yaml", kinds.gateway_class(), kinds.gateway(), kinds.buffer_limit("20Mi"))
    kinds.write(folder / "servers.yaml", kinds.deployment("sturdy", FLAGS, replicas=3, prefill_us=0.001, decode_ms=10))
    kinds.write(folder / "pool.yaml", kinds.pool("sturdy-pool", "sturdy"))
    # Declared models are not shed when all pods are busy. Under the name "other" the picker has to rewrite the body.
    declared = kinds.model("sturdy", "sturdy-pool"), kinds.model("other", "sturdy-pool", {"renamed": 1})
    kinds.write(folder / "models-declared.yaml", *declared)
    rules = [kinds.rule(kinds.to_pool("sturdy-pool"), model=model) for model in ("sturdy", "other")]
    kinds.write(folder / "models.yaml", kinds.route("models", *rules))
    return await start_shared(folder)


async def sturdy(running: Running) -> Mapping[str, str]:
    """The addresses of the simulated pods by name, all of which work."""

    async def there() -> bool:
        return len(await running.pods(STURDY)) == 3

    await until(there, 30)
    pods = await running.pods(STURDY)
    for (bad, _), control in zip(pods.items(), [*list(pods.values())[1:], next(iter(pods.values()))], strict=True):
        await running.fault(control, "none", pod=bad)
    return pods


async def is_avoided(running: Running, address: str, value: float = 1) -> bool:
    return (await scrape(running)).total("pointsman_picker_endpoint_avoided", endpoint=address) == value


async def picks(running: Running, answers: list[Answer]) -> set[object]:
    """The pods that the picker named first for these requests."""
    return {(await running.handled(answer.request_id))["pod_picked"] for answer in answers}


@pytest.mark.parametrize("mode", ["refuse", "reset", "unavailable"])
async def test_a_failing_pod_costs_no_request_and_is_avoided_until_it_is_back(running: Running, mode: str) -> None:
    (bad, address), (_, control), _ = (await sturdy(running)).items()
    async with load(running, *QUESTIONS) as clients:
        await clients.more(1, partial(is_by, bad))
        await running.fault(control, mode, pod=bad)
        await until(partial(is_avoided, running, address), 10)
        during = await clients.more(40)
        assert bad not in await picks(running, during)
        await running.fault(control, "none", pod=bad)
        await clients.more(1, partial(is_by, bad))
    assert not clients.bad, clients.bad[:3]
    assert await is_avoided(running, address, 0)


def is_by(pod: str, answer: Answer) -> bool:
    return f"default/{answer.pod}" == pod


async def test_a_hanging_pod_gets_no_new_request_and_keeps_those_it_has(running: Running) -> None:
    (bad, address), (_, control), _ = (await sturdy(running)).items()

    async def in_flight() -> float:
        return (await scrape(running)).total("pointsman_picker_endpoint_in_flight_requests", endpoint=address)

    async def has_some() -> bool:
        return await in_flight() > 0

    async with arrivals(running, SHORT) as arriving:
        long = Question("sturdy", tokens=300)
        arriving.tasks += [asyncio.create_task(ask(running.session, running.url, long)) for _ in range(9)]
        await until(has_some, 10)
        await running.fault(control, "hang", pod=bad)
        await until(partial(is_avoided, running, address), 2)
        waiting = await in_flight()
        late = await arriving.last(1)
        await asyncio.wait(late, timeout=10)
        assert waiting > 0
        assert await in_flight() == waiting
        await running.fault(control, "none", pod=bad)
    answers = [task.result() for task in arriving.tasks]
    assert all(answer.good for answer in answers), [answer for answer in answers if not answer.good]
    assert not any(is_by(bad, task.result()) for task in late)
    patient = [answer for answer in answers if is_by(bad, answer) and answer.ended - answer.began > 1]
    assert len(patient) >= waiting
    assert await picks(running, patient) == {bad}
    await until(partial(is_avoided, running, address, 0), 10)


async def test_a_pod_that_takes_requests_and_does_nothing_is_avoided(
    running: Running, touchy: list[TouchyServer]
) -> None:
    """Its health and its metrics stay fine: only a question of the picker's own tells."""
    bad = "default/touchy-0"
    address = (await running.pods(TOUCHY))[bad]
    async with arrivals(running, Question("touchy")) as arriving:
        touchy[0].working.clear()
        # The picker takes 1.5 s to be sure: no answer for a while, and then none to its own question either.
        await until(partial(is_avoided, running, address), 3)
        late = await arriving.last(0.5)
        # Those that were sent when it works again may go there.
        await asyncio.wait(late, timeout=10)
        touchy[0].working.set()
    assert all(task.result().good for task in arriving.tasks)
    assert not any(is_by(bad, task.result()) for task in late)
    await until(partial(is_avoided, running, address, 0), 10)


class Arrivals:
    """Requests that come at a constant rate, however long the answers take."""

    def __init__(self, running: Running, question: Question) -> None:
        self.tasks: list[asyncio.Task[Answer]] = []
        self._running, self._question = running, question

    async def come(self) -> None:
        while True:
            self.tasks.append(asyncio.create_task(ask(self._running.session, self._running.url, self._question)))
            await asyncio.sleep(0.02)

    async def last(self, seconds: float) -> list[asyncio.Task[Answer]]:
        """Let requests come for so long; return these."""
        known = len(self.tasks)
        await asyncio.sleep(seconds)
        return self.tasks[known:]


@asynccontextmanager
async def arrivals(running: Running, question: Question) -> AsyncIterator[Arrivals]:
    """Have requests arrive inside; at the end all have been answered."""
    found = Arrivals(running, question)
    coming = asyncio.create_task(found.come())
    try:
        yield found
    finally:
        coming.cancel()
        await asyncio.gather(*found.tasks)


@pytest.mark.parametrize("word", TROUBLE)
async def test_no_content_puts_a_pod_on_the_avoided_list(
    running: Running, touchy: list[TouchyServer], word: str
) -> None:
    pods = await running.pods(TOUCHY)
    avoidances = await avoided(running, pods)
    before = [server.prompts[PROBE] for server in touchy]
    async with load(running, *[Question("touchy")] * 4) as good:
        poison = Question("touchy", text=f"{word} please")
        hammer = [asyncio.create_task(ask(running.session, running.url, poison)) for _ in range(60)]

        async def has_looked_for_itself() -> bool:
            return all(server.prompts[PROBE] > count for server, count in zip(touchy, before, strict=True))

        await until(has_looked_for_itself, 20)
        answers = await good.more(100)
        if word == "hang":
            assert not any(task.done() for task in hammer)
            for task in hammer:
                task.cancel()
        else:
            assert {(await task).status for task in hammer} == {503}
        assert all(server.prompts[word] > 10 for server in touchy)
    assert not good.bad, good.bad[:3]
    assert await picks(running, answers) == pods.keys()
    assert await avoided(running, pods) == avoidances
    for address in pods.values():
        assert await is_avoided(running, address, 0)


async def avoided(running: Running, pods: Mapping[str, str]) -> list[float]:
    """How often each of the pods has been put on the avoided list."""
    samples = await scrape(running)
    return [samples.total("pointsman_picker_avoidances_total", endpoint=address) for address in pods.values()]


async def test_only_pools_are_retried(running: Running, touchy: list[TouchyServer]) -> None:
    async def attempts(**headers: str) -> int:
        before = sum(server.prompts["unavailable"] for server in touchy)
        poison = Question("touchy", text="unavailable again", headers=headers)
        assert (await ask(running.session, running.url, poison)).status == 503
        return sum(server.prompts["unavailable"] for server in touchy) - before

    assert await attempts(backend="service") == 1
    assert await attempts() > 1


async def test_a_pod_that_dies_ends_only_its_own_streams(running: Running, touchy: list[TouchyServer]) -> None:
    """Last in this file: nobody brings it back to life."""
    dying = touchy[0]
    questions = [Question("touchy", stream=True, tokens=100)] * 12
    streams = [asyncio.create_task(ask(running.session, running.url, each)) for each in questions]

    async def all_streaming() -> bool:
        return all(server.streams for server in touchy) and sum(len(server.streams) for server in touchy) == 12

    await until(all_streaming, 10)
    lost = len(dying.streams)
    async with load(running, *[Question("touchy")] * 2) as clients:
        await dying.die()
        ended = await asyncio.gather(*streams)
        await clients.more(20)
    assert not clients.bad, clients.bad[:3]
    broken = [answer for answer in ended if not answer.good]
    assert len(broken) == lost
    assert {answer.pod for answer in broken} == {"touchy-0"}
