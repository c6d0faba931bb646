from __future__ import annotations

import json

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from json_bodies import bodies, cut
from other_gateway import MODES, OtherGateway, headers_message, piece_message, play
from picker_worlds import pool as pool_message

from picker.exchange import Exchange, Pool
from picker.passage import BUFFERED, Passage
from picker.rules import Rules
from picker.table import Endpoint, Table
from protos.pointsman.envoy.v1.ext_proc_pb2 import BodySendMode, ProcessingRequest
from protos.pointsman.picker.v1 import pool_pb2

MODELS = {"qwen": {"qwen-v2": 1}}
DUPLEX = "FULL_DUPLEX_STREAMED"
WITH_BODY = [mode for mode in MODES if mode != "NONE"]


def passage(
    *addresses: str,
    models: dict[str, dict[str, int]] | None = None,
    unlisted: int = pool_pb2.UNLISTED_STANDARD,
    waiting: int = 0,
    **more: int,
) -> Passage:
    table = Table()
    table.replace(
        Endpoint(address, "", waiting=waiting + number, reported=True) for number, address in enumerate(addresses)
    )
    message = pool_message("default/p", models=models or {})
    message.unlisted = unlisted  # type: ignore[assignment]
    pool = Pool("default/p", "cluster", Rules.of(message), table)
    return Passage(Exchange(pool, body_follows=True, identify=lambda: "i", dice=lambda: 0.0), **more)


def renamed(body: bytes) -> bytes:
    """What a server is to see of a body for the model "qwen" without escapes."""
    return body.replace(b'"qwen"', b'"qwen-v2"')


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("trailers", [False, True])
@pytest.mark.parametrize("size", [0, 1, 200_000])
def test_every_mode_names_the_endpoints_and_changes_nothing_else(mode: str, size: int, trailers: bool) -> None:  # noqa: FBT001
    pieces = [b"x" * 60_000] * (size // 60_000) + [b"y" * (size % 60_000)] if size else []
    headers = {":path": "/", "content-length": str(size), "x-own": "1"}
    made = passage("a:1", "b:1")
    seen = play(OtherGateway(mode, pieces, trailers, headers=dict(headers)), made.receive)
    assert seen.by_metadata == "a:1,b:1"
    # Trailers alone come too late for headers.
    late = trailers and not pieces and mode == "BUFFERED"
    assert seen.by_header == ("" if late else "a:1,b:1")
    assert (seen.body, seen.trailers) == (b"".join(pieces), trailers)
    seen.headers.pop("x-gateway-destination-endpoint", None)
    assert seen.headers == headers
    assert made.request_bytes == (0 if mode == "NONE" else size)
    assert made.picked is not None


@pytest.mark.parametrize("mode", WITH_BODY)
@given(body=bodies(), cuts=st.lists(st.integers(0, 400), max_size=6), trailers=st.booleans())
@example(body=b'{"model":"qwen"}', cuts=[10, 12], trailers=True)
@example(body=b'{"n":{"model":"qwen"},"model":"qwen"}', cuts=[0, 0, 37], trailers=False)
def test_the_model_is_renamed_whatever_the_pieces(mode: str, body: bytes, cuts: list[int], trailers: bool) -> None:  # noqa: FBT001
    document = json.loads(body)
    model = document.get("model")
    names = {model: {"target": 1}} if isinstance(model, str) and model else {"other": {"target": 1}}
    made = passage("a:1", models=names)
    headers = {"content-length": str(len(body))}
    seen = play(OtherGateway(mode, cut(body, cuts), trailers, headers=headers), made.receive)
    after = json.loads(seen.body)
    if isinstance(model, str) and model:
        assert after == {**document, "model": "target"}
        assert made.picked is not None
        assert (made.picked.model, made.picked.target) == (model, "target")
    else:
        assert after == document
    # The length is right or not said.
    assert seen.headers.get("content-length", str(len(seen.body))) == str(len(seen.body))
    assert seen.trailers == trailers


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("subset", "picked"),
    [
        (None, "a:1,b:1,c:1"),
        (["b:1"], "b:1"),
        (["b:1", "a:1", "z:1"], "a:1,b:1"),
        (["z:1"], ""),
        ([], ""),
    ],
)
def test_the_hint_confines_the_choice(mode: str, subset: list[str] | None, picked: str) -> None:
    made = passage("a:1", "b:1", "c:1")
    seen = play(OtherGateway(mode, [b"{}"], subset=subset), made.receive)
    assert (seen.by_metadata, seen.by_header) == (picked, picked)
    assert seen.refused == (0 if picked else 503)


@pytest.mark.parametrize("mode", MODES)
def test_nobody_there_is_a_503(mode: str) -> None:
    made = passage()
    assert play(OtherGateway(mode, [b'{"model":', b'"qwen"}']), made.receive).refused == 503
    assert made.picked is None


