"""The picker chooses by load, among endpoints that Envoy has been sent, and accounts for every request."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import kinds
import pytest
import pytest_asyncio
from load import Answer, Question, ask, load
from picker_metrics import scrape
from running import Running, Start, until

pytestmark = pytest.mark.asyncio(loop_scope="module")

POOL = "default/chat-pool"
# Four requests run at once, the KV cache holds 4,096 tokens, and an answer takes a second for each 20 tokens.
FLAGS = (
    "--served-model-name base --max-num-seqs 4 --max-model-len 4096 --num-gpu-blocks-override 256 "
    "--no-enable-prefix-caching --enable-lora --max-loras 3 --lora-modules a=/a much-longer-adapter=/b"
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(start_shared: Start, tmp_path_factory: pytest.TempPathFactory) -> Running:
    folder = tmp_path_factory.mktemp("picking")
    kinds.write(folder / "gateway.yaml", kinds.gateway_class(), kinds.gateway())
    kinds.write(folder / "pool.yaml", kinds.pool("chat-pool", "chat"), kinds.model("base", "chat-pool"))
    kinds.write(folder / "model.yaml", kinds.model("helper", "chat-pool", {"a": 3, "much-longer-adapter": 1}))
    rules = [kinds.rule(kinds.to_pool("chat-pool"), model=model) for model in ("base", "helper")]
    kinds.write(folder / "route.yaml", kinds.route("models", *rules))
    write_servers(folder, 3)
    return await start_shared(folder)


def write_servers(folder: Path, replicas: int) -> None:
    kinds.write(folder / "servers.yaml", kinds.deployment("chat", FLAGS, replicas=replicas, decode_ms=50))


@asynccontextmanager
async def busy(running: Running, address: str, *questions: Question) -> AsyncIterator[None]:
    """Have a pod work on questions that somebody else asked it, until they are given up."""
    tasks = [asyncio.create_task(ask(running.session, f"http://{address}", each)) for each in questions]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def gauge(running: Running, name: str, address: str) -> float:
    return (await scrape(running)).total(f"pointsman_picker_endpoint_{name}", endpoint=address)


async def idle(running: Running) -> bool:
    """Whether nobody works, by the pods' reports and by the picker's count."""
    samples = await scrape(running)
    names = ("endpoint_running_requests", "endpoint_waiting_requests", "in_flight_requests")
    return not any(samples.total(f"pointsman_picker_{name}") for name in names)


async def served_by(running: Running, count: int, question: Question) -> Counter[str]:
    """Ask one after the other; count the answers of each pod."""
    answers = [await ask(running.session, running.url, question) for _ in range(count)]
    assert all(answer.good for answer in answers), answers
    return Counter(f"default/{answer.pod}" for answer in answers)


async def test_requests_go_past_a_pod_with_a_queue(running: Running) -> None:
    pods = await running.pods(POOL)
    loaded, address = next(iter(pods.items()))
    async with busy(running, address, *[Question("base", tokens=3000)] * 12):

        async def queued() -> bool:
            return await gauge(running, "waiting_requests", address) == 8

        await until(queued, 20)
        served = await served_by(running, 12, Question("base", tokens=1))
        assert served.keys() == pods.keys() - {loaded}

    await until(lambda: idle(running), 20)
    async with load(running, *[Question("base", tokens=1)] * 3) as clients:
        await clients.more(1, partial(is_by, loaded))


async def test_requests_go_past_a_pod_whose_cache_is_full(running: Running) -> None:
    pods = await running.pods(POOL)
    (full, address), *others = pods.items()
    # All three run one request, so that nothing but the cache tells them apart.
    small = [busy(running, other, Question("base", tokens=2000)) for _, other in others]
    async with busy(running, address, Question("base", padding=14_000, tokens=500)), small[0], small[1]:

        async def reported() -> bool:
            samples = await scrape(running)
            running_now = samples.by("endpoint", "pointsman_picker_endpoint_running_requests")
            usage = samples.total("pointsman_picker_endpoint_kv_cache_usage_ratio", endpoint=address)
            return usage > 0.8 and set(running_now.values()) == {1}

        await until(reported, 20)
        served = await served_by(running, 12, Question("base", tokens=1))
    assert full not in served, served
    assert served.keys() == pods.keys() - {full}


async def test_a_burst_does_not_land_on_the_pod_that_looked_best(running: Running) -> None:
    """Between two scrapes the picker's own count tells the pods apart."""
    await until(lambda: idle(running), 20)
    _, *others = (await running.pods(POOL)).values()
    small = [busy(running, other, Question("base", tokens=2000)) for other in others]
    async with small[0], small[1]:

        async def reported() -> bool:
            name = "pointsman_picker_endpoint_running_requests"
            return sorted((await scrape(running)).by("endpoint", name).values()) == [0, 1, 1]

        await until(reported, 20)
        questions = [ask(running.session, running.url, Question("base", tokens=4)) for _ in range(9)]
        answers = await asyncio.gather(*questions)
    assert all(answer.good for answer in answers), answers
    shares = Counter(answer.pod for answer in answers)
    assert len(shares) == 3, shares
    assert max(shares.values()) <= 6, shares


