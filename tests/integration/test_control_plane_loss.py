"""Without the control plane Envoy serves on as it was told; what was changed meanwhile holds when it is back."""

import asyncio
import os
import signal
from functools import partial
from pathlib import Path

import kinds
from load import Question, ask, load
from running import Running, Start, until


async def test_envoy_serves_on_and_changes_flow_again(start: Start, tmp_path: Path) -> None:
    kinds.write(tmp_path / "gateway.yaml", kinds.gateway_class(), kinds.gateway())
    kinds.write(tmp_path / "servers.yaml", kinds.deployment("chat", "--served-model-name first second", replicas=2))
    kinds.write(tmp_path / "pool.yaml", kinds.pool("chat", "chat"))
    write_route(tmp_path, "first")
    running = await start(tmp_path)
    questions = [Question("first"), Question("first", padding=200_000), Question("first", stream=True, tokens=50)]
    async with load(running, *questions * 2) as clients:
        await clients.more(20)
        envoy, before = (running.installation.pids()[name] for name in ("envoy", "control-plane"))
        os.kill(before, signal.SIGKILL)
        write_route(tmp_path, "first", "second")
        await clients.more(20)
        assert await status_of(running, "second") == 404
        await until(partial(is_back, running, before), 30)
        await until(partial(is_served, running, "second"), 10)
        write_route(tmp_path, "first")
        await until(partial(is_gone, running, "second"), 1)
        await clients.more(20)
        assert running.installation.pids()["envoy"] == envoy
    assert not clients.bad, clients.bad[:3]
    assert "control-plane ended (signal 9), restarted in 0.1 s" in running.said


def write_route(folder: Path, *models: str) -> None:
    rules = [kinds.rule(kinds.to_pool("chat"), model=name) for name in models]
    kinds.write(folder / "route.yaml", kinds.route("models", *rules))


async def status_of(running: Running, model: str) -> int:
    return (await ask(running.session, running.url, Question(model))).status


async def is_served(running: Running, model: str) -> bool:
    return await status_of(running, model) == 200


async def is_gone(running: Running, model: str) -> bool:
    return await status_of(running, model) == 404


async def is_back(running: Running, before: int) -> bool:
    """Whether another control plane than the one before answers."""
    return running.installation.pids().get("control-plane", before) != before and (
        await asyncio.wait_for(running.installation.report(), 5) is not None
    )
