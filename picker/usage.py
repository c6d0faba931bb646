"""What an answer says that it took: the object `usage` of its JSON, in the words of the servers' APIs."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta, Struct

_Count = Annotated[int, Meta(ge=0)]


class Usage(Struct, frozen=True, gc=False):
    """Tokens of the prompt, those of them that were cached (None where the server does not say), and of the answer."""

    prompt: int
    cached: int | None
    completion: int


class _Details(Struct, gc=False):
    cached_tokens: _Count | None = None


class _Said(Struct, gc=False):
    """OpenAI's chat and completions; its responses API, whose words Anthropic's has too."""

    prompt_tokens: _Count | None = None
    completion_tokens: _Count | None = None
    prompt_tokens_details: _Details | None = None
    input_tokens: _Count | None = None
    output_tokens: _Count | None = None
    input_tokens_details: _Details | None = None


_decoder = msgspec.json.Decoder(_Said)


def read(text: str) -> Usage | None:
    """Read the object; None where it says nothing that could be understood."""
    try:
        said = _decoder.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return None
    prompt = said.input_tokens if said.prompt_tokens is None else said.prompt_tokens
    completion = said.output_tokens if said.completion_tokens is None else said.completion_tokens
    if prompt is None:
        return None
    details = said.prompt_tokens_details or said.input_tokens_details
    # Embeddings have a prompt and no answer.
    return Usage(prompt, None if details is None else details.cached_tokens, completion or 0)