@pytest.mark.parametrize("mode", MODES)
def test_a_busy_pool_sheds_what_may_be_shed(mode: str) -> None:
    for unlisted, refused in ((pool_pb2.UNLISTED_SHEDDABLE, 429), (pool_pb2.UNLISTED_STANDARD, 0)):
        made = passage("a:1", unlisted=unlisted, waiting=99)
        assert play(OtherGateway(mode, [b"{}"]), made.receive).refused == refused


@pytest.mark.parametrize("mode", WITH_BODY)
def test_a_model_that_the_pool_refuses_is_refused(mode: str) -> None:
    made = passage("a:1", models=MODELS, unlisted=pool_pb2.UNLISTED_REFUSED)
    seen = play(OtherGateway(mode, [b'{"mod', b'el":"other",', b'"prompt":""}']), made.receive)
    assert seen.refused == 404
    assert made.exchange.refused == "model_not_found"


def test_a_gateway_that_does_not_say_its_mode_streams_in_full_duplex() -> None:
    body = b'{"model":"qwen"}'
    seen = play(OtherGateway(DUPLEX, [body], announces=False), passage("a:1", models=MODELS).receive)
    assert (seen.body, seen.by_header) == (renamed(body), "a:1")
    made = passage("a:1", models=MODELS, mode=BUFFERED)
    assert play(OtherGateway("BUFFERED", [body], announces=False), made.receive).body == renamed(body)


def test_in_full_duplex_nothing_is_answered_before_the_body_is_there() -> None:
    made = passage("a:1")
    assert made.receive(headers_message({}, end=False)) == []
    assert made.receive(piece_message(b'{"mod', end=False)) == []
    head, *rest = made.receive(piece_message(b'el":"qwen"}', end=True))
    assert head.WhichOneof("response") == "request_headers"
    assert [each.request_body.response.body_mutation.streamed_response.end_of_stream for each in rest] == [True]


def test_a_long_body_goes_back_in_pieces() -> None:
    made = passage("a:1")
    text = orjson.dumps({"model": "other", "prompt": "x" * 150_000})
    made.receive(headers_message({}, end=False))
    _, *pieces = made.receive(piece_message(text, end=True))
    streamed = [each.request_body.response.body_mutation.streamed_response for each in pieces]
    assert b"".join(each.body for each in streamed) == text
    assert [each.end_of_stream for each in streamed] == [False, False, True]
    assert all(len(each.body) <= 64 * 1024 for each in streamed)


def test_of_a_streamed_body_nothing_is_kept() -> None:
    made = passage("a:1", models=MODELS)
    first = headers_message({"content-length": "500000"}, end=False)
    first.protocol_config.request_body_mode = BodySendMode.STREAMED
    [head] = made.receive(first)
    assert list(head.request_headers.response.header_mutation.remove_headers) == ["content-length"]
    for piece in (b'{"prompt":"' + b"x" * 250_000, b"x" * 250_000):
        [answer] = made.receive(piece_message(piece, end=False))
        # It passes as it is.
        assert not answer.request_body.HasField("response")
    [answer] = made.receive(piece_message(b'","model":"qwen"}', end=True))
    assert answer.request_body.response.body_mutation.body == b'","model":"qwen-v2"}'


@pytest.mark.parametrize("mode", ["STREAMED", "BUFFERED", DUPLEX])
def test_the_answer_passes_and_says_what_became_of_the_request(mode: str) -> None:
    made = passage("a:1")
    play(OtherGateway(mode), made.receive)
    message = headers_message({":status": "200"}, end=False, kind="response_headers")
    fields = message.metadata_context.filter_metadata["envoy.lb"].fields
    fields["x-gateway-destination-endpoint-served"].string_value = "a:1"
    [passed] = made.receive(message)
    assert passed.WhichOneof("response") == "response_headers"
    assert (made.status, made.served, made.complete) == (200, "a:1", False)
    for data, end in ((b"one", False), (b"two", True)):
        [passed] = made.receive(piece_message(data, end=end, kind="response_body"))
        response = passed.response_body.response
        if mode == DUPLEX:
            streamed = response.body_mutation.streamed_response
            assert (streamed.body, streamed.end_of_stream) == (data, end)
        else:
            assert passed.WhichOneof("response") == "response_body"
            assert response.body_mutation.WhichOneof("mutation") is None
    assert (made.answer_bytes, made.complete) == (6, True)
    assert made.receive(ProcessingRequest()) == []


def test_trailers_end_an_answer() -> None:
    made = passage("a:1")
    message = ProcessingRequest()
    message.response_trailers.SetInParent()
    [passed] = made.receive(message)
    assert passed.WhichOneof("response") == "response_trailers"
    assert made.complete
