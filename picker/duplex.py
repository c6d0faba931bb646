"""A request and its answer as both stream through the picker in full, as a state machine without I/O.

So does a gateway treat the picker that a pool names itself (endpoint picker protocol; ext_proc's FULL_DUPLEX_STREAMED).

Rules, and everything that affects the state lives in this file:

1. Nothing is answered before the request's last message: model and prompt are in the body.
2. Then the headers go back with the destination, as header and as metadata, and after them the body in pieces, with
   the model renamed.  A refusal goes back instead of both.
3. The answer passes unchanged, message by message; what it says of the outcome is kept.
"""

from __future__ import annotations

from collections.abc import Iterator

from picker.exchange import DESTINATION, Exchange, Picked
from protos.pointsman.envoy.v1.base_pb2 import HeaderValueOption, Metadata
from protos.pointsman.envoy.v1.ext_proc_pb2 import HttpHeaders, ProcessingRequest, ProcessingResponse

_LOAD_BALANCING = "envoy.lb"
_SERVED = "x-gateway-destination-endpoint-served"
# Bytes of a body to a message: gRPC's windows move on between them.
_PIECE = 60_000


class Duplex:
    """One request: `receive` each message and send what it returns, until Envoy ends the stream.

    `exchange` decides.  `served` is the endpoint that answered, as Envoy says, and `status` its answer's; 0 until then.
    """

    __slots__ = ("_body", "_headers", "answer_bytes", "complete", "exchange", "request_bytes", "served", "status")

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self._body = bytearray()
        self._headers: dict[str, str] = {}
        self.served = ""
        self.status = 0
        self.request_bytes = 0
        self.answer_bytes = 0
        self.complete = False

    @property
    def picked(self) -> Picked | None:
        """What was decided, once it is."""
        return self.exchange.picked

    def header(self, name: str) -> str:
        """Return a header of the request, "" where it is absent."""
        return self._headers.get(name, "")

    def receive(self, request: ProcessingRequest) -> list[ProcessingResponse]:
        """Take one message in; return what to send."""
        answers: list[ProcessingResponse] = []
        match request.WhichOneof("request"):
            case "request_headers":
                answers = self._begin(request)
            case "request_body":
                self._body += request.request_body.body
                if request.request_body.end_of_stream:
                    answers = self._decide(request, trailers=False)
            case "request_trailers":
                answers = self._decide(request, trailers=True)
            case "response_headers":
                self._note_outcome(request)
                answers = [_passing("response_headers")]
            case "response_body":
                chunk = request.response_body
                self.answer_bytes += len(chunk.body)
                self.complete = chunk.end_of_stream
                answers = [_streamed("response_body", chunk.body, end=chunk.end_of_stream)]
            case "response_trailers":
                self.complete = True
                answers = [_passing("response_trailers")]
        return answers

    def _begin(self, request: ProcessingRequest) -> list[ProcessingResponse]:
        self._headers = _read(request.request_headers)
        answer = self.exchange.receive(request)
        return [_with_destination(answer)] if self.exchange.done else []

    def _decide(self, request: ProcessingRequest, *, trailers: bool) -> list[ProcessingResponse]:
        body = bytes(self._body)
        self._body.clear()
        self.request_bytes = len(body)
        whole = ProcessingRequest()
        whole.request_body.body = body
        if request.HasField("metadata_context"):
            whole.metadata_context.CopyFrom(request.metadata_context)
        answer = self.exchange.receive(whole)
        if answer.WhichOneof("response") == "immediate_response":
            return [answer]
        head = _passing("request_headers")
        head.dynamic_metadata.CopyFrom(answer.dynamic_metadata)
        mutation = answer.request_body.response.body_mutation
        sent = mutation.body if mutation.WhichOneof("mutation") == "body" else body
        pieces = [sent[start : start + _PIECE] for start in range(0, len(sent), _PIECE)] or [b""]
        ends = [False] * (len(pieces) - 1) + [not trailers]
        answers = [_streamed("request_body", piece, end=end) for piece, end in zip(pieces, ends, strict=True)]
        return [_with_destination(head), *answers, *([_passing("request_trailers")] if trailers else [])]

    def _note_outcome(self, request: ProcessingRequest) -> None:
        status = _read(request.response_headers).get(":status", "")
        self.status = int(status) if status.isdecimal() else 0
        self.served = _served(request.metadata_context)
        self.complete = request.response_headers.end_of_stream


def _read(headers: HttpHeaders) -> dict[str, str]:
    return {each.key: each.value or str(each.raw_value, "utf-8", "replace") for each in headers.headers.headers}


def _served(metadata: Metadata) -> str:
    if _LOAD_BALANCING not in metadata.filter_metadata:
        return ""
    return str(metadata.filter_metadata[_LOAD_BALANCING].fields[_SERVED].string_value)


def _passing(kind: str) -> ProcessingResponse:
    response = ProcessingResponse()
    getattr(response, kind).SetInParent()
    return response


def _streamed(kind: str, body: bytes, *, end: bool) -> ProcessingResponse:
    response = ProcessingResponse()
    streamed = getattr(response, kind).response.body_mutation.streamed_response
    streamed.body = body
    streamed.end_of_stream = end
    return response


def _with_destination(head: ProcessingResponse) -> ProcessingResponse:
    """Set the header that says what the metadata says; the length may change."""
    if head.WhichOneof("response") == "request_headers":
        mutation = head.request_headers.response.header_mutation
        for destination in _destinations(head):
            option = mutation.set_headers.add()
            option.header.key = DESTINATION
            option.header.raw_value = destination.encode()
            option.append_action = HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD
        mutation.remove_headers.append("content-length")
    return head


def _destinations(head: ProcessingResponse) -> Iterator[str]:
    if _LOAD_BALANCING in head.dynamic_metadata.fields:
        yield head.dynamic_metadata.fields[_LOAD_BALANCING].struct_value.fields[DESTINATION].string_value