async def test_target_models_are_drawn_by_weight(running: Running) -> None:
    questions = [Question("helper", text=f"x{index}", tokens=1, padding=index * 10) for index in range(120)]
    answers: list[Answer] = []
    for start in range(0, len(questions), 12):
        answers += await asyncio.gather(
            *(ask(running.session, running.url, each) for each in questions[start : start + 12])
        )
    assert all(answer.good for answer in answers), [answer for answer in answers if not answer.good]
    # The answer's model stays as the server sent it.
    shares = Counter(json.loads(answer.body)["model"] for answer in answers)
    assert shares.keys() == {"a", "much-longer-adapter"}
    assert 0.55 < shares["a"] / len(answers) < 0.95, shares
    line = await running.handled(answers[0].request_id)
    assert (line["model"], line["target_model"]) == ("helper", json.loads(answers[0].body)["model"])


async def test_each_request_has_its_line(running: Running) -> None:
    pods = await running.pods(POOL)
    answer = await ask(running.session, running.url, Question("helper"))
    line = await running.handled(answer.request_id)
    picked = line["pod_picked"]
    assert picked in pods
    expected = {
        "pool": POOL,
        "model": "helper",
        "target_model": json.loads(answer.body)["model"],
        "pod_served": picked,
        "address": pods[str(picked)],
        "status": 200,
        "details": "via_upstream",
        "route": "httproute/default/models/rule/1/match/0",
        "request_id": answer.request_id,
        "attempts": 1,
    }
    assert {name: line[name] for name in expected} == expected
    assert picked == f"default/{answer.pod}"
    for figure in ("waiting=", "kv=", "running=", "in_flight=", "of=3"):
        assert figure in str(line["reason"]), line["reason"]
    decision, duration = float(str(line["decision_ms"])), float(str(line["duration_ms"]))
    assert 0 < decision < duration
    assert 50 <= duration <= (answer.ended - answer.began) * 1e3 + 1


async def test_metrics_count_the_requests(running: Running) -> None:
    async def finished() -> float:
        return (await scrape(running)).total("pointsman_picker_requests_total", pool=POOL, model="base", status="200")

    async def durations() -> float:
        return (await scrape(running)).total("pointsman_picker_request_duration_seconds_count", pool=POOL)

    await until(lambda: idle(running), 20)
    before, timed = await finished(), await durations()
    await served_by(running, 5, Question("base", tokens=1))

    async def counted() -> bool:
        return (await finished(), await durations()) == (before + 5, timed + 5)

    await until(counted, 20)
    await until(lambda: idle(running), 20)


async def test_only_endpoints_that_envoy_has_been_sent_are_picked(running: Running) -> None:
    """Else Envoy would pass over the picked endpoint, and another one would serve."""
    for replicas in (5, 2, 3):
        before = set(await running.pods(POOL))
        async with load(running, *[Question("base", tokens=1)] * 8) as clients:
            write_servers(running.folder, replicas)
            await until(partial(has_pods, running, replicas), 20)
            after = set(await running.pods(POOL))
            for pod in after - before:
                await clients.more(1, partial(is_by, pod))
            await clients.more(16)
        assert not clients.bad
        for answer in clients.answers:
            line = await running.handled(answer.request_id)
            assert line["pod_served"] == f"default/{answer.pod}", line
            assert line["attempts"] == 1
            # Envoy learns first that a pod is gone.
            assert line["pod_picked"] in {line["pod_served"], *(before - after)}, line


async def has_pods(running: Running, count: int) -> bool:
    return len(await running.pods(POOL)) == count


def is_by(pod: str, answer: Answer) -> bool:
    return f"default/{answer.pod}" == pod
