import json
from dataclasses import replace

import pytest

from pointsman.demo import Answer, Shot, rule, verdict
from pointsman.expectation import Case

CASE = Case(
    gateway="default/gw",
    listener="http",
    host=None,
    headers=(),
    model="qwen",
    rule="default/chat rule 0",
    pools=frozenset({"default/one"}),
    pods=frozenset({"pod-one"}),
)
SHOT = Shot(CASE, stream=True, long=False)
GOOD = Answer(status=200, request_id="id", pod="pod-one", first_byte=0.1, total=0.2, ended=True)
LINE = {"pool": "default/one"}


def test_a_good_answer_has_nothing_wrong() -> None:
    assert verdict(SHOT, GOOD, LINE) == ""


def test_the_wrong_pod_is_said() -> None:
    assert verdict(SHOT, replace(GOOD, pod="pod-two"), LINE) == "expected a pod of default/one"


def test_the_wrong_pool_is_said() -> None:
    assert verdict(SHOT, GOOD, {"pool": "default/two"}) == "the picker was asked for default/two"
    assert verdict(SHOT, GOOD, {}) == "the picker was asked for nothing"


def test_a_refusal_is_said_unless_the_prompt_is_too_long_for_the_right_server() -> None:
    refused = replace(GOOD, status=400, ended=False)
    assert verdict(SHOT, refused, LINE) == "expected 200"
    assert verdict(replace(SHOT, long=True), refused, LINE) == ""


def test_a_stream_that_is_cut_is_said() -> None:
    assert verdict(SHOT, replace(GOOD, ended=False), LINE) == "cut short"


@pytest.mark.parametrize(("long", "size"), [(False, 0), (True, 200_000)])
def test_the_model_stands_first_or_last(long: bool, size: int) -> None:  # noqa: FBT001 - pytest's parameter
    body = replace(SHOT, long=long).body()
    document = json.loads(body)
    assert document["model"] == "qwen"
    assert len(body) >= size
    assert list(document).index("model") == (len(document) - 1 if long else 0)


def test_a_route_name_tells_the_rule() -> None:
    assert rule("httproute/default/chat/rule/2/match/0") == "default/chat rule 2"
    assert rule("something else") == "something else"
