"""When every pod is busy: what may be shed gets 429 at once, everything else is served."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import kinds
from picker_metrics import scrape
from running import Running, Start, until

POOLS: Mapping[str, Mapping[str, str]] = {
    "usual": {},
    "eager": {"pointsman.dev/queue-threshold": "1"},
    "full": {"pointsman.dev/kv-cache-threshold": "0"},
}
LEVELS = ("Critical", "Standard", "Sheddable")


def objective(name: str, priority: int) -> kinds.Manifest:
    ref = {"group": kinds.EXPERIMENTAL, "name": "usual"}
    spec = {"priority": priority, "poolRef": ref}
    return {"apiVersion": "llm-d.ai/v1alpha2", "kind": "InferenceObjective", "metadata": {"name": name}, "spec": spec}


def model(pool: str, level: str) -> kinds.Manifest:
    made = kinds.model(f"{pool}-{level.lower()}", pool, {"base": 1})
    return {**made, "spec": {**made["spec"], "criticality": level}}


def write(folder: Path) -> None:
    kinds.write(folder / "gateway.yaml", kinds.gateway_class(), kinds.gateway())
    flags = "--served-model-name base --max-num-seqs 1"
    kinds.write(folder / "servers.yaml", kinds.deployment("chat", flags, replicas=2, decode_ms=50))
    for name, annotations in POOLS.items():
        pool = {**kinds.pool(name, "chat"), "metadata": {"name": name, "annotations": dict(annotations)}}
        kinds.write(folder / f"{name}.yaml", pool, *(model(name, level) for level in LEVELS))
    kinds.write(folder / "objectives.yaml", objective("batch", -1), objective("live", 10))
    routes = [kinds.rule(kinds.to_pool(name), headers={"pool": name}) for name in POOLS]
    kinds.write(folder / "route.yaml", kinds.route("route", *routes))


@asynccontextmanager
async def waiting(running: Running, count: int) -> AsyncIterator[None]:
    """Have a request run and so many wait at each pod, until the block is left."""
    body = {"model": "base", "messages": [{"role": "user", "content": "x"}], "max_tokens": 3000, "ignore_eos": True}
    addresses = list((await running.pods("default/usual")).values())

    async def ask(address: str) -> None:
        async with running.session.post(f"http://{address}/v1/chat/completions", json=body) as response:
            await response.read()

    async def seen(wanted: int) -> bool:
        name = "pointsman_picker_endpoint_waiting_requests"
        return set((await scrape(running)).by("endpoint", name, pool="default/usual").values()) == {float(wanted)}

    tasks = [asyncio.create_task(ask(address)) for address in addresses * (count + 1)]
    try:
        await until(partial(seen, count), 15)
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await until(partial(seen, 0), 15)


async def shed(running: Running, pool: str, model: str, **headers: str) -> bool:
    """Ask for a stream, whose headers come at once, and do not wait for its end."""
    body = {"model": model, "messages": [{"role": "user", "content": "x"}], "max_tokens": 2, "stream": True}
    url = f"{running.url}/v1/chat/completions"
    async with running.session.post(url, json=body, headers={"pool": pool, **headers}) as response:
        if response.status == 200:
            return False
        text = await response.text()
        assert response.status == 429, text
        error = json.loads(text)["error"]
        assert error.keys() == {"message", "type", "param", "code"}
        assert error["type"] == "rate_limit_error"
        assert 1 <= int(response.headers["retry-after"]) <= 60
        return True


async def test_what_may_be_shed_is_shed_by_the_pool_s_thresholds(start: Start, tmp_path: Path) -> None:
    write(tmp_path)
    running = await start(tmp_path)
    assert (await running.report())["problems"] == []
    for pool in POOLS:
        assert not await shed(running, pool, f"{pool}-sheddable")

    # Beyond the one pool's threshold for queues, and the other's for the cache.
    async with waiting(running, 2):
        assert not await shed(running, "usual", "usual-sheddable")
        for pool in ("eager", "full"):
            assert await shed(running, pool, f"{pool}-sheddable")
            assert not await shed(running, pool, f"{pool}-standard")
            assert not await shed(running, pool, f"{pool}-critical")
        # A v1alpha2 pool takes a model that nothing declares for sheddable.
        assert await shed(running, "eager", "base")

    # Beyond five.
    async with waiting(running, 7):
        assert await shed(running, "usual", "usual-sheddable")
        assert not await shed(running, "usual", "usual-standard")
        # An objective that the request names decides.
        name = "x-llm-d-inference-objective"
        assert await shed(running, "usual", "usual-critical", **{name: "batch"})
        assert not await shed(running, "usual", "usual-sheddable", **{name: "live"})
    assert not await shed(running, "usual", "usual-sheddable")
