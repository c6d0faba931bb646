"""Answers of the OpenAI API as vLLM writes them: whole, as server-sent events, and the list of models. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from simulator import tokens
from simulator.openai_requests import Work
from simulator.spec import LoraModule, ServerSpec


def usage(work: Work, answered: int, cached: int) -> dict[str, object]:
    """Count the tokens of a request for its answer's `usage`."""
    return {
        "prompt_tokens": work.prompt_tokens,
        "total_tokens": work.prompt_tokens + answered,
        "completion_tokens": answered,
        "prompt_tokens_details": {"cached_tokens": cached},
    }


@dataclass(frozen=True, slots=True)
class Heading:
    """What all parts of an answer share: its id and the time of its creation in seconds since the epoch."""

    id: str
    created: int


def whole(heading: Heading, work: Work, cached: int) -> bytes:
    """Encode an answer that is not streamed."""
    text = tokens.answer(0, work.answer_tokens).decode()
    choice: dict[str, object] = {
        "index": 0,
        "logprobs": None,
        "finish_reason": finish_reason(work),
        "stop_reason": None,
    }
    choice |= {"message": {"role": "assistant", "content": text, "tool_calls": []}} if work.chat else {"text": text}
    document = _document(heading, work, "chat.completion" if work.chat else "text_completion", [choice])
    return orjson.dumps(document | {"usage": usage(work, work.answer_tokens, cached)})


def finish_reason(work: Work) -> str:
    """Say why the answer ends."""
    return "stop" if work.stops else "length"


class Events:
    """Writes the server-sent events of one streamed answer; what is the same in all of them is encoded once."""

    def __init__(self, heading: Heading, work: Work) -> None:
        self._heading = heading
        self._work = work
        # orjson writes the mark as \\u0000, which no model name contains: what precedes and follows it frames a token.
        mark = "\0"
        content: dict[str, object] = {"delta": {"content": mark}} if work.chat else {"text": mark}
        event = self._event([{"index": 0, **content, "logprobs": None, "finish_reason": None}])
        self._before, _, self._after = event.partition(orjson.dumps(mark)[1:-1])
        reason = f'"finish_reason":"{finish_reason(work)}","stop_reason":null'
        self._after_last = self._after.replace(b'"finish_reason":null', reason.encode())

    def opening(self) -> bytes:
        """Write what precedes the first token: a chat names the role."""
        if not self._work.chat:
            return b""
        delta = {"role": "assistant", "content": ""}
        return self._event([{"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}])

    def tokens(self, start: int, stop: int) -> bytes:
        """Write the answer's tokens `start` to `stop`, an event for each."""
        last = self._work.answer_tokens - 1
        return b"".join(
            self._before + tokens.answer(place, place + 1) + (self._after_last if place == last else self._after)
            for place in range(start, stop)
        )

    def closing(self, cached: int) -> bytes:
        """Write what follows the last token."""
        counts = b""
        if self._work.include_usage:
            counts = self._event([], usage(self._work, self._work.answer_tokens, cached))
        return counts + b"data: [DONE]\n\n"

    def _event(self, choices: list[dict[str, object]], counts: dict[str, object] | None = None) -> bytes:
        kind = "chat.completion.chunk" if self._work.chat else "text_completion"
        document = _document(self._heading, self._work, kind, choices)
        if counts is not None:
            document["usage"] = counts
        return b"data: " + orjson.dumps(document) + b"\n\n"


def _document(heading: Heading, work: Work, kind: str, choices: list[dict[str, object]]) -> dict[str, object]:
    return {
        "id": heading.id,
        "object": kind,
        "created": heading.created,
        "model": work.model,
        "choices": choices,
    }


def rendered(heading: Heading, ids: Sequence[int]) -> dict[str, object]:
    """Describe a prompt as vLLM's render endpoints do: by its token ids."""
    return {"request_id": heading.id, "token_ids": ids, "features": None, "sampling_params": {}}


def models(spec: ServerSpec, modules: Sequence[LoraModule], created: int, owner: str) -> bytes:
    """Encode GET /v1/models: the served names, then the LoRA adapters, whose parent is the first served name."""
    made: dict[str, object] = {"object": "model", "created": created, "owned_by": owner}
    base = [_card(name, made, root=spec.model, longest=spec.max_model_len) for name in spec.served_names]
    adapters = [_card(module.name, made, root=module.path, parent=spec.served_names[0]) for module in modules]
    return orjson.dumps({"object": "list", "data": base + adapters})


def _card(
    name: str,
    made: dict[str, object],
    *,
    root: str,
    parent: str | None = None,
    longest: int | None = None,
) -> dict[str, object]:
    return {
        "id": name,
        **made,
        "root": root,
        "parent": parent,
        "max_model_len": longest,
        "permission": [],
    }
