"""The answers that the picker gives itself, in the shape of OpenAI's errors.

The details let the gateway keep the body as it is.
"""

from __future__ import annotations

from typing import NamedTuple

import orjson

from picker.decision import NO_READY_ENDPOINT
from picker.strategies.filters import SATURATED
from protos.pointsman.envoy.v1.base_pb2 import HeaderValueOption
from protos.pointsman.envoy.v1.ext_proc_pb2 import ImmediateResponse, ProcessingResponse

MODEL_NOT_FOUND = "model_not_found"
UNKNOWN_POOL = "unknown_pool"
NO_READY_PREFILL = "no_ready_prefill_endpoint"


class _Answer(NamedTuple):
    status: int
    type: str
    message: str
    param: str | None = None
    retry: bool = False


_ANSWERS = {
    NO_READY_ENDPOINT: _Answer(503, "service_unavailable_error", "No pod of the pool {pool} is ready{about}."),
    NO_READY_PREFILL: _Answer(503, "service_unavailable_error", "No prefill pod of the pool {pool} is ready{about}."),
    UNKNOWN_POOL: _Answer(
        503, "service_unavailable_error", "The pool {pool} is not known to the endpoint picker{about}."
    ),
    SATURATED: _Answer(429, "rate_limit_error", "All pods of the pool {pool} are too busy{about}.", retry=True),
    MODEL_NOT_FOUND: _Answer(404, "invalid_request_error", "The model '{model}' does not exist.", "model"),
}


def refuse(reason: str, model: str, pool: str, *, retry_after: int = 1) -> ProcessingResponse:
    """Answer the client for a reason; `retry_after` (seconds) is told where asking again can help."""
    answer = _ANSWERS[reason]
    about = f" to serve the model '{model}'" if model else ""
    error = {
        "message": answer.message.format(model=model, pool=pool or "(none)", about=about),
        "type": answer.type,
        "param": answer.param,
        "code": reason,
    }
    response = ProcessingResponse()
    immediate = response.immediate_response
    immediate.status.code = answer.status
    immediate.body = orjson.dumps({"error": error})
    immediate.details = f"pointsman_{reason}"
    _set(immediate, "content-type", b"application/json")
    if answer.retry:
        _set(immediate, "retry-after", b"%d" % retry_after)
    return response


def _set(immediate: ImmediateResponse, key: str, value: bytes) -> None:
    option = immediate.headers.set_headers.add()
    option.header.key = key
    option.header.raw_value = value
    option.append_action = HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD
