"""One of four pods fails, in each way in which pods fail, under every strategy, plain and streaming.

For each request it is known which pod the picker named, which one served, and with which status.
"""

import asyncio
from collections import Counter
from collections.abc import Iterable
from functools import partial
from itertools import islice
from pathlib import Path

import kinds
import pytest
import pytest_asyncio
from load import arrivals, ask
from picker_metrics import scrape
from running import Running, Start, until
from served import Served, served, table
from strategies import ATTEMPT, BY_HEADERS, FLAGS, IMPATIENT, POOLS, questions, write
from touchy_server import TouchyServer

pytestmark = pytest.mark.asyncio(loop_scope="module")

# Seconds within which a failing pod gets no more requests, and one that is back gets some.
SOON = 2.0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(start_shared: Start, tmp_path_factory: pytest.TempPathFactory) -> Running:
    folder = tmp_path_factory.mktemp("pod-faults")
    write(folder)
    kinds.write(folder / "servers.yaml", kinds.deployment("chat", FLAGS, replicas=4, decode_ms=8, answer_tokens=1000))
    return await start_shared(folder)


async def is_avoided(running: Running, address: str, value: float = 1) -> bool:
    samples = await scrape(running)
    return samples.total("pointsman_picker_endpoint_avoided", endpoint=address, pool=f"default/{BY_HEADERS}") == value


# An equal share is a quarter. These are four standard deviations away, for 300 requests to three pools, where those of
# a conversation go together.
LITTLE, MUCH = 0.03, 0.5


def shares(requests: Iterable[Served], pod: str) -> dict[str, float]:
    """The pod's share of each pool's picks."""
    picks = Counter((each.pool, each.picked == pod) for each in requests)
    return {pool: picks[pool, True] / (picks[pool, True] + picks[pool, False]) for pool in POOLS}


@pytest.mark.parametrize("mode", ["refuse", "crash", "reset", "unavailable", "hang", "garbage"])
async def test_one_of_four_fails_and_comes_back(running: Running, mode: str) -> None:
    pods = await running.pods(f"default/{BY_HEADERS}")
    (name, address), (_, control), *_ = pods.items()
    bad = name.partition("/")[2]
    now = asyncio.get_running_loop().time
    async with arrivals(running, questions()) as clients:
        await clients.more(60)
        failed = now()
        await running.fault(control, mode, pod=bad)
        if mode != "garbage":
            await until(partial(is_avoided, running, address), SOON)
        await clients.more(300 if mode == "garbage" else 100)
        back = now()
        await running.fault(control, "none", pod=bad)
        await clients.more(1, lambda answer: answer.pod == bad)
        first = now()
        await clients.more(300)
    requests = await served(running, clients.answers)
    said = table(requests)
    # Only a stream that had begun when its pod died cannot be tried elsewhere.
    broken = [each for each in requests if not each.answer.good]
    assert all(each.answer.status == 0 and each.served == bad and mode == "crash" for each in broken), said
    assert all(each.answer.began < failed for each in broken), said
    assert said.keys() == {pod.partition("/")[2] for pod in pods}, said

    during = [each for each in requests if failed < each.answer.began < back]
    if mode == "garbage":
        # It serves: it keeps its share, and does not get the others'.
        assert all(LITTLE < share < MUCH for share in shares(during, bad).values()), shares(during, bad)
    else:
        assert all(each.answer.began - failed < SOON for each in during if each.picked == bad)
    # Whoever was sent there in vain was served by another.
    if mode not in {"garbage", "hang"}:
        assert not [each for each in during if each.served == bad]
    assert first - back < SOON
    after = [each for each in requests if each.answer.began > first]
    assert all(LITTLE < share < MUCH for share in shares(after, bad).values()), shares(after, bad)


