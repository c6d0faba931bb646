from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from picker.prompt import ENDS, Prompt, chain, read

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)
MESSAGES = st.lists(st.fixed_dictionaries({"role": st.sampled_from(["system", "user", "assistant"]), "content": TEXT}))


def links(document: dict[str, Any], model: str = "m", **spelling: Any) -> list[int]:
    prompt = read(json.dumps(document, **spelling).encode())
    assert prompt is not None
    return chain(prompt, model)


def chat(*contents: Any, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": content} for content in contents], **more}


@given(MESSAGES)
def test_spelling_does_not_matter(messages: list[dict[str, str]]) -> None:
    plain = links({"model": "m", "messages": messages}, ensure_ascii=False)
    turned = [{"content": message["content"], "name": "x", "role": message["role"]} for message in messages]
    assert links({"stream": True, "messages": turned, "model": "m"}, indent=1) == plain


@given(MESSAGES, MESSAGES)
def test_a_conversation_that_goes_on_has_the_blocks_of_its_beginning(
    before: list[dict[str, str]], after: list[dict[str, str]]
) -> None:
    first = links({"messages": before})
    assert links({"messages": before + after})[: len(first)] == first


@given(st.binary(max_size=2000), st.binary(max_size=2000), st.binary(max_size=2000))
def test_chains_part_where_the_texts_do(shared: bytes, one: bytes, two: bytes) -> None:
    first, second = (chain(Prompt("", shared + rest), "m") for rest in (b"a" + one, b"b" + two))
    same = sum(1 for left, right in zip(first, second, strict=False) if left == right)
    whole = sum(1 for end in ENDS[1:] if end <= len(shared))
    assert same == whole
    assert first[:same] == second[:same]


def test_short_prompts_have_blocks_and_long_ones_not_many() -> None:
    assert len(links(chat("x" * 400))) == 6
    assert len(links(chat("x" * 220_000))) == 138
    assert len(chain(Prompt("", b"x" * (20 << 20)), "m")) == 244


def test_blocks_grow_with_the_distance() -> None:
    assert all(end - begin == 64 or end - begin <= begin / 16 for begin, end in pairwise(ENDS))


def test_models_adapters_and_salts_share_nothing() -> None:
    one = links(chat("x" * 200))
    assert one[0] != links(chat("x" * 200), "adapter")[0]
    assert one[0] != links(chat("x" * 200, cache_salt="s"))[0]


def test_text_in_parts_is_text() -> None:
    parts = [{"type": "text", "text": "x" * 100}, {"type": "text", "text": "y" * 100}]
    assert links(chat(parts)) == links(chat("x" * 100 + "y" * 100))


def test_images_and_tools_and_who_speaks_make_a_difference() -> None:
    plain = links(chat("x" * 100))
    image = [{"type": "image_url", "image_url": {"url": "http://a/b.png"}}, {"type": "text", "text": "x" * 100}]
    assert links(chat(image))[0] != plain[0]
    assert links(chat("x" * 100, tools=[{"type": "function"}]))[0] != plain[0]
    assert links({"messages": [{"role": "system", "content": "x" * 100}]})[0] != plain[0]


def test_prompts_of_the_completions_api() -> None:
    assert len(links({"prompt": "x" * 400})) == 6
    assert links({"prompt": ["x" * 200, "y" * 200]})[:3] == links({"prompt": ["x" * 200, "z" * 200]})[:3]
    tokens = links({"prompt": list(range(200))})
    assert tokens[:3] == links({"prompt": [*range(100), 7, 7]})[:3]


@pytest.mark.parametrize(
    "body", [b"", b"no json", b"[]", b'{"messages": 5}', b'{"messages": [5]}', b'{"model": 5}', b'{"prompt": {}}']
)
def test_what_is_no_prompt(body: bytes) -> None:
    assert read(body) is None


def test_a_body_without_a_prompt_has_no_blocks() -> None:
    assert links({"model": "m", "input": "x" * 400}) == []


@given(st.binary(max_size=100))
def test_any_bytes_are_looked_at_without_error(body: bytes) -> None:
    read(body)
    read(b'{"messages":[{"content":"' + body + b'"}]}')
