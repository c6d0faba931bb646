"""The answers that the gateway makes itself, in OpenAI's shape on inference routes; elsewhere they stay plain.

OpenAI's error object is {"error": {"message", "type", "param", "code"}}. Which route an answer belongs to is read from
the route's metadata (`INFERENCE`), never from its name, so that no name has to carry meaning.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from envoy_data_plane.envoy.config.accesslog import v3 as accesslog
from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.config.route import v3 as route
from envoy_data_plane.envoy.extensions.access_loggers.filters.cel import v3 as cel
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager import v3 as hcm

from translators.emit.packing import metadata, pack, struct
from translators.features import picked_only
from translators.headers import MODEL, POINTSMAN

INFERENCE = metadata(POINTSMAN, {"inference": True})
"""The metadata of an inference route."""

_ON_INFERENCE_ROUTE = f"'{POINTSMAN}' in xds.route_metadata.filter_metadata"

PICKER_DETAILS = "pointsman_"
"""How the details of the picker's own answers begin; their bodies have the shape already."""


@dataclass(frozen=True, slots=True)
class _Answer:
    """What an error says.

    body: Envoy's own text, or that of the route which answers, follows the message. details: a part of the response
    code details that tells this error from others of its status. instead: the status to answer, 0 for the same.
    """

    status: int
    type: str
    code: str
    message: str
    param: str | None = None
    details: str = ""
    body: bool = False
    instead: int = 0


_INVALID = "invalid_request_error"
_SERVER = "server_error"

_NO_PICKER = "The endpoint picker is not available."

# The first that fits is used. Where the model is known, the message names it.
_ANSWERS = (
    _Answer(400, _INVALID, "invalid_json", "Unreadable request body:", details="ai_protocol_manager", body=True),
    _Answer(400, _INVALID, "invalid_request", "", details="direct_response", body=True),
    _Answer(400, _INVALID, "invalid_request", "The request is malformed."),
    _Answer(404, _INVALID, "not_found", "", details="direct_response", body=True),
    _Answer(413, _INVALID, "request_too_large", "The request body is larger than this gateway accepts."),
    _Answer(429, "rate_limit_error", "rate_limit_exceeded", "Too many requests."),
    _Answer(500, _SERVER, "misconfigured_route", "", details="direct_response", body=True),
    _Answer(500, _SERVER, "internal_error", "The gateway could not handle the request."),
    # Whatever became of the picker is in the details, too: no_healthy_upstream, for one.
    _Answer(503, _SERVER, "picker_unavailable", _NO_PICKER, details="ext_proc"),
    _Answer(503, _SERVER, "picker_unavailable", _NO_PICKER, details="spurious_message"),
    _Answer(403, _SERVER, "picker_unavailable", _NO_PICKER, details=f"[{picked_only.POLICY}]", instead=503),
    _Answer(504, _SERVER, "picker_unavailable", _NO_PICKER, details="ext_proc", instead=503),
    _Answer(503, _SERVER, "no_ready_endpoint", "No pod is ready to serve the request.", details="no_healthy_upstream"),
    _Answer(503, _SERVER, "service_unavailable", "The model server did not answer."),
    _Answer(504, _SERVER, "timeout", "The request took longer than its route allows."),
)
_UNKNOWN_MODEL = _Answer(404, _INVALID, "model_not_found", f"The model `%REQ({MODEL})%` does not exist.", param="model")
_OTHER = _Answer(0, _SERVER, "error", "The gateway answered %RESPONSE_CODE%.")


@lru_cache(maxsize=1)
def local_reply_config() -> hcm.LocalReplyConfig:
    """Return the shapes of all answers that Envoy or the picker make themselves."""
    mappers = [_kept_as_is(), _mapper(_UNKNOWN_MODEL, model_known=True, shown=_UNKNOWN_MODEL.message)]
    for answer in _ANSWERS:
        text = f"{answer.message} %LOCAL_REPLY_BODY%".strip() if answer.body else answer.message
        mappers.append(_mapper(answer, model_known=True, shown=f"{text} (model `%REQ({MODEL})%`)"))
        mappers.append(_mapper(answer, model_known=False, shown=text))
    mappers.append(_mapper(_OTHER, model_known=False, shown=_OTHER.message))
    return hcm.LocalReplyConfig(mappers=mappers)


def _kept_as_is() -> hcm.ResponseMapper:
    return hcm.ResponseMapper(
        filter=_expression(f"response.code_details.startsWith('{PICKER_DETAILS}')"),
        body_format_override=core.SubstitutionFormatString(
            text_format_source=core.DataSource(inline_string="%LOCAL_REPLY_BODY%"), content_type="application/json"
        ),
    )


def _mapper(answer: _Answer, *, model_known: bool, shown: str) -> hcm.ResponseMapper:
    conditions = [f"response.code == {answer.status}" if answer.status else "response.code >= 400"]
    if answer.details:
        conditions.append(f"response.code_details.contains('{answer.details}')")
    if model_known:
        conditions.append(f"'{MODEL}' in request.headers")
    conditions.append(_ON_INFERENCE_ROUTE)
    error = {"message": shown, "type": answer.type, "param": answer.param, "code": answer.code}
    return hcm.ResponseMapper(
        filter=_expression(" && ".join(conditions)),
        status_code=answer.instead or None,
        body_format_override=core.SubstitutionFormatString(
            json_format=struct({"error": error}), content_type="application/json"
        ),
    )


def _expression(expression: str) -> accesslog.AccessLogFilter:
    return accesslog.AccessLogFilter(
        extension_filter=accesslog.ExtensionFilter(
            name="envoy.access_loggers.extension_filters.cel",
            typed_config=pack(cel.ExpressionFilter(expression=expression)),
        )
    )


def answer(status: int, message: str = "") -> route.DirectResponseAction:
    """Return an action that answers at once. On an inference route the message ends up in the error object."""
    body = core.DataSource(inline_string=message) if message else None
    return route.DirectResponseAction(status=status, body=body)
