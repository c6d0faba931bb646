"""Copies of requests, through real Envoy."""

import asyncio
from collections.abc import Mapping
from pathlib import Path

import kinds
from picker_metrics import scrape
from running import Running, Start, until


def mirror(backend: kinds.Manifest, **more: object) -> kinds.Manifest:
    ref = {key: value for key, value in backend.items() if key != "weight"}
    return {"type": "RequestMirror", "requestMirror": {"backendRef": ref, **more}}


def write(folder: Path, *filters: kinds.Manifest, replicas: int = 1, flags: str = "") -> None:
    """A pool `main`, from which requests are copied, and servers `copy`, both a Service and the pool `trial`."""
    kinds.write(folder / "gateway.yaml", kinds.gateway_class(), kinds.gateway())
    named = "--served-model-name base"
    kinds.write(folder / "servers.yaml", kinds.deployment("chat", named))
    kinds.write(folder / "copies.yaml", kinds.deployment("copy", f"{named} {flags}", replicas=replicas, decode_ms=20))
    kinds.write(folder / "pools.yaml", kinds.pool("main", "chat"), kinds.pool("trial", "copy"), kinds.service("copy"))
    rules = [
        kinds.rule(kinds.to_pool("main"), filters=list(filters)),
        kinds.rule(kinds.to_pool("trial"), headers={"pool": "trial"}),
    ]
    kinds.write(folder / "route.yaml", kinds.route("route", *rules))


async def served(running: Running) -> Mapping[str, int]:
    """How many requests each server of copies has answered, by its address."""
    found = {}
    for address in (await running.pods("default/trial")).values():
        async with running.session.get(f"http://{address}/metrics") as response:
            lines = (await response.text()).splitlines()
        counts = [float(line.split()[-1]) for line in lines if line.startswith("vllm:request_success_total")]
        found[address] = int(sum(counts))
    return found


async def until_copied(running: Running, count: int) -> Mapping[str, int]:
    async def all_copied() -> bool:
        return sum((await served(running)).values()) >= count

    await until(all_copied, 20)
    return await served(running)


async def test_a_service_gets_a_copy_of_each_request(start: Start, tmp_path: Path) -> None:
    write(tmp_path, mirror(kinds.to_service("copy")))
    running = await start(tmp_path)
    for _ in range(10):
        assert (await running.chat("base")).status == 200
    assert sum((await until_copied(running, 10)).values()) == 10


async def test_a_share_of_the_requests_is_copied(start: Start, tmp_path: Path) -> None:
    write(tmp_path, mirror(kinds.to_service("copy"), percent=30))
    running = await start(tmp_path)
    answers = await asyncio.gather(*(running.chat("base") for _ in range(200)))
    assert {answer.status for answer in answers} == {200}
    # 30 % of 200 within five standard deviations.
    await until_copied(running, 28)
    await asyncio.sleep(0.5)
    assert sum((await served(running)).values()) <= 92


async def test_copies_that_fail_or_hang_touch_no_request(start: Start, tmp_path: Path) -> None:
    write(tmp_path, mirror(kinds.to_service("copy")))
    running = await start(tmp_path)
    (address,) = (await running.pods("default/trial")).values()
    for mode in ("unavailable", "reset", "hang"):
        await running.fault(address, mode)
        for _ in range(5):
            # Less than the session's own limit: the copy's answer never comes.
            async with asyncio.timeout(10):
                assert (await running.chat("base")).status == 200


async def test_copies_to_a_pool_are_picked_for(start: Start, tmp_path: Path) -> None:
    pool = kinds.to_pool("trial")
    write(tmp_path, mirror(pool), replicas=2, flags="--max-num-seqs 1")
    running = await start(tmp_path)
    busy, idle = (await running.pods("default/trial")).values()
    body = {"model": "base", "messages": [{"role": "user", "content": "long"}], "max_tokens": 3000, "ignore_eos": True}
    asking = [
        asyncio.create_task(running.session.post(f"http://{busy}/v1/chat/completions", json=body)) for _ in "1234"
    ]

    async def queue_is_seen() -> bool:
        return (await scrape(running)).total("pointsman_picker_endpoint_waiting_requests", endpoint=busy) == 3

    await until(queue_is_seen, 20)
    before = await served(running)
    for _ in range(20):
        assert (await running.chat("base")).status == 200
        # No queue of copies is to arise.
        await asyncio.sleep(0.1)
    after = await until_copied(running, sum(before.values()) + 20)
    assert (after[busy] - before[busy], after[idle] - before[idle]) == (0, 20)
    for each in asking:
        each.cancel()
    await asyncio.gather(*asking, return_exceptions=True)


async def test_copies_to_a_pool_that_another_picker_picks_for_are_balanced(start: Start, tmp_path: Path) -> None:
    """That picker is not asked for copies: here there is none behind its Service."""
    write(tmp_path, mirror(kinds.to_pool("theirs")), replicas=2)
    theirs = kinds.pool("theirs", "copy")
    theirs = {**theirs, "spec": {**theirs["spec"], "extensionRef": {"name": "elsewhere"}}}
    ports = {"ports": [{"name": "grpc", "port": 9002}]}
    picker = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "elsewhere"}, "spec": ports}
    kinds.write(tmp_path / "theirs.yaml", theirs, picker)
    running = await start(tmp_path)
    assert (await running.report())["problems"] == []
    for _ in range(24):
        assert (await running.chat("base")).status == 200
    copied = await until_copied(running, 24)
    assert sum(copied.values()) == 24
    assert min(copied.values()) >= 3, copied
