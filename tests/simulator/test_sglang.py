import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from http import HTTPStatus

import pytest
from aiohttp import ClientConnectorError, ClientSession
from prometheus_client.parser import text_string_to_metric_families

from resources import Upsert, World, decode
from simulator import Mode, ModelServer, Site, Timing, plan
from simulator.commands import Launch, find_server
from simulator.rooms import Rooms
from simulator.spec import CommandError, Disaggregation, LoraModule, Role, ServerSpec

Start = Callable[..., Awaitable[ModelServer]]
LAUNCH = "python3 -m sglang.launch_server --model-path /models/m --served-model-name m "


def launch(flags: str = "", **env: str) -> ServerSpec:
    spec = find_server(Launch("server", command=("sh", "-c", LAUNCH + flags), env=tuple(env.items())))
    assert spec is not None
    return spec


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Start servers that share their rooms, on addresses of their own."""
    rooms = Rooms(lost_after=0.05)
    async with AsyncExitStack() as stack:

        async def start_one(flags: str = "", timing: Timing | None = None, **env: str) -> ModelServer:
            spec = launch(flags, **env)
            server = ModelServer(
                Site("m-0", "127.0.0.1", 0), spec, timing or Timing(prefill=1e-7, decode=1e-3), rooms=rooms
            )
            await server.start()
            stack.push_async_callback(server.stop, 0.01)
            return server

        yield start_one


async def ask(client: ClientSession, server: ModelServer, **fields: object) -> tuple[int, dict[str, object]]:
    body = {"model": "m", "prompt": "x" * 400, "max_tokens": 3, **fields}
    async with client.post(server.site.url + "/v1/completions", json=body) as response:
        answer: dict[str, object] = await response.json()
        return response.status, answer


async def metrics(client: ClientSession, server: ModelServer) -> dict[str, float]:
    async with client.get(server.site.url + "/metrics") as response:
        families = text_string_to_metric_families(await response.text())
        return {sample.name: sample.value for family in families for sample in family.samples}


def test_defaults() -> None:
    spec = launch("--enable-metrics")
    assert (spec.dialect, spec.model, spec.served_names, spec.port) == ("sglang", "/models/m", ("m",), 30_000)
    assert (spec.max_num_seqs, spec.prefix_caching, spec.disaggregation, spec.remarks) == (2048, True, None, ())


def test_flags() -> None:
    spec = launch(
        "--port 8000 --tp 4 --context-length=8192 --max_running_requests 64 --mem-frac 0.5 --disable-radix-cache "
        "--chunked-prefill-size -1 --trust-remote-code --host 0.0.0.0 --lora-paths a=/lora/a b --max-loras-per 2",
    )
    assert (spec.port, spec.max_model_len, spec.max_num_seqs, spec.prefix_caching) == (8000, 8192, 64, False)
    assert (spec.block_size * spec.num_blocks, spec.max_batched_tokens) == (200_000, 16_384)
    assert (spec.lora_enabled, spec.max_loras) == (True, 2)
    assert spec.lora_modules == (LoraModule("a", "/lora/a"), LoraModule("b", "b"))


def test_prefill_and_decode_apart() -> None:
    flags = "--disaggregation-mode prefill --disaggregation-bootstrap-port 34000 --disaggregation-ib-device mlx5_0"
    assert launch(flags).disaggregation == Disaggregation(Role.PREFILL, 34_000, 300.0)
    patience = {"SGLANG_DISAGGREGATION_BOOTSTRAP_TIMEOUT": "4", "SGLANG_DISAGGREGATION_WAITING_TIMEOUT": "5"}
    for role, seconds in ((Role.PREFILL, 4.0), (Role.DECODE, 5.0)):
        spec = launch(f"--disaggregation-mode={role.value}", **patience)
        assert spec.disaggregation == Disaggregation(role, 8998, seconds)
    assert launch("--disaggregation-mode null").disaggregation is None


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--disaggregation-mode both", "--disaggregation-mode: expected null, prefill or decode, got 'both'"),
        ("--port x", "--port: expected a positive whole number"),
        ("--mem-fraction-static 2", "--mem-fraction-static: expected a number above 0"),
        ("--max-r", "--max-running-requests: expected an argument"),
        ("--disaggregation 1", "--disaggregation: ambiguous, could be --disaggregation-bootstrap-port"),
    ],
)
def test_mistakes(flags: str, message: str) -> None:
    with pytest.raises(CommandError, match=message):
        launch(flags)


def test_metrics_that_were_not_asked_for_are_remarked_on() -> None:
    container = {"name": "server", "command": LAUNCH.split()}
    document = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": [container]}}
    pod = decode(document).object
    assert pod is not None
    (notice,) = plan(World().apply([Upsert(pod)])).notices
    assert notice.startswith("Pod default/p: SGLang shows metrics only with --enable-metrics")


async def test_answers(start: Start, client: ClientSession) -> None:
    server = await start("--lora-paths a=/lora/a")
    for model in ("m", "anything", "a", "m:a"):
        status, answer = await ask(client, server, model=model)
        assert (status, answer["model"]) == (HTTPStatus.OK, model)
    for path in ("/health", "/health_generate"):
        async with client.get(server.site.url + path) as response:
            assert response.status == HTTPStatus.OK
    async with client.get(server.site.url + "/get_model_info") as response:
        assert (await response.json())["model_path"] == "/models/m"
    async with client.get(server.site.url + "/v1/models") as response:
        cards = (await response.json())["data"]
    assert [(card["id"], card["owned_by"]) for card in cards] == [("m", "sglang"), ("a", "sglang")]


async def test_refusals_are_flat(start: Start, client: ClientSession) -> None:
    status, answer = await ask(client, await start("--context-length 50"))
    assert (status, answer["object"], answer["type"], answer["code"]) == (400, "error", "BadRequestError", 400)


async def test_metrics(start: Start, client: ClientSession) -> None:
    server = await start()
    await ask(client, server)
    await ask(client, server)
    values = await metrics(client, server)
    assert values["sglang:num_running_reqs"] == values["sglang:num_queue_reqs"] == values["sglang:token_usage"] == 0
    assert values["sglang:cache_hit_rate"] == 0.48
    assert values["sglang:generation_tokens_total"] == 6
    assert values["sglang:time_to_first_token_seconds_count"] == 2


async def test_load_shows_in_the_metrics(start: Start, client: ClientSession) -> None:
    server = await start("--max-running-requests 1", Timing(prefill=1e-7, decode=3600.0))
    asking = [asyncio.create_task(ask(client, server)) for _ in range(3)]
    async with asyncio.timeout(5):
        while (values := await metrics(client, server))["sglang:num_queue_reqs"] != 2:
            await asyncio.sleep(0.001)
    assert values["sglang:num_running_reqs"] == 1
    assert values["sglang:token_usage"] > 0
    for task in asking:
        task.cancel()


ROOM: dict[str, object] = {"bootstrap_host": "127.0.0.1", "bootstrap_port": 34000, "bootstrap_room": 7}


class TestApart:
    PREFILL = "--disaggregation-mode prefill --disaggregation-bootstrap-port 34000"
    DECODE = "--disaggregation-mode decode"

    @pytest.mark.parametrize("stream", [False, True])
    @pytest.mark.parametrize("decode_first", [False, True])
    async def test_one_prefills_and_the_other_decodes(
        self,
        start: Start,
        client: ClientSession,
        decode_first: bool,  # noqa: FBT001
        stream: bool,  # noqa: FBT001
    ) -> None:
        prefill, decode_ = await start(self.PREFILL), await start(self.DECODE)
        body = {"model": "m", "prompt": "x" * 400, "max_tokens": 5, "stream": stream, **ROOM}
        servers = (decode_, prefill) if decode_first else (prefill, decode_)
        tasks = [asyncio.create_task(client.post(one.site.url + "/v1/completions", json=body)) for one in servers]
        responses = [await task for task in tasks]
        assert [response.status for response in responses] == [HTTPStatus.OK, HTTPStatus.OK]
        for response in responses:
            await response.read()
        assert prefill.driver.engine.counts.generated == 1
        assert prefill.driver.engine.counts.prompt == 100
        assert decode_.driver.engine.counts.generated == 5
        # What the other has computed is no hit of one's own cache.
        assert decode_.driver.engine.counts.queried == 0
        values = await metrics(client, decode_)
        assert values["sglang:num_decode_transfer_queue_reqs"] == 0

    async def test_each_waits_for_the_other(self, start: Start, client: ClientSession) -> None:
        prefill, decode_ = await start(self.PREFILL), await start(self.DECODE)
        first = asyncio.create_task(ask(client, prefill, **ROOM))
        await until(client, prefill, "sglang:num_prefill_bootstrap_queue_reqs")
        assert prefill.driver.engine.running == 0
        assert (await ask(client, decode_, **ROOM))[0] == HTTPStatus.OK
        assert (await first)[0] == HTTPStatus.OK

    @pytest.mark.parametrize("flags", [PREFILL, DECODE])
    async def test_without_a_room_there_is_no_answer(self, start: Start, client: ClientSession, flags: str) -> None:
        status, answer = await ask(client, await start(flags))
        assert status == HTTPStatus.BAD_REQUEST
        assert "without bootstrap room id" in str(answer["message"])

    async def test_no_prefill_server_at_the_address(self, start: Start, client: ClientSession) -> None:
        prefill, decode_ = await start(self.PREFILL), await start(self.DECODE)
        for room in ({"bootstrap_port": 34001}, {"bootstrap_host": "127.0.0.2"}, {"bootstrap_port": None}):
            status, answer = await ask(client, decode_, **ROOM | room)
            assert status == HTTPStatus.INTERNAL_SERVER_ERROR
            assert "Could not fetch prefill parallel info" in str(answer["message"])
        await prefill.switch(Mode.REFUSE)
        assert (await ask(client, decode_, **ROOM))[0] == HTTPStatus.INTERNAL_SERVER_ERROR

    async def test_a_prefill_server_that_is_not_asked_is_not_waited_for_for_ever(
        self,
        start: Start,
        client: ClientSession,
    ) -> None:
        await start(self.PREFILL)
        decode_ = await start(self.DECODE, SGLANG_DISAGGREGATION_WAITING_TIMEOUT="0")
        status, answer = await ask(client, decode_, **ROOM, stream=True)
        assert status == HTTPStatus.INTERNAL_SERVER_ERROR
        assert "Decode transfer failed" in str(answer["message"])

    async def test_a_prefill_that_is_given_up_fails_the_decode(self, start: Start, client: ClientSession) -> None:
        prefill = await start(self.PREFILL, Timing(prefill=3600.0))
        decode_ = await start(self.DECODE)
        first = asyncio.create_task(ask(client, prefill, **ROOM))
        second = asyncio.create_task(ask(client, decode_, **ROOM))
        async with asyncio.timeout(5):
            while not prefill.driver.engine.running:
                await asyncio.sleep(0.001)
        first.cancel()
        status, answer = await second
        assert (status, "gave up" in str(answer["message"])) == (HTTPStatus.INTERNAL_SERVER_ERROR, True)

    async def test_a_prefill_server_that_is_gone_fails_what_waits_for_it(
        self, start: Start, client: ClientSession
    ) -> None:
        prefill, decode_ = await start(self.PREFILL), await start(self.DECODE)
        waiting = asyncio.create_task(ask(client, decode_, **ROOM))
        await until(client, decode_, "sglang:num_decode_transfer_queue_reqs")
        await prefill.switch(Mode.REFUSE)
        status, answer = await waiting
        assert status == HTTPStatus.INTERNAL_SERVER_ERROR
        assert "Lost connection with prefill instance (bootstrap_addr: 127.0.0.1:34000)" in str(answer["message"])

    async def test_a_prefill_server_that_is_soon_back_is_waited_for(self, start: Start, client: ClientSession) -> None:
        prefill, decode_ = await start(self.PREFILL), await start(self.DECODE)
        waiting = asyncio.create_task(ask(client, decode_, **ROOM))
        await until(client, decode_, "sglang:num_decode_transfer_queue_reqs")
        await prefill.switch(Mode.REFUSE)
        await prefill.switch(Mode.NONE)
        await asyncio.sleep(0.1)
        assert (await ask(client, prefill, **ROOM))[0] == HTTPStatus.OK
        assert (await waiting)[0] == HTTPStatus.OK

    async def test_a_prefill_server_that_ends_is_met_for_what_it_has(self, start: Start, client: ClientSession) -> None:
        prefill, decode_ = await start(self.PREFILL), await start(self.DECODE)
        waiting = asyncio.create_task(ask(client, prefill, **ROOM))
        await until(client, prefill, "sglang:num_prefill_bootstrap_queue_reqs")
        ending = asyncio.create_task(prefill.stop(30.0))
        with pytest.raises(ClientConnectorError):
            await healthy(client, prefill)
        assert (await ask(client, decode_, **ROOM))[0] == HTTPStatus.OK
        assert (await waiting)[0] == HTTPStatus.OK
        await ending
        assert (await ask(client, decode_, **ROOM))[0] == HTTPStatus.INTERNAL_SERVER_ERROR


async def until(client: ClientSession, server: ModelServer, metric: str) -> None:
    """Wait until a gauge is 1."""
    async with asyncio.timeout(5):
        while (await metrics(client, server))[metric] != 1:
            await asyncio.sleep(0.001)


async def healthy(client: ClientSession, server: ModelServer) -> None:
    """Ask for a server's health until it refuses connections."""
    async with asyncio.timeout(5):
        while True:
            async with client.get(server.site.url + "/health") as response:
                assert response.status == HTTPStatus.OK
            await asyncio.sleep(0.001)
