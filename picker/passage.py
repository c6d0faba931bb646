"""A request and its answer as they pass the picker in full, as a state machine without I/O.

So does any gateway treat the picker that a pool names (endpoint picker protocol, over ext_proc).  How it sends bodies
it says with its first message (`protocol_config`); one that does not is taken to stream in both directions, as the
protocol demands, unless the operator says otherwise.

Rules, and everything that affects the state lives in this file:

1. FULL_DUPLEX_STREAMED: nothing is answered before the request's last message, since model and prompt are in the body.
   Then the headers go back with the destination, and after them the body in pieces, with the model renamed.
2. BUFFERED: the headers pass; the answer to the body carries destination and renamed model.
3. STREAMED: the gateway waits for the headers' answer before it sends the body, and keeps what it has sent until it is
   answered, of which there is a limit.  So the headers' answer carries the destination, picked without the body, and
   each piece is answered at once: nothing is kept of it but a model's name that is not complete.
4. NONE, and modes of which only a part of the body can be had: the headers' answer carries the destination, and what
   else comes passes.
5. The destination is a header, where headers can still be changed, and metadata.  A refusal goes back in place of
   whatever is due.
6. The answer passes unchanged, message by message; what it says of the outcome is kept.
"""

from __future__ import annotations

from picker.exchange import Exchange, Picked
from picker.messages import (
    body_in_place,
    body_piece,
    headers_of,
    is_refusal,
    mutation_of,
    passing,
    served_by,
    set_header,
    whole_body,
    with_destination,
)
from picker.renaming import Renamer
from protos.pointsman.envoy.v1.ext_proc_pb2 import BodySendMode, HttpBody, ProcessingRequest, ProcessingResponse

STREAMED, BUFFERED, DUPLEX = BodySendMode.STREAMED, BodySendMode.BUFFERED, BodySendMode.FULL_DUPLEX_STREAMED

# Modes in which pieces go back by themselves, and are no answers to those that came.
_FREE = frozenset((DUPLEX, BodySendMode.GRPC))
_LENGTH = "content-length"
# Bytes of a body to a message: gRPC's windows move on between them, and Envoy advises 64 KiB.
_PIECE = 60_000


class Passage:
    """One request: `receive` each message and send what it returns, until the gateway ends the stream.

    `exchange` decides.  `mode` is how bodies come where the gateway does not say.  `served` is the endpoint that
    answered, as the gateway says, and `status` its answer's; 0 until then.
    """

    __slots__ = (
        "_answer_mode",
        "_body",
        "_headers",
        "_mode",
        "_renamer",
        "answer_bytes",
        "complete",
        "exchange",
        "request_bytes",
        "served",
        "status",
    )

    def __init__(self, exchange: Exchange, mode: int = DUPLEX) -> None:
        self.exchange = exchange
        self._mode = self._answer_mode = mode
        self._renamer: Renamer | None = None
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
        if request.HasField("protocol_config"):
            self._mode = request.protocol_config.request_body_mode
            self._answer_mode = request.protocol_config.response_body_mode
        answers: list[ProcessingResponse] = []
        match request.WhichOneof("request"):
            case "request_headers":
                answers = self._begin(request)
            case "request_body":
                answers = self._take_body(request, request.request_body)
            case "request_trailers":
                answers = self._take_trailers(request)
            case "response_headers":
                self._note_outcome(request)
                answers = [passing("response_headers")]
            case "response_body":
                answers = [self._pass_answer(request.response_body)]
            case "response_trailers":
                self.complete = True
                answers = [passing("response_trailers")]
        return answers

    def _begin(self, request: ProcessingRequest) -> list[ProcessingResponse]:
        self._headers = headers_of(request.request_headers)
        self.exchange.body_follows = self._mode in (DUPLEX, BUFFERED)
        answer = self.exchange.receive(request)
        if not self.exchange.done:
            return [] if self._mode == DUPLEX else [answer]
        if self._mode == STREAMED and self.exchange.picked is not None and self.exchange.may_rename:
            self._renamer = Renamer(self.exchange.name_late)
            # What it will be is known only when the headers are gone.
            mutation_of(answer).remove_headers.append(_LENGTH)
        return [with_destination(answer)]

    def _take_body(self, request: ProcessingRequest, chunk: HttpBody) -> list[ProcessingResponse]:
        self.request_bytes += len(chunk.body)
        if self.exchange.done:
            return [self._pass_body(chunk)]
        self._body += chunk.body
        # What is buffered comes at once, and trailers may follow it.
        if not chunk.end_of_stream and self._mode != BUFFERED:
            return []
        return self._decide(request, trailers=False)

    def _pass_body(self, chunk: HttpBody) -> ProcessingResponse:
        if self._renamer is None:
            if self._mode in _FREE:
                return body_piece("request_body", chunk.body, end=chunk.end_of_stream)
            return passing("request_body")
        sent = self._renamer.feed(chunk.body)
        if self.exchange.refusal is not None:
            return self.exchange.refusal
        if chunk.end_of_stream:
            sent += self._renamer.finish()
        return passing("request_body") if sent == chunk.body else body_in_place(sent)

    def _take_trailers(self, request: ProcessingRequest) -> list[ProcessingResponse]:
        return [passing("request_trailers")] if self.exchange.done else self._decide(request, trailers=True)

    def _decide(self, request: ProcessingRequest, *, trailers: bool) -> list[ProcessingResponse]:
        """Decide by the body, which ended with this message, or with what came before these trailers."""
        body = bytes(self._body)
        self._body.clear()
        answer = self.exchange.receive(whole_body(request, body))
        if is_refusal(answer):
            return [answer]
        if self._mode == DUPLEX:
            return self._give_back(answer, body, trailers=trailers)
        if not trailers:
            return [with_destination(answer)]
        # There was no body to answer: headers can no longer be changed.
        last = passing("request_trailers")
        last.dynamic_metadata.CopyFrom(answer.dynamic_metadata)
        return [last]

    def _give_back(self, answer: ProcessingResponse, body: bytes, *, trailers: bool) -> list[ProcessingResponse]:
        head = passing("request_headers")
        head.dynamic_metadata.CopyFrom(answer.dynamic_metadata)
        mutation = answer.request_body.response.body_mutation
        sent = mutation.body if mutation.WhichOneof("mutation") == "body" else body
        if _LENGTH in self._headers:
            set_header(head, _LENGTH, str(len(sent)))
        pieces = [sent[start : start + _PIECE] for start in range(0, len(sent), _PIECE)] or [b""]
        ends = [False] * (len(pieces) - 1) + [not trailers]
        streamed = [body_piece("request_body", piece, end=end) for piece, end in zip(pieces, ends, strict=True)]
        return [with_destination(head), *streamed, *([passing("request_trailers")] if trailers else [])]

    def _note_outcome(self, request: ProcessingRequest) -> None:
        status = headers_of(request.response_headers).get(":status", "")
        self.status = int(status) if status.isdecimal() else 0
        self.served = served_by(request.metadata_context)
        self.complete = request.response_headers.end_of_stream

    def _pass_answer(self, chunk: HttpBody) -> ProcessingResponse:
        self.answer_bytes += len(chunk.body)
        self.complete = chunk.end_of_stream
        if self._answer_mode in _FREE:
            return body_piece("response_body", chunk.body, end=chunk.end_of_stream)
        return passing("response_body")
