from __future__ import annotations

import json
import random
from collections import Counter

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from json_bodies import TEXT, bodies

from picker.models import Found, Targets, locate, name, replace


def find(body: bytes) -> Found | None:
    model = name(body)
    return None if model is None else locate(body, model)


@given(bodies(), TEXT)
def test_only_the_model_changes(body: bytes, target: str) -> None:
    before = json.loads(body)
    found = find(body)
    if not isinstance(before.get("model"), str):
        assert found is None
        return
    assert found is not None
    assert found.model == before["model"]
    after = replace(body, found, target)
    assert json.loads(after) == {**before, "model": target}
    # Every other byte stays.
    gaps = zip((0, *(end for _, end in found.spans)), (*(start for start, _ in found.spans), len(body)), strict=True)
    assert after == orjson.dumps(target).join(body[start:end] for start, end in gaps)


@given(st.binary(max_size=60))
def test_any_bytes_are_looked_at_without_error(body: bytes) -> None:
    found = find(body)
    if found is not None:
        assert json.loads(body)["model"] == found.model


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b'"model"',
        b'["model", "a"]',
        b'{"model": 5}',
        b'{"model": null}',
        b'{"model": {"model": "a"}}',
        b'{"messages": [{"model": "a"}]}',
        b'{"x": "\\"model\\": \\"a\\""}',
        b'{"model": "a"',
        b'{"model": "a"} x',
        b'{"model": "a", "model": 5}',
        b'\xef\xbb\xbf{"model": "a"}',
    ],
)
def test_what_names_no_model_is_left_alone(body: bytes) -> None:
    assert find(body) is None


def test_bytes_around_the_model_stay() -> None:
    body = b'{ "model" :\t"a" , "n":1.50, "t":"\\u00e9\\/" ,"x":{"model":"b"}}'
    found = find(body)
    assert found is not None
    assert replace(body, found, 'z"') == b'{ "model" :\t"z\\"" , "n":1.50, "t":"\\u00e9\\/" ,"x":{"model":"b"}}'


def test_all_of_a_repeated_key_is_replaced() -> None:
    body = b'{"model":"a","model":"b"}'
    found = find(body)
    assert found is not None
    assert found.model == "b"
    assert replace(body, found, "c") == b'{"model":"c","model":"c"}'


def test_targets_are_drawn_by_weight() -> None:
    targets = Targets.of([("a", 9), ("b", 1)])
    dice = random.Random(1).random  # noqa: S311  (dice)
    drawn = Counter(targets.draw(dice) for _ in range(2000))
    assert set(drawn) == {"a", "b"}
    assert 130 < drawn["b"] < 270


@given(st.lists(st.integers(1, 1_000_000), min_size=1, max_size=5), st.floats(0, 1, exclude_max=True))
def test_any_throw_draws_a_target(weights: list[int], throw: float) -> None:
    targets = Targets.of([(str(number), weight) for number, weight in enumerate(weights)])
    assert targets.draw(lambda: throw) in targets.names


def test_no_targets_means_the_models_own_name() -> None:
    assert Targets.of([]).draw(lambda: 0.0) is None
