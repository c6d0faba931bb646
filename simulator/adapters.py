"""The LoRA adapters that a server has: those of its command line, then as clients load and unload them. Pure.

The answers are vLLM's to POST /v1/load_lora_adapter and /v1/unload_lora_adapter. A request that is being answered by
an adapter is finished when the adapter is unloaded meanwhile.
"""

from http import HTTPStatus
from typing import TypeVar

import msgspec

from simulator.refusals import RequestError, unreadable
from simulator.spec import LoraModule, ServerSpec

T = TypeVar("T")


class _Load(msgspec.Struct):
    lora_name: str
    lora_path: str
    load_inplace: bool = False


class _Unload(msgspec.Struct):
    lora_name: str
    lora_int_id: int | None = None


_load_decoder = msgspec.json.Decoder(_Load)
_unload_decoder = msgspec.json.Decoder(_Unload)


class Adapters:
    """The adapters of one server, in the order in which they were loaded."""

    def __init__(self, spec: ServerSpec) -> None:
        self._spec = spec
        self._base = frozenset(spec.served_names)
        self._loaded = {module.name: module for module in spec.lora_modules}

    @property
    def modules(self) -> tuple[LoraModule, ...]:
        """The adapters that are loaded."""
        return tuple(self._loaded.values())

    def find(self, model: str) -> str | None:
        """Name the adapter that answers for a model, None for the base model. Raises RequestError for neither."""
        if model in self._base:
            return None
        if model in self._loaded:
            return model
        raise RequestError(HTTPStatus.NOT_FOUND, f"The model `{model}` does not exist.", "NotFoundError", "model")

    def load(self, body: bytes) -> str:
        """Load an adapter and say so. Raises RequestError where vLLM answers with an error."""
        wanted = _decode(_load_decoder, body)
        name, path = wanted.lora_name, wanted.lora_path
        if not name or not path:
            raise _wrong("Both 'lora_name' and 'lora_path' must be provided.")
        if name in self._loaded and not wanted.load_inplace:
            raise _wrong(
                f"The lora adapter '{name}' has already been loaded. If you want to load the adapter in place, set "
                "'load_inplace' to True.",
            )
        if not self._spec.lora_enabled:
            raise RequestError(HTTPStatus.INTERNAL_SERVER_ERROR, "LoRA is not enabled.", "InternalServerError")
        if path in self._spec.absent_adapters:
            message = f"Loading lora {name} failed: No adapter found for {path}"
            raise RequestError(HTTPStatus.NOT_FOUND, message, "NotFoundError")
        self._loaded[name] = LoraModule(name, path)
        return f"Success: LoRA adapter '{name}' added successfully."

    def unload(self, body: bytes) -> str:
        """Unload an adapter and say so. Raises RequestError where vLLM answers with an error."""
        name = _decode(_unload_decoder, body).lora_name
        if not name:
            raise _wrong("'lora_name' needs to be provided to unload a LoRA adapter.")
        if name not in self._loaded:
            message = f"The lora adapter '{name}' cannot be found."
            raise RequestError(HTTPStatus.NOT_FOUND, message, "NotFoundError")
        del self._loaded[name]
        return f"Success: LoRA adapter '{name}' removed successfully."


def _wrong(message: str) -> RequestError:
    return RequestError(HTTPStatus.BAD_REQUEST, message, "InvalidUserInput")


def _decode(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise unreadable(error) from error
