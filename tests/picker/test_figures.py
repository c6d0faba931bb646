from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from picker_worlds import entry

from picker.figures import Figures
from picker.table import Table
from picker.tallies import Tally
from picker.usage import Usage, read
from protos.pointsman.envoy.v1.access_log_pb2 import HttpAccessLogEntry

STREAM = "text/event-stream; charset=utf-8"


def logged(usage: str = "", kind: str = STREAM, first_body_byte: str = "50000") -> HttpAccessLogEntry:
    """A request of 120 ms whose headers came after 20."""
    message = entry("1", "127.0.0.1:80")
    if usage:
        message.common_properties.metadata.filter_metadata["pointsman"].fields["usage"].string_value = usage
    message.common_properties.custom_tags["first_byte_us"] = first_body_byte
    message.response.response_headers["content-type"] = kind
    return message


@pytest.mark.parametrize(
    ("text", "usage"),
    [
        ('{"prompt_tokens":11,"total_tokens":16,"completion_tokens":5,"prompt_tokens_details":null}', (11, None, 5)),
        ('{"prompt_tokens":11,"completion_tokens":5,"prompt_tokens_details":{"cached_tokens":7}}', (11, 7, 5)),
        ('{"prompt_tokens":11,"completion_tokens":5,"prompt_tokens_details":{"cached_tokens":null}}', (11, None, 5)),
        ('{"input_tokens":3,"input_tokens_details":{"cached_tokens":0},"output_tokens":4}', (3, 0, 4)),
        ('{"prompt_tokens":8,"total_tokens":8}', (8, None, 0)),
    ],
)
def test_what_servers_say_is_read(text: str, usage: tuple[int, int | None, int]) -> None:
    assert read(text) == Usage(*usage)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"prompt_tokens":-1}', '{"prompt_tokens":"many"}', "[" * 9999])
def test_what_says_nothing_is_none(text: str) -> None:
    assert read(text) is None


@given(st.recursive(st.none() | st.integers() | st.text(), lambda inner: st.dictionaries(st.text(), inner)))
def test_no_object_is_too_odd(value: object) -> None:
    read(json.dumps({"prompt_tokens": value, "completion_tokens": 1, "prompt_tokens_details": value}))


def test_a_stream_has_a_first_token_and_a_time_for_each_after_it() -> None:
    figures = Figures.of(logged('{"prompt_tokens":11,"completion_tokens":8}'))
    assert (figures.seconds, figures.first) == pytest.approx((0.12, 0.05))
    assert (figures.usage, figures.streamed) == (Usage(11, None, 8), True)
    assert figures.per_token == pytest.approx(0.01)
    assert figures.tokens() == {"prompt_tokens": 11, "cached_tokens": None, "completion_tokens": 8, "tpot_ms": 10.0}


@pytest.mark.parametrize(
    ("usage", "kind"),
    [("", STREAM), ('{"prompt_tokens":1,"completion_tokens":1}', STREAM), ('{"prompt_tokens":1}', "")],
)
def test_one_token_or_none_or_an_answer_at_once_has_no_such_time(usage: str, kind: str) -> None:
    assert Figures.of(logged(usage, kind)).per_token is None


def test_only_streams_count_as_having_a_first_token() -> None:
    for kind, count in ((STREAM, 1), ("application/json", 0)):
        tally = Tally()
        Figures.of(logged('{"prompt_tokens":11,"completion_tokens":8}', kind)).add_to(tally)
        assert (sum(tally.first_token.counts), sum(tally.per_token.counts)) == (count, count)
        assert (sum(tally.first_byte.counts), sum(tally.overall_per_token.counts)) == (1, 1)
        assert sum(tally.cached_tokens.counts) == 0


def test_an_answer_without_a_body_begins_with_its_headers() -> None:
    for absent in ("-", ""):
        assert Figures.of(logged(first_body_byte=absent)).first == pytest.approx(0.02)


def test_prompts_settle_what_bytes_are_worth() -> None:
    table = Table()
    assert table.bytes_per_token == 4.0
    for _ in range(300):
        table.settle(12_000, 8_000)
    assert table.bytes_per_token == pytest.approx(1.5, rel=0.01)
    assert table.mean_tokens == pytest.approx(8_000, rel=0.01)
    # Without a word about tokens the length alone tells.
    for _ in range(300):
        table.settle(1_500)
    assert table.mean_tokens == pytest.approx(1_000, rel=0.01)


@given(st.lists(st.tuples(st.integers(0, 1 << 40), st.none() | st.integers(0, 1 << 60)), max_size=60))
def test_no_server_moves_it_out_of_reason(told: list[tuple[int, int | None]]) -> None:
    table = Table()
    for body, prompt in told:
        table.settle(body, prompt)
    assert 0.5 <= table.bytes_per_token <= 64
