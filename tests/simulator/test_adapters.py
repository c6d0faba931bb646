from collections.abc import Awaitable, Callable

import msgspec
import pytest
from aiohttp import ClientSession

from simulator import ModelServer, Timing
from simulator.commands import Launch, find_server

Start = Callable[..., Awaitable[ModelServer]]
LORA = "--enable-lora --max-loras 2 --lora-modules first=/lora/first"
UPDATING = {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "true"}


async def ask(client: ClientSession, server: ModelServer, path: str, body: object) -> tuple[int, str]:
    async with client.post(server.site.url + path, json=body) as response:
        text = await response.text()
    return response.status, msgspec.json.decode(text)["error"]["message"] if text.startswith("{") else text


async def load(client: ClientSession, server: ModelServer, name: str, path: str, **more: object) -> tuple[int, str]:
    return await ask(client, server, "/v1/load_lora_adapter", {"lora_name": name, "lora_path": path, **more})


async def unload(client: ClientSession, server: ModelServer, name: str) -> tuple[int, str]:
    return await ask(client, server, "/v1/unload_lora_adapter", {"lora_name": name})


async def listed(client: ClientSession, server: ModelServer) -> dict[str, str]:
    async with client.get(server.site.url + "/v1/models") as response:
        return {card["id"]: card["root"] for card in (await response.json())["data"] if card["parent"] == "m"}


async def complete(client: ClientSession, server: ModelServer, model: str) -> int:
    body = {"model": model, "prompt": "hello", "max_tokens": 2}
    async with client.post(server.site.url + "/v1/completions", json=body) as response:
        return response.status


async def test_adapters_come_and_go(start: Start, client: ClientSession) -> None:
    server = await start(LORA, **UPDATING)
    assert await complete(client, server, "second") == 404
    assert await load(client, server, "second", "org/second", base_model_name="m") == (
        200,
        "Success: LoRA adapter 'second' added successfully.",
    )
    assert await complete(client, server, "second") == 200
    assert await listed(client, server) == {"first": "/lora/first", "second": "org/second"}
    assert await unload(client, server, "first") == (200, "Success: LoRA adapter 'first' removed successfully.")
    assert await complete(client, server, "first") == 404
    assert await listed(client, server) == {"second": "org/second"}
    async with client.get(server.site.url + "/metrics") as response:
        assert 'running_lora_adapters="second"' in await response.text()


async def test_an_adapter_is_replaced_in_place(start: Start, client: ClientSession) -> None:
    server = await start(LORA, **UPDATING)
    status, message = await load(client, server, "first", "/lora/other")
    assert (status, message.startswith("The lora adapter 'first' has already been loaded.")) == (400, True)
    assert (await load(client, server, "first", "/lora/other", load_inplace=True))[0] == 200
    assert await listed(client, server) == {"first": "/lora/other"}


async def test_refusals(start: Start, client: ClientSession) -> None:
    server = await start(LORA, **UPDATING)
    assert await unload(client, server, "x") == (404, "The lora adapter 'x' cannot be found.")
    assert (await unload(client, server, ""))[0] == 400
    assert await load(client, server, "", "/a") == (400, "Both 'lora_name' and 'lora_path' must be provided.")
    assert await load(client, server, "x", "/absent") == (404, "Loading lora x failed: No adapter found for /absent")
    assert (await ask(client, server, "/v1/load_lora_adapter", {"lora_name": "x"}))[0] == 400
    assert await listed(client, server) == {"first": "/lora/first"}


async def test_only_where_the_environment_and_the_flag_allow_it(start: Start, client: ClientSession) -> None:
    assert await load(client, await start(LORA), "x", "/x") == (404, "Not Found")
    assert await load(client, await start(**UPDATING), "x", "/x") == (500, "LoRA is not enabled.")


async def test_what_is_under_way_is_finished(start: Start, client: ClientSession) -> None:
    server = await start(LORA, Timing(prefill=1e-7, decode=0.01), **UPDATING)
    body = {"model": "first", "prompt": "hello", "max_tokens": 5, "stream": True}
    async with client.post(server.site.url + "/v1/completions", json=body) as response:
        await unload(client, server, "first")
        assert (await response.read()).endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize(
    "launch",
    [
        Launch("c", command=("vllm", "serve", "m"), env=tuple(UPDATING.items())),
        Launch("c", command=("sh", "-c", "VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 vllm serve m")),
        Launch("c", command=("env", "VLLM_ALLOW_RUNTIME_LORA_UPDATING=True", "vllm", "serve", "m")),
    ],
)
def test_ways_to_allow_it(launch: Launch) -> None:
    spec = find_server(launch)
    assert spec is not None
    assert spec.adapters_at_run_time
