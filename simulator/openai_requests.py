"""Requests of the OpenAI API as vLLM reads them: decoded, checked, and refused in OpenAI's error shape. Pure.

Fields that do not change how long an answer takes or how it is framed (temperature, tools, ...) are accepted and
passed over.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from simulator import tokens
from simulator.adapters import Adapters
from simulator.refusals import bad_request, unreadable
from simulator.rooms import Room
from simulator.spec import ServerSpec, Timing

# vLLM's default of max_tokens for /v1/completions (its protocol's CompletionRequest).
_COMPLETION_TOKENS = 16


class StreamOptions(msgspec.Struct):
    """How a streamed answer is framed."""

    include_usage: bool = False


class Message(msgspec.Struct):
    """One message of a chat; content that is a list holds parts, of which those of type text are read as text."""

    role: str
    content: str | list[dict[str, object]] | None = None


class Request(msgspec.Struct, kw_only=True):
    """What chat and completion requests have in common."""

    model: str | None = None
    max_tokens: int | None = None
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    n: int | None = 1
    ignore_eos: bool = False
    min_tokens: int = 0
    bootstrap_host: str | None = None
    bootstrap_port: int | None = None
    bootstrap_room: int | None = None


class ChatRequest(Request, kw_only=True):
    """The body of POST /v1/chat/completions."""

    messages: list[Message]
    max_completion_tokens: int | None = None


class CompletionRequest(Request, kw_only=True):
    """The body of POST /v1/completions; a prompt is text, or token ids, or a list with one such prompt."""

    prompt: str | list[int | str | list[int]]


@dataclass(frozen=True, slots=True)
class Work:
    """A request that is going to be served: `stops` says that the answer ends by itself and not by its limit.

    `room` is where a prefill and a decode server meet for it; `transferred` says that the prompt's KV values are there.
    """

    chat: bool
    model: str
    adapter: str | None
    prompt_tokens: int
    answer_tokens: int
    stops: bool
    stream: bool
    include_usage: bool
    hashes: tuple[int, ...]
    room: Room | None = None
    transferred: bool = False


_chat_decoder = msgspec.json.Decoder(ChatRequest)
_completion_decoder = msgspec.json.Decoder(CompletionRequest)


class Reader:
    """Reads the requests of one server. Raises RequestError where vLLM answers with an error."""

    def __init__(self, spec: ServerSpec, timing: Timing, adapters: Adapters) -> None:
        self._spec = spec
        self._timing = timing
        self._adapters = adapters

    def read(self, body: bytes, *, chat: bool) -> Work:
        """Decode and check a body."""
        request = _decode(body, chat=chat)
        model = request.model or self._spec.served_names[0]
        adapter = self._adapters.find(model)
        if request.n not in {None, 1}:
            raise bad_request("The simulated server makes one answer a request: n must be 1.", "n")
        prompt = _prompt(request)
        prompt_tokens = tokens.count(prompt)
        limit = self._limit(request, prompt_tokens)
        natural = limit if request.ignore_eos else max(self._timing.answer_tokens, request.min_tokens)
        caching = self._spec.prefix_caching
        return Work(
            chat=chat,
            model=model,
            adapter=adapter,
            prompt_tokens=prompt_tokens,
            answer_tokens=min(limit, natural),
            stops=natural < limit,
            stream=bool(request.stream),
            include_usage=request.stream_options is not None and request.stream_options.include_usage,
            hashes=tokens.block_hashes(prompt, self._spec.block_size, adapter or "") if caching else (),
            room=_room(request),
        )

    def render(self, body: bytes, *, chat: bool) -> list[int]:
        """Decode and check a body, and return its prompt's token ids."""
        request = _decode(body, chat=chat)
        self._adapters.find(request.model or self._spec.served_names[0])
        return tokens.to_ids(_prompt(request))

    def _limit(self, request: Request, prompt_tokens: int) -> int:
        longest = self._spec.max_model_len
        asked = request.max_tokens
        if isinstance(request, ChatRequest) and request.max_completion_tokens is not None:
            asked = request.max_completion_tokens
        if asked is None and not isinstance(request, ChatRequest):
            asked = _COMPLETION_TOKENS
        if asked is not None and asked < 1:
            raise bad_request(f"max_tokens must be at least 1, got {asked}.", "max_tokens")
        if prompt_tokens + (asked or 1) > longest:
            raise bad_request(
                f"This model's maximum context length is {longest} tokens. However, you requested {asked or 1} output "
                f"tokens and your prompt contains {prompt_tokens} input tokens, for a total of "
                f"{prompt_tokens + (asked or 1)} tokens. Please reduce the length of the input prompt or the number "
                "of requested output tokens.",
                "input_tokens",
            )
        return longest - prompt_tokens if asked is None else asked


def _room(request: Request) -> Room | None:
    if request.bootstrap_host is None or request.bootstrap_room is None:
        return None
    return Room(request.bootstrap_host, request.bootstrap_port, request.bootstrap_room)


def _decode(body: bytes, *, chat: bool) -> ChatRequest | CompletionRequest:
    try:
        return _chat_decoder.decode(body) if chat else _completion_decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise unreadable(error) from error


def _prompt(request: ChatRequest | CompletionRequest) -> bytes:
    prompt = _template(request.messages) if isinstance(request, ChatRequest) else _plain(request.prompt)
    if not prompt:
        raise bad_request("The prompt is empty.", "prompt")
    return prompt


def _template(messages: Sequence[Message]) -> bytes:
    """Write a chat as the prompt that the model is given (ChatML, Qwen's template)."""
    if not messages:
        return b""
    turns = (f"<|im_start|>{message.role}\n{_content(message)}<|im_end|>\n" for message in messages)
    return ("".join(turns) + "<|im_start|>assistant\n").encode()


def _content(message: Message) -> str:
    if message.content is None or isinstance(message.content, str):
        return message.content or ""
    return "".join(str(part["text"]) if part.get("type") == "text" else "<|part|>" for part in message.content)


def _plain(prompt: str | list[int | str | list[int]]) -> bytes:
    if isinstance(prompt, str):
        return prompt.encode()
    if len(prompt) == 1 and not isinstance(prompt[0], int):
        only = prompt[0]
        return only.encode() if isinstance(only, str) else _from_ids(only)
    ids = [item for item in prompt if isinstance(item, int)]
    if len(ids) != len(prompt):
        raise bad_request("The simulated server takes one prompt a request.", "prompt")
    return _from_ids(ids)


def _from_ids(ids: Sequence[int]) -> bytes:
    try:
        return tokens.from_ids(ids)
    except OverflowError as error:
        raise bad_request("A token id is out of the vocabulary.", "prompt") from error
