"""Pods come and go under load: no request fails for which there was a ready pod, under every strategy.

The simulated pods go as Kubernetes' do: they are told to end when they are deleted, whether or not anybody knows.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path

import kinds
import pytest
import pytest_asyncio
from load import arrivals, load
from picker_metrics import scrape
from running import Running, Start, until
from served import served, table
from strategies import BY_HEADERS, FLAGS, POOLS, questions, write

pytestmark = pytest.mark.asyncio(loop_scope="module")

# A family that has a series for each endpoint.
_ENDPOINTS = "pointsman_picker_endpoint_avoided"


def servers(folder: Path, replicas: int, version: int, strategy: Mapping[str, int | str] | None = None) -> None:
    """Write the Deployment; another version is another template. A pod takes 0.3 s to start."""
    made = kinds.deployment(
        "chat",
        FLAGS,
        replicas=replicas,
        strategy=strategy,
        decode_ms=8,
        prefill_us=1,
        answer_tokens=1000,
        startup_ms=300,
        version=version,
    )
    kinds.write(folder / "servers.yaml", made)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(start_shared: Start, tmp_path_factory: pytest.TempPathFactory) -> Running:
    folder = tmp_path_factory.mktemp("scaling")
    write(folder)
    servers(folder, 1, version=0)
    return await start_shared(folder)


async def pods(running: Running) -> set[str]:
    """The pods that are ready, as the control plane has it."""
    return {name.partition("/")[2] for name in await running.pods(f"default/{BY_HEADERS}")}


async def has(running: Running, replicas: int, *others: str) -> bool:
    """Whether control plane and picker know the same ready pods, so many, none of which is one of `others`."""
    samples, present = await scrape(running), await pods(running)
    names = {f"default/{pod}" for pod in present}
    return (
        len(present) == replicas
        and not present & set(others)
        and all(names == samples.values_of("pod", _ENDPOINTS, pool=f"default/{pool}") for pool in POOLS)
    )


def now() -> float:
    return asyncio.get_running_loop().time()


UPDATES: Mapping[str, tuple[int, Mapping[str, int | str]]] = {
    "one": (1, {}),
    "four": (4, {}),
    "four, half of them away": (4, {"maxSurge": 0, "maxUnavailable": "50%"}),
    "twelve": (12, {}),
}


@pytest.mark.parametrize(("replicas", "strategy"), UPDATES.values(), ids=UPDATES)
async def test_a_rolling_update_of_all_pods(running: Running, replicas: int, strategy: Mapping[str, int | str]) -> None:
    earlier = await pods(running)
    servers(running.folder, replicas, 1, strategy)
    await until(partial(has, running, replicas, *earlier), 30)
    old = await pods(running)
    # Streams of two seconds, so that every old pod has some when it is told to go.
    long = [replace(question, stream=True) for question in islice(questions(tokens=250), 6 * max(2, replicas))]
    async with load(running, *long) as streams, arrivals(running, questions()) as clients:
        await clients.more(40)
        began = now()
        servers(running.folder, replicas, 2, strategy)
        await until(partial(has, running, replicas, *old), 60)
        settled = now()
        new = await pods(running)
        await clients.more(20 * replicas)
    requests = await served(running, clients.answers + streams.answers)
    said = table(requests)
    assert all(counts.keys() == {200} for counts in said.values()), said
    assert said.keys() == old | new
    assert {each.served for each in requests if each.answer.began > settled} == new
    finished = [each for each in requests if each.served in old and each.answer.began < began < each.answer.ended]
    assert {each.served for each in finished} == old


async def test_all_pods_gone_and_all_pods_back(running: Running) -> None:
    servers(running.folder, 4, 3)
    await until(partial(has, running, 4), 30)
    async with arrivals(running, questions()) as clients:
        await clients.more(40)
        going = now()
        servers(running.folder, 0, 3)
        await until(partial(has, running, 0), 10)
        gone = now()
        await clients.more(40)
        coming = now()
        servers(running.folder, 4, 3)
        await until(partial(has, running, 4), 30)
        back = now()
        await clients.more(200)
    requests = await served(running, clients.answers)
    said = table(requests)
    # Whoever fails had asked while there was nobody; who had asked before is served to the end.
    assert all(going < answer.ended and answer.began < back for answer in clients.bad), said
    assert {answer.status for answer in clients.bad} == {503}, said
    nobody = [answer for answer in clients.answers if gone < answer.began and answer.ended < coming]
    assert {(answer.status, answer.code()) for answer in nobody} == {(503, "no_ready_endpoint")}
    assert {each.served for each in requests if each.answer.began > back} == await pods(running)


async def test_from_one_pod_to_a_hundred_and_back(running: Running) -> None:
    servers(running.folder, 1, 4)
    await until(partial(has, running, 1), 60)
    before = handles(running)
    async with arrivals(running, questions()) as clients:
        await clients.more(40)
        servers(running.folder, 100, 4)
        await until(partial(has, running, 100), 60)
        many = len(clients.answers)

        async def all_serve() -> bool:
            return len({answer.pod for answer in clients.answers[many:]}) == 100

        await until(all_serve, 120)
        few = len(clients.answers)
        servers(running.folder, 1, 4)
        await until(partial(has, running, 1), 60)
        await clients.more(60)
    said = table(await served(running, clients.answers))
    assert all(counts.keys() == {200} for counts in said.values()), said
    # New pods get their share, and no more: a hundredth, of a thousand or so.
    shares = table(await served(running, clients.answers[many:few]))
    assert max(counts.total() for counts in shares.values()) < 0.1 * (few - many), shares
    assert await pods(running) <= said.keys()

    async def tidied_up() -> bool:
        return all(count <= before[name] + 10 for name, count in handles(running).items())

    await until(tidied_up, 60)
    samples = await scrape(running)
    for name in (_ENDPOINTS, "pointsman_picker_avoidances_total", "pointsman_picker_scrape_errors_total"):
        assert len(samples.values_of("endpoint", name)) <= 1


def handles(running: Running) -> dict[str, int]:
    """How many files and sockets each child has open; nothing where the system does not tell."""
    folders = {name: Path(f"/proc/{pid}/fd") for name, pid in running.installation.pids().items()}
    return {name: len(list(folder.iterdir())) for name, folder in folders.items() if folder.exists()}