async def test_what_a_dying_pod_had_is_asked_of_another(running: Running) -> None:
    pods = await running.pods(f"default/{BY_HEADERS}")
    (name, address), (_, control), *_ = pods.items()
    bad = name.partition("/")[2]
    asked = [
        asyncio.create_task(ask(running.session, running.url, question))
        for question, _ in zip(questions(tokens=400), range(48), strict=False)
    ]

    async def all_at_work() -> bool:
        samples = await scrape(running)
        held = samples.by("endpoint", "pointsman_picker_endpoint_running_requests", pool=f"default/{BY_HEADERS}")
        return sum(held.values()) == len(asked) and held[address] > 0

    await until(all_at_work, 10)
    await running.fault(control, "crash", pod=bad)
    requests = await served(running, await asyncio.gather(*asked))
    await running.fault(control, "none", pod=bad)
    moved = [each for each in requests if each.picked == bad and each.served != bad]
    broken = [each for each in requests if not each.answer.good]
    assert moved
    assert all(each.attempts == 2 for each in moved), table(requests)
    # Its streams had begun.
    assert all(each.served == bad and each.answer.status == 0 for each in broken), table(requests)
    assert len(moved) + len(broken) == sum(each.picked == bad for each in requests)
    await until(partial(is_avoided, running, address, 0), SOON)


async def test_bounded_attempts_leave_a_hanging_pod(running: Running) -> None:
    """Without a bound they wait: nobody can tell a long prefill from a hang."""
    (name, address), (_, control), *_ = (await running.pods(f"default/{BY_HEADERS}")).items()
    bad = name.partition("/")[2]
    now = asyncio.get_running_loop().time
    async with arrivals(running, questions(IMPATIENT)) as clients:
        await clients.more(20)
        failed = now()
        await running.fault(control, "hang", pod=bad)
        # So many at once that each pod gets some of them, however soon the picker notices.
        many = islice(questions(IMPATIENT), 16)
        burst = asyncio.gather(*(ask(running.session, running.url, question) for question in many))
        await until(partial(is_avoided, running, address), SOON)
        avoided = now()

        async def answered() -> bool:
            return all(answer.began > avoided for answer in clients.answers[-20:])

        await until(answered, 10)
        requests = await served(running, [*clients.answers, *await burst])
        await running.fault(control, "none", pod=bad)
    stuck = [each for each in requests if each.picked == bad and each.answer.began > failed]
    assert stuck
    assert all(each.answer.good for each in requests), table(requests)
    assert all(each.served != bad and each.attempts == 2 for each in stuck), table(stuck)
    assert all(each.answer.ended - each.answer.began < 3 * ATTEMPT for each in stuck)
    await until(partial(is_avoided, running, address, 0), SOON)


async def test_a_pod_that_never_listened_gets_nothing_until_it_does(start_shared: Start, tmp_path: Path) -> None:
    """It is there and ready from the start, by what Kubernetes says; and another one comes later."""
    write(tmp_path)
    kinds.write(tmp_path / "servers.yaml", kinds.deployment("chat", FLAGS, replicas=3))
    first, second = silent = [("127.78.0.1", "pod-0"), ("127.78.0.2", "pod-1")]
    static = kinds.pods("chat", [address for address, _ in silent])
    for pod, (_, name) in zip(static, silent, strict=True):
        pod["metadata"]["name"] = name
    kinds.write(tmp_path / "silent.yaml", static[0])
    running = await start_shared(tmp_path)
    assert len(await running.pods(f"default/{BY_HEADERS}")) == 4
    async with arrivals(running, questions()) as clients:
        await clients.more(60)
        kinds.write(tmp_path / "silent.yaml", *static)
        await until(partial(is_avoided, running, f"{second[0]}:8000"), SOON)
        await clients.more(60)
        before = await served(running, clients.answers)
        async with TouchyServer(first[1], first[0], 8000):
            await clients.more(1, lambda answer: answer.pod == first[1])
            after = await served(running, await clients.more(300))
    assert not clients.bad, clients.bad[:3]
    assert not {each.picked for each in before} & {first[1], second[1]}
    assert {each.attempts for each in before} == {1}
    assert all(LITTLE < share < MUCH for share in shares(after, first[1]).values()), shares(after, first[1])
    assert second[1] not in {each.picked for each in after}
