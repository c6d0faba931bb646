import asyncio
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from io import BytesIO

import msgspec
import pytest
from aiohttp import ClientSession

from simulator import ModelServer, Timing

Start = Callable[..., Awaitable[ModelServer]]

# A second token is an hour away: an answer is under way until somebody acts.
ENDLESS = Timing(prefill=1e-7, decode=3600.0)
CHAT: dict[str, object] = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.001)


async def test_chat(start: Start, client: ClientSession) -> None:
    server = await start()
    async with client.post(server.site.url + "/v1/chat/completions", json=CHAT | {"max_tokens": 3}) as response:
        answer = await response.json()
    assert response.status == HTTPStatus.OK
    assert response.headers["x-simulated-pod"] == "m-0"
    assert (answer["object"], answer["model"]) == ("chat.completion", "m")
    assert answer["choices"][0]["message"]["content"] == " the and all"
    assert answer["choices"][0]["finish_reason"] == "length"
    # <|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n are 56 bytes.
    assert answer["usage"]["prompt_tokens"] == 14
    assert answer["usage"]["completion_tokens"] == 3


async def test_an_answer_without_a_limit_ends_by_itself(start: Start, client: ClientSession) -> None:
    server = await start(timing=Timing(prefill=0, decode=1e-4, answer_tokens=5))
    address = server.site.url + "/v1/chat/completions"
    async with client.post(address, json=CHAT) as response:
        answer = await response.json()
    assert (answer["choices"][0]["finish_reason"], answer["usage"]["completion_tokens"]) == ("stop", 5)
    async with client.post(address, json=CHAT | {"max_tokens": 9, "ignore_eos": True}) as response:
        answer = await response.json()
    assert (answer["choices"][0]["finish_reason"], answer["usage"]["completion_tokens"]) == ("length", 9)


async def test_a_prompt_is_rendered_as_token_ids(start: Start, client: ClientSession) -> None:
    server = await start()
    async with client.post(server.site.url + "/v1/chat/completions/render", json=CHAT) as response:
        rendered = await response.json()
    assert len(rendered["token_ids"]) == 14
    again = {"model": "m", "prompt": rendered["token_ids"], "max_tokens": 1}
    async with client.post(server.site.url + "/v1/completions/render", json=again) as response:
        assert (await response.json())[0]["token_ids"] == rendered["token_ids"]
    async with client.post(server.site.url + "/v1/completions", json=again) as response:
        assert (await response.json())["usage"]["prompt_tokens"] == 14
    async with client.post(server.site.url + "/v1/chat/completions/render", json=CHAT | {"model": "no"}) as response:
        assert response.status == HTTPStatus.NOT_FOUND


async def test_a_chat_is_streamed_token_by_token(start: Start, client: ClientSession) -> None:
    server = await start()
    options = {"stream": True, "max_tokens": 3, "stream_options": {"include_usage": True}}
    async with client.post(server.site.url + "/v1/chat/completions", json=CHAT | options) as response:
        text = await response.text()
    assert response.content_type == "text/event-stream"
    events = [event.removeprefix("data: ") for event in text.split("\n\n")]
    assert events[-2:] == ["[DONE]", ""]
    chunks = [msgspec.json.decode(event) for event in events[:-2]]
    assert [chunk["choices"][0]["delta"] for chunk in chunks[:-1]] == [
        {"role": "assistant", "content": ""},
        {"content": " the"},
        {"content": " and"},
        {"content": " all"},
    ]
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks[:-1]] == [None, None, None, "length"]
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["completion_tokens"] == 3
    assert {(chunk["model"], chunk["object"]) for chunk in chunks} == {("m", "chat.completion.chunk")}


async def test_headers_and_first_token_come_before_the_rest(start: Start, client: ClientSession) -> None:
    server = await start(timing=ENDLESS)
    async with client.post(server.site.url + "/v1/chat/completions", json=CHAT | {"stream": True}) as response:
        seen = b""
        while b" the" not in seen:
            seen += await response.content.readany()
        assert server.driver.engine.running == 1


async def test_completions_take_text_and_token_ids(start: Start, client: ClientSession) -> None:
    server = await start()
    address = server.site.url + "/v1/completions"
    for prompt in ("abcdefgh", ["abcdefgh"], [1, 2], [[1, 2]]):
        async with client.post(address, json={"model": "m", "prompt": prompt}) as response:
            answer = await response.json()
        assert answer["usage"]["prompt_tokens"] == 2
        assert answer["usage"]["completion_tokens"] == 16
        assert answer["choices"][0]["text"].startswith(" the and")
    async with client.post(address, json={"model": "m", "prompt": "a", "stream": True, "max_tokens": 1}) as response:
        first = msgspec.json.decode((await response.text()).split("\n\n")[0].removeprefix("data: "))
    assert first["choices"] == [
        {"index": 0, "text": " the", "logprobs": None, "finish_reason": "length", "stop_reason": None},
    ]


async def test_adapters_are_models_and_share_no_cache(start: Start, client: ClientSession) -> None:
    server = await start("--enable-lora --lora-modules l=/lora/l")
    body = {"messages": [{"role": "user", "content": "x" * 1000}], "max_tokens": 1}
    cached = []
    for model in ("m", "l", "l", "m"):
        async with client.post(server.site.url + "/v1/chat/completions", json=body | {"model": model}) as response:
            answer = await response.json()
        assert answer["model"] == model
        cached.append(answer["usage"]["prompt_tokens_details"]["cached_tokens"] > 0)
    assert cached == [False, False, True, True]


