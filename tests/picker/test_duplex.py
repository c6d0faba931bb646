from __future__ import annotations

import orjson
from picker_worlds import destinations, headers_message
from picker_worlds import pool as pool_message

from picker.duplex import Duplex
from picker.exchange import Exchange, Pool
from picker.rules import Rules
from picker.table import Endpoint, Table
from protos.pointsman.envoy.v1.ext_proc_pb2 import ProcessingRequest, ProcessingResponse

MODELS = {"qwen": {"qwen-v2": 1}}


def duplex(*addresses: str) -> Duplex:
    table = Table()
    table.replace(Endpoint(address, "", waiting=number, reported=True) for number, address in enumerate(addresses))
    pool = Pool("default/p", "cluster", Rules.of(pool_message("default/p", models=MODELS)), table)
    return Duplex(Exchange(pool, body_follows=True, identify=lambda: "i", dice=lambda: 0.0))


def body(data: bytes, *, end: bool, kind: str = "request_body") -> ProcessingRequest:
    message = ProcessingRequest()
    getattr(message, kind).body = data
    getattr(message, kind).end_of_stream = end
    return message


def joined(answers: list[ProcessingResponse], kind: str = "request_body") -> tuple[bytes, list[bool]]:
    streamed = [getattr(answer, kind).response.body_mutation.streamed_response for answer in answers]
    return b"".join(each.body for each in streamed), [each.end_of_stream for each in streamed]


def test_nothing_is_answered_before_the_body_is_there() -> None:
    made = duplex("a:1", "b:1")
    assert made.receive(headers_message("qwen")) == []
    assert made.receive(body(b'{"mod', end=False)) == []
    head, *rest = made.receive(body(b'el":"qwen"}', end=True))
    assert destinations(head) == ["a:1", "b:1"]
    mutation = head.request_headers.response.header_mutation
    assert {each.header.key: each.header.raw_value for each in mutation.set_headers} == {
        "x-gateway-destination-endpoint": b"a:1,b:1"
    }
    assert list(mutation.remove_headers) == ["content-length"]
    assert joined(rest) == (b'{"model":"qwen-v2"}', [True])
    assert made.request_bytes == 16
    assert made.picked is not None


def test_headers_without_a_body_are_answered_at_once() -> None:
    [head] = duplex("a:1").receive(headers_message("qwen", end_of_stream=True))
    assert destinations(head) == ["a:1"]
    assert head.WhichOneof("response") == "request_headers"


def test_a_long_body_goes_back_in_pieces_and_trailers_after_it() -> None:
    made = duplex("a:1")
    text = orjson.dumps({"model": "other", "prompt": "x" * 150_000})
    made.receive(headers_message())
    assert made.receive(body(text, end=False)) == []
    trailers = ProcessingRequest()
    trailers.request_trailers.SetInParent()
    head, *pieces, last = made.receive(trailers)
    assert destinations(head) == ["a:1"]
    assert joined(pieces) == (text, [False] * 3)
    assert last.WhichOneof("response") == "request_trailers"


def test_an_empty_body_goes_back_as_one() -> None:
    made = duplex("a:1")
    made.receive(headers_message())
    _, *pieces = made.receive(body(b"", end=True))
    assert joined(pieces) == (b"", [True])


def test_a_refusal_goes_back_instead() -> None:
    made = duplex()
    made.receive(headers_message("qwen"))
    [answer] = made.receive(body(b'{"model":"qwen"}', end=True))
    assert answer.immediate_response.status.code == 503
    assert made.picked is None


def test_the_answer_passes_and_says_what_became_of_the_request() -> None:
    made = duplex("a:1")
    made.receive(headers_message(end_of_stream=True))
    message = ProcessingRequest()
    option = message.response_headers.headers.headers.add()
    option.key, option.raw_value = ":status", b"200"
    fields = message.metadata_context.filter_metadata["envoy.lb"].fields
    fields["x-gateway-destination-endpoint-served"].string_value = "a:1"
    [passed] = made.receive(message)
    assert passed.WhichOneof("response") == "response_headers"
    assert (made.status, made.served, made.complete) == (200, "a:1", False)
    for data, end in ((b"one", False), (b"two", True)):
        assert joined(made.receive(body(data, end=end, kind="response_body")), "response_body") == (data, [end])
    assert (made.answer_bytes, made.complete) == (6, True)
    assert made.receive(ProcessingRequest()) == []


def test_trailers_end_an_answer() -> None:
    made = duplex("a:1")
    message = ProcessingRequest()
    message.response_trailers.SetInParent()
    [passed] = made.receive(message)
    assert passed.WhichOneof("response") == "response_trailers"
    assert made.complete
