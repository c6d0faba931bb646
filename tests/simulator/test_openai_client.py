"""The official client, unmodified, gets along with a simulated server."""

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from openai import AsyncOpenAI, BadRequestError, NotFoundError

from simulator import ModelServer


@pytest.fixture
async def openai(start: Callable[..., Awaitable[ModelServer]]) -> AsyncIterator[AsyncOpenAI]:
    server = await start("--enable-lora --lora-modules l=/l --max-model-len 1000")
    async with AsyncOpenAI(base_url=server.site.url + "/v1", api_key="none", max_retries=0) as client:
        yield client


async def test_chat(openai: AsyncOpenAI) -> None:
    answer = await openai.chat.completions.create(
        model="m",
        messages=[{"role": "system", "content": [{"type": "text", "text": "be"}]}, {"role": "user", "content": "hi"}],
        max_completion_tokens=4,
        temperature=0.5,
    )
    assert answer.choices[0].message.content == " the and all car"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 4


async def test_streamed_chat(openai: AsyncOpenAI) -> None:
    stream = await openai.chat.completions.create(
        model="l",
        messages=[{"role": "user", "content": "hi"}],
        max_tokens=3,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = [chunk async for chunk in stream]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == " the and all"
    assert chunks[-1].usage is not None
    assert {chunk.model for chunk in chunks} == {"l"}


async def test_completions(openai: AsyncOpenAI) -> None:
    answer = await openai.completions.create(model="m", prompt="hi", max_tokens=2)
    assert answer.choices[0].text == " the and"
    stream = await openai.completions.create(model="m", prompt="hi", max_tokens=2, stream=True)
    assert [chunk.choices[0].text async for chunk in stream] == [" the", " and"]


async def test_models(openai: AsyncOpenAI) -> None:
    assert [model.id async for model in openai.models.list()] == ["m", "l"]


async def test_errors(openai: AsyncOpenAI) -> None:
    with pytest.raises(NotFoundError, match="The model `x` does not exist"):
        await openai.completions.create(model="x", prompt="hi")
    with pytest.raises(BadRequestError, match="maximum context length is 1000 tokens"):
        await openai.completions.create(model="m", prompt="hi", max_tokens=1000)