async def test_models(start: Start, client: ClientSession) -> None:
    server = await start("--enable-lora --lora-modules l=/lora/l --max-model-len 100")
    async with client.get(server.site.url + "/v1/models") as response:
        models = (await response.json())["data"]
    assert [(card["id"], card["root"], card["parent"], card["max_model_len"]) for card in models] == [
        ("m", "/models/m", None, 100),
        ("l", "/lora/l", "m", None),
    ]


@pytest.mark.parametrize(
    ("request_", "refusal"),
    [
        (("/v1/chat/completions", CHAT | {"model": "x"}), (404, "The model `x` does not exist.", "NotFoundError")),
        (("/v1/chat/completions", b"{"), (400, "Input data was truncated", "Bad Request")),
        (("/v1/chat/completions", b'{"model": "m"}'), (400, "missing required field `messages`", "Bad Request")),
        (("/v1/chat/completions", CHAT | {"model": 3}), (400, "Expected `str | null`, got `int` - at `$.model`", "")),
        (("/v1/chat/completions", CHAT | {"max_tokens": 0}), (400, "max_tokens must be at least 1, got 0.", "")),
        (("/v1/chat/completions", CHAT | {"n": 2}), (400, "n must be 1", "")),
        (("/v1/chat/completions", CHAT | {"messages": []}), (400, "The prompt is empty.", "")),
        (("/v1/chat/completions", CHAT | {"max_tokens": 87}), (400, "maximum context length is 100 tokens", "")),
        (("/v1/completions", {"model": "m", "prompt": "x" * 400, "max_tokens": 1}), (400, "a total of 101 tokens", "")),
        (("/v1/completions", {"model": "m", "prompt": ["a", "b"]}), (400, "one prompt a request", "")),
        (("/v1/completions", {"model": "m", "prompt": [-1]}), (400, "out of the vocabulary", "")),
        (("/nowhere", {}), (404, "Not Found", "NotFoundError")),
        (("/metrics", {}), (405, "Method Not Allowed", "MethodNotAllowedError")),
    ],
)
async def test_refusals(
    start: Start,
    client: ClientSession,
    request_: tuple[str, bytes | dict[str, object]],
    refusal: tuple[int, str, str],
) -> None:
    (path, body), (status, message, kind) = request_, refusal
    server = await start("--max-model-len 100")
    data = body if isinstance(body, bytes) else msgspec.json.encode(body)
    async with client.post(server.site.url + path, data=data, headers={"content-type": "application/json"}) as response:
        error = (await response.json())["error"]
    assert response.status == status
    assert response.headers["x-simulated-pod"] == "m-0"
    assert message in error["message"]
    assert error["type"] == kind or (not kind and error["type"] in {"Bad Request", "BadRequestError"})
    assert error["code"] == status


async def test_only_json_is_read(start: Start, client: ClientSession) -> None:
    server = await start()
    async with client.post(server.site.url + "/v1/completions", data=b"{}") as response:
        assert response.status == HTTPStatus.BAD_REQUEST


async def test_a_body_of_64_mib_passes_and_no_more(start: Start, client: ClientSession) -> None:
    server = await start("--max-model-len 100")
    address = server.site.url + "/v1/completions"
    for excess, status in ((0, HTTPStatus.BAD_REQUEST), (1, HTTPStatus.REQUEST_ENTITY_TOO_LARGE)):
        body = b'{"prompt": "' + b"x" * (64 * 2**20 - 14 + excess) + b'"}'
        headers = {"content-type": "application/json"}
        async with client.post(address, data=BytesIO(body), headers=headers) as response:
            assert response.status == status
            assert response.status != HTTPStatus.BAD_REQUEST or "maximum context length" in await response.text()


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_leaves_takes_its_request_along(start: Start, client: ClientSession, stream: bool) -> None:  # noqa: FBT001
    server = await start(timing=ENDLESS)
    address = server.site.url + "/v1/chat/completions"
    asking = asyncio.create_task(client.post(address, json=CHAT | {"stream": stream}))
    await eventually(lambda: server.driver.engine.running == 1)
    if asking.done():
        (await asking).close()
    else:
        asking.cancel()
    await eventually(lambda: server.driver.engine.running == 0)
    assert server.driver.engine.cache.used == 0


async def test_beyond_the_batch_limit_requests_wait_in_the_metrics(start: Start, client: ClientSession) -> None:
    server = await start("--max-num-seqs 1", timing=ENDLESS)
    asking = [asyncio.create_task(client.post(server.site.url + "/v1/chat/completions", json=CHAT)) for _ in range(3)]
    await eventually(lambda: server.driver.engine.waiting == 2)
    async with client.get(server.site.url + "/metrics") as response:
        text = await response.text()
    assert 'vllm:num_requests_running{engine="0",model_name="m"} 1.0\n' in text
    assert 'vllm:num_requests_waiting{engine="0",model_name="m"} 2.0\n' in text
    for task in asking:
        task.cancel()


async def test_stopping_finishes_what_is_under_way(start: Start, client: ClientSession) -> None:
    server = await start(timing=Timing(prefill=0, decode=0.02, answer_tokens=5))
    asking = asyncio.create_task(client.post(server.site.url + "/v1/chat/completions", json=CHAT))
    await eventually(lambda: server.driver.engine.running == 1)
    await server.stop(5.0)
    async with await asking as response:
        assert (await response.json())["usage"]["completion_tokens"] == 5
