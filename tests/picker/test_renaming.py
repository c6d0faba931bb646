from __future__ import annotations

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from json_bodies import TEXT, bodies, cut

from picker.models import locate, name, replace
from picker.renaming import Renamer


def renamed(pieces: list[bytes], target: str) -> bytes:
    renamer = Renamer(lambda _: target)
    return b"".join([*(renamer.feed(piece) for piece in pieces), renamer.finish()])


@given(bodies(), TEXT, st.lists(st.integers(0, 400)))
@example(b'{"model":"a\\"b","x":"model","model" : "c"}', "t", [3, 12, 13, 14, 30])
def test_pieces_are_renamed_as_the_whole_is(body: bytes, target: str, cuts: list[int]) -> None:
    after = renamed(cut(body, cuts), target)
    model = name(body)
    found = None if model is None else locate(body, model)
    if found is not None:
        # Where the name is the same its spelling stays.
        same = [json.loads(body[start:end]) == target for start, end in found.spans]
        if not any(same):
            assert after == replace(body, found, target)
        assert json.loads(after)["model"] == target
    assert {key: value for key, value in json.loads(after).items() if key != "model"} == {
        key: value for key, value in json.loads(body).items() if key != "model"
    }


@given(st.binary() | st.text().map(str.encode), st.lists(st.integers(0, 400)))
@example(b'{"model":"qwen', [])
@example(b'{"model":"\xff"}', [12])
@example(b'["model","a"]', [])
def test_what_is_no_document_or_keeps_its_name_passes_as_it_is(body: bytes, cuts: list[int]) -> None:
    renamer = Renamer(lambda model: model)
    assert b"".join([*(renamer.feed(piece) for piece in cut(body, cuts)), renamer.finish()]) == body


@pytest.mark.parametrize("key", ["model", "mod\\u0065l", "\\u006d\\u006f\\u0064\\u0065\\u006c"])
def test_nothing_is_kept_but_the_name(key: str) -> None:
    renamer = Renamer(lambda model: f"{model}-v2")
    assert renamer.feed(b'{"prompt": "' + b"x" * 10_000) == b'{"prompt": "' + b"x" * 10_000
    assert renamer.feed(b'", "' + key.encode()) == b'", "' + key.encode()
    assert renamer.feed(b'": "qw') == b'": '
    assert renamer.feed(b'en", "n"') == b'"qwen-v2", "n"'
    assert renamer.finish() == b""


def test_a_name_without_end_is_not_kept() -> None:
    renamer = Renamer(lambda _: "t")
    body = b'{"model":"' + b"x" * 100_000 + b'"}'
    assert renamer.feed(body[:90_000]) + renamer.feed(body[90_000:]) == body
