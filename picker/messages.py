"""Messages of ext_proc, made and read."""

from __future__ import annotations

from picker.exchange import DESTINATION
from protos.pointsman.envoy.v1.base_pb2 import HeaderValueOption, Metadata
from protos.pointsman.envoy.v1.ext_proc_pb2 import HeaderMutation, HttpHeaders, ProcessingRequest, ProcessingResponse

_LOAD_BALANCING = "envoy.lb"
_SERVED = "x-gateway-destination-endpoint-served"


def headers_of(headers: HttpHeaders) -> dict[str, str]:
    """Return the headers; of those that are repeated the last."""
    return {each.key: each.value or str(each.raw_value, "utf-8", "replace") for each in headers.headers.headers}


def served_by(metadata: Metadata) -> str:
    """Return the endpoint that the gateway says it went to, "" where it does not (endpoint picker protocol)."""
    if _LOAD_BALANCING not in metadata.filter_metadata:
        return ""
    return str(metadata.filter_metadata[_LOAD_BALANCING].fields[_SERVED].string_value)


def whole_body(request: ProcessingRequest, body: bytes) -> ProcessingRequest:
    """Return what a gateway would have sent that sends bodies at once; `request` is the message that it ended with."""
    whole = ProcessingRequest()
    whole.request_body.body = body
    if request.HasField("metadata_context"):
        whole.metadata_context.CopyFrom(request.metadata_context)
    return whole


def is_refusal(answer: ProcessingResponse) -> bool:
    """Tell whether the request ends here."""
    return answer.WhichOneof("response") == "immediate_response"


def passing(kind: str) -> ProcessingResponse:
    """Return what lets a message of this kind pass."""
    response = ProcessingResponse()
    getattr(response, kind).SetInParent()
    return response


def body_in_place(body: bytes) -> ProcessingResponse:
    """Return an answer to a piece of a request's body that gives another in its place."""
    response = ProcessingResponse()
    mutation = response.request_body.response.body_mutation
    if body:
        mutation.body = body
    else:
        mutation.clear_body = True
    return response


def body_piece(kind: str, body: bytes, *, end: bool) -> ProcessingResponse:
    """Return a piece of a body where pieces go back by themselves."""
    response = ProcessingResponse()
    streamed = getattr(response, kind).response.body_mutation.streamed_response
    streamed.body = body
    streamed.end_of_stream = end
    return response


def mutation_of(answer: ProcessingResponse) -> HeaderMutation:
    """Return how an answer to headers or to a body changes the headers."""
    mutation: HeaderMutation = getattr(answer, answer.WhichOneof("response") or "").response.header_mutation
    return mutation


def set_header(answer: ProcessingResponse, key: str, value: str) -> None:
    """Have an answer to headers or to a body set a header."""
    option = mutation_of(answer).set_headers.add()
    option.header.key = key
    option.header.raw_value = value.encode()
    option.append_action = HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD


def with_destination(answer: ProcessingResponse) -> ProcessingResponse:
    """Set the header that says what the metadata says, if it says anything."""
    if not is_refusal(answer) and _LOAD_BALANCING in answer.dynamic_metadata.fields:
        chosen = answer.dynamic_metadata.fields[_LOAD_BALANCING].struct_value.fields[DESTINATION].string_value
        set_header(answer, DESTINATION, chosen)
    return answer
