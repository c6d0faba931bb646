"""vLLM's API for adapters, as far as the syncer asks for it."""

import asyncio
from dataclasses import dataclass
from http import HTTPStatus

import msgspec
from aiohttp import ClientError, ClientSession, ClientTimeout
from yarl import URL

from lora_syncer.config import Adapter
from lora_syncer.plan import Present

# Seconds for a question; loading may download weights.
_QUICK = ClientTimeout(total=10)
_LOADING = ClientTimeout(total=300)
# As much of an answer as a log line takes.
_LONGEST = 500


class UnreachableError(Exception):
    """The server does not answer, or not what such a server answers."""


class RefusedError(Exception):
    """The server answered with an error; its status and its words."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status} {message}".rstrip())
        self.status = status
        self.message = message


class _Card(msgspec.Struct):
    id: str
    root: str | None = None
    parent: str | None = None
    max_model_len: int | None = None


class _Cards(msgspec.Struct):
    data: list[_Card]


class _Error(msgspec.Struct):
    message: str


class _ErrorBody(msgspec.Struct):
    error: _Error | None = None
    message: str | None = None


@dataclass(frozen=True, slots=True)
class ModelServer:
    """A model server, asked through a session."""

    session: ClientSession
    url: URL

    async def healthy(self) -> bool:
        """Whether the server says that it can serve."""
        try:
            async with self.session.get(self.url.with_path("/health"), timeout=_QUICK) as response:
                return response.status == HTTPStatus.OK
        except (ClientError, TimeoutError, OSError):
            return False

    async def present(self) -> Present:
        """List what is loaded. Raises UnreachableError."""
        try:
            async with self.session.get(self.url.with_path("/v1/models"), timeout=_QUICK) as response:
                response.raise_for_status()
                cards = msgspec.json.decode(await response.read(), type=_Cards).data
        except (ClientError, TimeoutError, OSError, msgspec.DecodeError) as error:
            raise UnreachableError(_words(error)) from error
        # vLLM tells the context length of a model and the parent of an adapter.
        models = frozenset(card.id for card in cards if card.parent is None and card.max_model_len is not None)
        return Present({card.id: card.root for card in cards if card.id not in models}, models)

    async def load(self, adapter: Adapter, *, in_place: bool = False) -> None:
        """Load an adapter; `in_place` replaces the one of its name. Raises RefusedError or UnreachableError."""
        body: dict[str, object] = {"lora_name": adapter.id, "lora_path": adapter.source}
        if adapter.base_model:
            body["base_model_name"] = adapter.base_model
        if in_place:
            body["load_inplace"] = True
        await self._post("/v1/load_lora_adapter", body)

    async def replace(self, adapter: Adapter) -> None:
        """Load an adapter in the place of the one of its name. Raises RefusedError or UnreachableError."""
        try:
            await self.load(adapter, in_place=True)
        except RefusedError as refused:
            # A vLLM that does not know `load_inplace` says that the adapter is there.
            if refused.status != HTTPStatus.BAD_REQUEST or "already" not in refused.message:
                raise
            await self.unload(adapter.id)
            await self.load(adapter)

    async def unload(self, name: str) -> None:
        """Unload an adapter; one that is not there is fine. Raises RefusedError or UnreachableError."""
        try:
            await self._post("/v1/unload_lora_adapter", {"lora_name": name})
        except RefusedError as refused:
            # Only vLLM's own 404 names the adapter: without the path, the API is not there at all.
            if refused.status != HTTPStatus.NOT_FOUND or name not in refused.message:
                raise

    async def _post(self, path: str, body: dict[str, object]) -> None:
        try:
            async with self.session.post(self.url.with_path(path), json=body, timeout=_LOADING) as response:
                text = await response.text(errors="replace")
        except (ClientError, TimeoutError, OSError) as error:
            raise UnreachableError(_words(error)) from error
        if response.status >= HTTPStatus.BAD_REQUEST:
            raise RefusedError(response.status, _message(text))


def _message(text: str) -> str:
    """Find the message in an error's body: vLLM's shape of today, or the flat one of before 0.10."""
    try:
        body = msgspec.json.decode(text, type=_ErrorBody)
    except msgspec.DecodeError:
        return text[:_LONGEST]
    return ((body.error.message if body.error else body.message) or text)[:_LONGEST]


def _words(error: Exception) -> str:
    return "it takes too long" if isinstance(error, asyncio.TimeoutError) else str(error) or type(error).__name__
