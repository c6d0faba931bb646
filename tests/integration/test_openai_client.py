"""The official client, unmodified, with a gateway between it and the model servers."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import pytest
from openai import (
    APIStatusError,
    AsyncOpenAI,
    BadRequestError,
    InternalServerError,
    NotFoundError,
    OpenAI,
)
from openai.types.chat import ChatCompletionUserMessageParam
from shop import LIMIT, Shop

pytestmark = pytest.mark.asyncio(loop_scope="session")

HELLO: list[ChatCompletionUserMessageParam] = [{"role": "user", "content": "hello"}]


@asynccontextmanager
async def client(shop: Shop, host: str = "models.example") -> AsyncIterator[AsyncOpenAI]:
    headers = {"host": host}
    async with AsyncOpenAI(base_url=shop.url + "/v1", api_key="none", max_retries=0, default_headers=headers) as openai:
        yield openai


@contextmanager
def refused(kind: type[APIStatusError], status: int, message: str) -> Iterator[None]:
    with pytest.raises(kind, match=message) as caught:
        yield
    assert caught.value.status_code == status


async def test_chat(shop: Shop) -> None:
    async with client(shop) as openai:
        answer = await openai.chat.completions.create(model="alpha", messages=HELLO, max_tokens=3)
        assert answer.model == "alpha"
        assert answer.choices[0].message.content == " the and all"
        assert answer.usage is not None
        assert answer.usage.completion_tokens == 3
        adapter = await openai.chat.completions.create(model="alpha-v1", messages=HELLO, max_tokens=3)
        assert adapter.model == "alpha-v1"


async def test_completions(shop: Shop) -> None:
    async with client(shop) as openai:
        answer = await openai.completions.create(model="beta", prompt="hi", max_tokens=2)
        assert (answer.model, answer.choices[0].text) == ("beta", " the and")


async def test_streaming(shop: Shop) -> None:
    async with client(shop) as openai:
        chat = await openai.chat.completions.create(
            model="beta", messages=HELLO, max_tokens=3, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in chat]
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == " the and all"
        assert chunks[-1].usage is not None
        assert {chunk.model for chunk in chunks} == {"beta"}
        text = await openai.completions.create(model="travel", prompt="hi", max_tokens=2, stream=True)
        assert [chunk.choices[0].text async for chunk in text] == [" the", " and"]


async def test_the_synchronous_client_by_name(shop: Shop) -> None:
    def ask() -> list[str]:
        url = f"http://localhost:{shop.running.port}/v1"
        with OpenAI(base_url=url, api_key="none", max_retries=0) as openai:
            stream = openai.chat.completions.create(model="beta", messages=HELLO, max_tokens=2, stream=True)
            return [chunk.choices[0].delta.content or "" for chunk in stream]

    assert "".join(await asyncio.to_thread(ask)) == " the and"


@pytest.mark.parametrize(
    ("host", "models"),
    [
        (
            "models.example",
            "alpha alpha-v1 beta quick renamed served-by-a-service shortened slow travel witness",
        ),
        ("first.example", "shared"),
        ("path.example", "renamed shortened"),
        # The simulated server's own list, by way of a Service.
        ("keeps.example", "alpha shared alpha-v1 alpha-v2"),
        ("services.example", "slow"),
    ],
)
async def test_listing_models(shop: Shop, host: str, models: str) -> None:
    async with client(shop, host) as openai:
        listed = [model async for model in openai.models.list()]
    assert [model.id for model in listed] == models.split()
    kept = host in {"keeps.example", "services.example"}
    assert {(model.object, model.owned_by) for model in listed} == {("model", "vllm" if kept else "pointsman")}


async def test_a_rule_to_a_service_keeps_the_list(shop: Shop) -> None:
    for host in ("apart.example", "beside.example"):
        seen = (await shop.send(host=host, path="/v1/models", method="GET")).testimony
        assert seen.path == "/v1/models"
    answer = await shop.send(host="models.example", path="/v1/models?after=x", method="GET")
    assert answer.headers["content-type"] == "application/json"


async def test_errors_of_the_gateway_are_typed(shop: Shop) -> None:
    async with client(shop) as openai:
        ask = openai.chat.completions.create
        with refused(NotFoundError, 404, "The model `no \\\\?'such' modèle` does not exist"):
            await ask(model="no 'such' modèle", messages=HELLO)
        with refused(BadRequestError, 400, "without control characters"):
            await ask(model="be\x7fta", messages=HELLO)
        with refused(APIStatusError, 413, "larger than this gateway accepts"):
            await openai.completions.create(model="beta", prompt="x" * LIMIT)
        with refused(NotFoundError, 404, "nothing here") as _:
            await openai.models.retrieve("alpha")
    async with client(shop, "broken.example") as openai:
        ask = openai.chat.completions.create
        with refused(InternalServerError, 500, "not built yet"):
            await ask(model="filtered", messages=HELLO)
        with refused(InternalServerError, 503, "ready to serve the model 'empty'"):
            await ask(model="empty", messages=HELLO)
        with refused(InternalServerError, 504, "longer than its route allows"):
            await ask(model="slow", messages=HELLO, max_tokens=100)


async def test_the_fields_of_an_error(shop: Shop) -> None:
    async with client(shop) as openai:
        with pytest.raises(NotFoundError) as caught:
            await openai.completions.create(model="nope", prompt="hi", stream=True)
    error = caught.value
    assert (error.type, error.param, error.code) == ("invalid_request_error", "model", "model_not_found")
    assert error.body == {
        "message": "The model `nope` does not exist.",
        "type": error.type,
        "param": error.param,
        "code": error.code,
    }


async def test_errors_of_a_server_are_its_own(shop: Shop) -> None:
    async with client(shop) as openai:
        with refused(BadRequestError, 400, "maximum context length is 131072 tokens"):
            await openai.completions.create(model="beta", prompt="x" * 600_000)
