"""A gateway as a picker sees it by ext_proc, without its sockets: one request in any mode, by Envoy's rules of waiting.

BUFFERED and STREAMED bodies wait for the answer to the headers, trailers for the answers to the body, and each piece of
a STREAMED body has an answer of its own. Where all streams in full duplex, nothing waits.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from protos.pointsman.envoy.v1.ext_proc_pb2 import BodySendMode, HeaderMutation, ProcessingRequest, ProcessingResponse

DESTINATION = "x-gateway-destination-endpoint"
MODES = ("NONE", "STREAMED", "BUFFERED", "FULL_DUPLEX_STREAMED")


def headers_message(headers: Mapping[str, str], *, end: bool, kind: str = "request_headers") -> ProcessingRequest:
    message = ProcessingRequest()
    sent = getattr(message, kind)
    sent.end_of_stream = end
    for key, value in headers.items():
        sent.headers.headers.add(key=key, raw_value=value.encode())
    return message


def piece_message(piece: bytes, *, end: bool, kind: str = "request_body") -> ProcessingRequest:
    message = ProcessingRequest()
    getattr(message, kind).body = piece
    getattr(message, kind).end_of_stream = end
    return message


def trailers_message() -> ProcessingRequest:
    message = ProcessingRequest()
    message.request_trailers.trailers.headers.add(key="x-trailer", raw_value=b"1")
    return message


def hint(message: ProcessingRequest, endpoints: Sequence[str]) -> ProcessingRequest:
    """Confine the choice to these endpoints (endpoint picker protocol)."""
    fields = message.metadata_context.filter_metadata["envoy.lb.subset_hint"].fields
    listed = fields["x-gateway-destination-endpoint-subset"].list_value
    for each in endpoints:
        listed.values.add(string_value=each)
    return message


@dataclass
class OtherGateway:
    """One request on its way: `pieces` are its body's; without any the headers end it.

    What the picker made of it: `headers` as they go on, `body`, whether the `trailers` passed, the `destinations` by
    header and by metadata, and the status that it `refused` with.
    """

    mode: str
    pieces: Sequence[bytes] = ()
    sends_trailers: bool = False
    announces: bool = True
    subset: Sequence[str] | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    trailers: bool = False
    by_header: str = ""
    by_metadata: str = ""
    refused: int = 0
    finished: bool = False
    _answers_due: int = 0

    def begin(self) -> Iterator[ProcessingRequest]:
        """Yield what is sent without waiting for anything."""
        ends = not self.pieces and not self.sends_trailers
        message = headers_message(self.headers, end=ends)
        if self.announces:
            message.protocol_config.request_body_mode = BodySendMode.Value(self.mode)
            message.protocol_config.response_body_mode = BodySendMode.Value(self.mode)
        yield message if self.subset is None else hint(message, self.subset)
        if self.mode == "FULL_DUPLEX_STREAMED" and not ends:
            yield from self._pieces(self.pieces)
            yield from self._trailers()

    def take(self, answer: ProcessingResponse) -> Iterator[ProcessingRequest]:
        """Take in an answer; yield what is sent then."""
        assert not self.finished, answer
        fields = answer.dynamic_metadata.fields
        if "envoy.lb" in fields:
            self.by_metadata = fields["envoy.lb"].struct_value.fields[DESTINATION].string_value
        match answer.WhichOneof("response"):
            case "immediate_response":
                self.refused = answer.immediate_response.status.code
                self.finished = True
            case "request_headers":
                self._change(answer.request_headers.response.header_mutation)
                yield from self._go_on_after_headers()
            case "request_body":
                yield from self._take_body(answer)
            case "request_trailers":
                assert self.sends_trailers
                self.trailers = self.finished = True
            case other:
                raise AssertionError(other)

    def _go_on_after_headers(self) -> Iterator[ProcessingRequest]:
        if not self.pieces and not self.sends_trailers:
            self.finished = True
        elif self.mode == "NONE":
            self.body = b"".join(self.pieces)
            yield from self._end_body()
        elif self.mode in ("BUFFERED", "STREAMED"):
            whole = [b"".join(self.pieces)] if self.pieces else []
            yield from self._pieces(whole if self.mode == "BUFFERED" else self.pieces)
            if not self.pieces:
                yield from self._end_body()

    def _take_body(self, answer: ProcessingResponse) -> Iterator[ProcessingRequest]:
        response = answer.request_body.response
        mutation = response.body_mutation
        if self.mode == "FULL_DUPLEX_STREAMED":
            self.body += mutation.streamed_response.body
            self.finished = mutation.streamed_response.end_of_stream
            assert not (self.finished and self.sends_trailers)
            return
        piece = b"".join(self.pieces) if self.mode == "BUFFERED" else self.pieces[-self._answers_due]
        if self.mode == "BUFFERED":
            # Headers wait with the body.
            self._change(response.header_mutation)
        given = mutation.WhichOneof("mutation")
        self.body += piece if given is None else mutation.body if given == "body" else b""
        self._answers_due -= 1
        if not self._answers_due:
            yield from self._end_body()

    def _end_body(self) -> Iterator[ProcessingRequest]:
        self.finished = not self.sends_trailers
        yield from self._trailers()

    def _pieces(self, pieces: Sequence[bytes]) -> Iterator[ProcessingRequest]:
        self._answers_due = len(pieces)
        for number, piece in enumerate(pieces, 1):
            yield piece_message(piece, end=number == len(pieces) and not self.sends_trailers)

    def _trailers(self) -> Iterator[ProcessingRequest]:
        if self.sends_trailers:
            yield trailers_message()

    def _change(self, mutation: HeaderMutation) -> None:
        for name in mutation.remove_headers:
            self.headers.pop(name, None)
        for each in mutation.set_headers:
            self.headers[each.header.key] = each.header.raw_value.decode()
        self.by_header = self.headers.get(DESTINATION, "")


def play(gateway: OtherGateway, receive: Callable[[ProcessingRequest], list[ProcessingResponse]]) -> OtherGateway:
    """Play the request against a state machine."""
    waiting = deque(gateway.begin())
    while waiting:
        for answer in receive(waiting.popleft()):
            waiting += gateway.take(answer)
        if gateway.refused:
            break
    assert gateway.finished
    return gateway
