"""The top-level model of the body selects the route, whichever way Envoy finds it."""

from pathlib import Path

from running import Start


async def test_the_model_in_the_body_selects_the_pool(model_routing: Path, start: Start, finder: str) -> None:
    gateway = await start(model_routing, finder=finder)
    for model, pool in (("qwen", "default/qwen-pool"), ("deepseek-r1", "default/deepseek-pool")):
        response = await gateway.chat(model)
        assert response.status == 200, await response.text()
        assert f"default/{response.headers['x-simulated-pod']}" in await gateway.pods(pool)
