"""An edited manifest takes effect within a second, and no request fails for it: neither running nor arriving ones."""

from collections import Counter
from collections.abc import AsyncIterator
from functools import partial

import kinds
import pytest
import pytest_asyncio
from load import Load, Question, ask, load
from running import Running, Start, until

pytestmark = pytest.mark.asyncio(loop_scope="module")

SOON = 1.0
STEADY = (
    *[Question("steady", tokens=1)] * 2,
    Question("steady", padding=200_000),
    *[Question("steady", stream=True, tokens=100)] * 2,
)
NAMES = "--served-model-name base steady --max-model-len 1000000"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(start_shared: Start, tmp_path_factory: pytest.TempPathFactory) -> Running:
    folder = tmp_path_factory.mktemp("edits")
    kinds.write(folder / "gateway.yaml", kinds.gateway_class(), kinds.gateway())
    kinds.write(folder / "limit.yaml", kinds.buffer_limit("20Mi"))
    kinds.write(folder / "left" / "pool.yaml", kinds.pool("left", "left"))
    kinds.write(folder / "left" / "servers.yaml", kinds.deployment("left", NAMES, replicas=2, prefill_us=0.01))
    kinds.write(folder / "right" / "pool.yaml", kinds.pool("right", "right"))
    kinds.write(folder / "right" / "servers.yaml", kinds.deployment("right", NAMES, prefill_us=0.01))
    kinds.write(folder / "steady.yaml", kinds.route("steady", kinds.rule(kinds.to_pool("left"), model="steady")))
    return await start_shared(folder)


@pytest_asyncio.fixture(loop_scope="module", autouse=True)
async def steady(running: Running) -> AsyncIterator[None]:
    """Whatever is edited, these clients are all answered."""
    async with load(running, *STEADY) as clients:
        await clients.more(10)
        yield
        await clients.more(10)
    assert not clients.bad, clients.bad[:3]


def write(running: Running, case: str, *rules: kinds.Manifest) -> None:
    """Replace the edited route; only requests that have this header meet it."""
    limited = [{**rule, "matches": [{"headers": [{"name": "case", "value": case}]}]} for rule in rules]
    kinds.write(running.folder / "edited.yaml", kinds.route("edited", *limited))


async def has_status(running: Running, question: Question, status: int) -> bool:
    return (await ask(running.session, running.url, question)).status == status


async def is_served_by(running: Running, question: Question, pool: str) -> bool:
    answer = await ask(running.session, running.url, question)
    return answer.good and answer.pod.startswith(f"{pool}-")


async def test_a_rule_comes_and_goes(running: Running) -> None:
    question = Question("base", headers={"case": "come"})
    assert await has_status(running, question, 404)
    write(running, "come", kinds.rule(kinds.to_pool("right")))
    await until(partial(is_served_by, running, question, "right"), SOON)
    (running.folder / "edited.yaml").unlink()
    await until(partial(has_status, running, question, 404), SOON)


async def test_rules_change_places(running: Running) -> None:
    question = Question("base", headers={"case": "order"})
    left, right = kinds.rule(kinds.to_pool("left")), kinds.rule(kinds.to_pool("right"))
    for rules, pool in (((left, right), "left"), ((right, left), "right"), ((left, right), "left")):
        write(running, "order", *rules)
        await until(partial(is_served_by, running, question, pool), SOON)


async def test_weights_change(running: Running) -> None:
    question = Question("base", tokens=1, headers={"case": "weights"})
    async with load(running, *[question] * 3) as clients:
        for left, right in ((1, 0), (0, 1), (3, 1)):
            backends = [kinds.to_pool("left", weight=left), kinds.to_pool("right", weight=right)]
            write(running, "weights", kinds.rule(*backends))
            await until(partial(is_served_by, running, question, "left" if left else "right"), SOON)
            answers = await clients.more(100)
            assert all(answer.good for answer in answers)
            shares = Counter(answer.pod.partition("-")[0] for answer in answers)
            assert abs(shares["left"] / shares.total() - left / (left + right)) < 0.2, shares


async def test_a_pool_is_renamed(running: Running) -> None:
    """Pool and rule in one file, as a cluster sees them applied together."""
    question = Question("base", tokens=1, headers={"case": "rename"})

    def rename(name: str) -> None:
        headers = {"case": "rename"}
        rule = kinds.rule(kinds.to_pool(name), headers=headers)
        kinds.write(running.folder / "edited.yaml", kinds.pool(name, "right"), kinds.route("edited", rule))

    rename("name-0")
    await until(partial(has_status, running, question, 200), SOON)
    streams = [Question("base", stream=True, tokens=60, headers={"case": "rename"})] * 2
    async with load(running, *[question] * 4, *streams) as clients:
        for name in ("name-1", "name-2", "name-3"):
            await clients.more(10)
            rename(name)
            await until(partial(has_line_of, running, question, f"default/{name}"), SOON)
    assert not clients.bad, clients.bad[:3]


async def has_line_of(running: Running, question: Question, pool: str) -> bool:
    answer = await ask(running.session, running.url, question)
    return answer.good and (await running.handled(answer.request_id))["pool"] == pool


async def test_a_deployment_is_scaled(running: Running) -> None:
    question = Question("base", tokens=1, headers={"case": "scale"})
    write(running, "scale", kinds.rule(kinds.to_pool("right")))
    await until(partial(has_status, running, question, 200), SOON)

    def scale(replicas: int) -> None:
        manifest = kinds.deployment("right", NAMES, replicas=replicas, prefill_us=0.01)
        kinds.write(running.folder / "right" / "servers.yaml", manifest)

    streams = [Question("base", stream=True, tokens=100, headers={"case": "scale"})] * 4
    async with load(running, *[question] * 6, *streams) as clients:
        for replicas in (3, 5, 2, 1):
            scale(replicas)
            await until(partial(are_its_pods_used, running, clients, replicas), SOON)
    assert not clients.bad, clients.bad[:3]
    scale(0)
    await until(partial(has_status, running, question, 503), SOON)
    answer = await ask(running.session, running.url, question)
    assert answer.code() == "no_ready_endpoint"
    scale(1)
    await until(partial(has_status, running, question, 200), SOON)


async def are_its_pods_used(running: Running, clients: Load, count: int) -> bool:
    """Whether the pool has so many pods, and the requests of this moment are served by all of them and nobody else."""
    pods = await running.pods("default/right")
    if len(pods) != count:
        return False
    return {f"default/{answer.pod}" for answer in await clients.more(30)} == pods.keys()


async def test_a_timeout_changes(running: Running) -> None:
    slow = Question("base", tokens=80, headers={"case": "timeout"})
    for timeout, status in (("24h", 200), ("100ms", 504), ("10s", 200)):
        write(running, "timeout", kinds.rule(kinds.to_pool("right"), timeouts={"request": timeout}))
        await until(partial(has_status, running, slow, status), SOON + 0.5)


async def test_a_policy_of_the_listener_changes(running: Running) -> None:
    """The limit is part of the listener, where connections are at stake."""
    long = Question("steady", padding=2_000_000)
    for limit, status in (("1Mi", 413), ("20Mi", 200)):
        kinds.write(running.folder / "limit.yaml", kinds.buffer_limit(limit))
        await until(partial(has_status, running, long, status), SOON)
