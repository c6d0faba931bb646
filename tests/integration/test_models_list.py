"""GET /v1/models: what is declared, and what the servers say that they serve, adapters included."""

import os
import signal
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import kinds
from running import Running, Start, until

FLAGS = "--served-model-name base --enable-lora --lora-modules travel=/adapters/travel"


def write(folder: Path) -> None:
    kinds.write(folder / "gateway.yaml", kinds.gateway_class(), kinds.gateway())
    servers = kinds.deployment("chat", FLAGS, replicas=2)
    (container,) = servers["spec"]["template"]["spec"]["containers"]
    container["env"] = [{"name": "VLLM_ALLOW_RUNTIME_LORA_UPDATING", "value": "true"}]
    kinds.write(folder / "servers.yaml", servers, kinds.deployment("other", "--served-model-name other"))
    closed = kinds.pool("closed", "chat")
    closed = {**closed, "metadata": {**closed["metadata"], "annotations": {"pointsman.dev/unlisted-models": "refuse"}}}
    kinds.write(folder / "pools.yaml", kinds.pool("chat", "chat"), kinds.pool("other", "other"), closed)
    kinds.write(folder / "models.yaml", kinds.model("alias", "chat", {"base": 1}), kinds.model("base", "closed"))
    expression = {"name": kinds.MODEL_HEADER, "type": "RegularExpression", "value": "trav.*|alias"}
    routes = {
        "open": [kinds.rule(kinds.to_pool("chat"), kinds.to_pool("other"))],
        "exact": [kinds.rule(kinds.to_pool("chat"), model="base")],
        "regex": [{"matches": [{"headers": [expression]}], "backendRefs": [kinds.to_pool("chat")]}],
        "closed": [kinds.rule(kinds.to_pool("closed"))],
        "bare": [kinds.rule(kinds.to_pool("other"))],
    }
    made = [kinds.route(name, *rules, hostnames=[f"{name}.example.com"]) for name, rules in routes.items()]
    kinds.write(folder / "routes.yaml", *made)


async def models(running: Running, host: str) -> list[str]:
    headers = {"host": f"{host}.example.com"}
    async with running.session.get(f"{running.url}/v1/models", headers=headers) as response:
        if response.status != 200:
            return [str(response.status)]
        assert response.headers["content-type"] == "application/json"
        found = await response.json()
        assert found["object"] == "list"
        assert all(card["object"] == "model" and card["owned_by"] == "pointsman" for card in found["data"])
        return [card["id"] for card in found["data"]]


async def listed(running: Running, host: str, wanted: Sequence[str]) -> None:
    async def as_wanted() -> bool:
        return await models(running, host) == list(wanted)

    await until(as_wanted, 15)


async def test_models_are_listed_by_what_can_be_asked_for(start: Start, tmp_path: Path) -> None:
    write(tmp_path)
    running = await start(tmp_path)
    await listed(running, "open", ["alias", "base", "other", "travel"])
    # Each of them answers.
    for model in await models(running, "open"):
        body = {"model": model, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}
        headers = {"host": "open.example.com"}
        async with running.session.post(f"{running.url}/v1/chat/completions", json=body, headers=headers) as response:
            # Half of the requests for what one pool serves go to the other one.
            assert response.status in {200, 404}, await response.text()
    await listed(running, "exact", ["base"])
    await listed(running, "regex", ["alias", "travel"])
    await listed(running, "closed", ["base"])
    await listed(running, "bare", ["other"])

    # Adapters come and go while the servers run.
    addresses = list((await running.pods("default/chat")).values())
    body = {"lora_name": "trade", "lora_path": "/adapters/trade"}
    async with running.session.post(f"http://{addresses[0]}/v1/load_lora_adapter", json=body) as response:
        assert response.status == 200
    await listed(running, "open", ["alias", "base", "other", "trade", "travel"])
    for address in addresses:
        for adapter in ("travel", "trade"):
            await running.session.post(f"http://{address}/v1/unload_lora_adapter", json={"lora_name": adapter})
    await listed(running, "open", ["alias", "base", "other"])
    await listed(running, "regex", ["alias"])

    # Without the picker what is declared is listed; where nothing is, an empty list would be wrong.
    os.kill(running.installation.pids()["picker"], signal.SIGSTOP)
    try:
        assert await models(running, "open") == ["alias"]
        assert await models(running, "exact") == ["base"]
        assert (await models(running, "bare"))[0] in {"503", "504"}
    finally:
        os.kill(running.installation.pids()["picker"], signal.SIGCONT)
    await until(partial(has, running, "bare", "other"), 15)


async def has(running: Running, host: str, model: str) -> bool:
    return model in await models(running, host)
