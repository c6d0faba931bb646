from __future__ import annotations

from collections.abc import Sequence
from itertools import count

import orjson
import pytest
from picker_worlds import body_message, destinations, headers_message, identity
from picker_worlds import pool as pool_message

from picker.exchange import Exchange, Pool
from picker.refusals import UNKNOWN_POOL, refuse
from picker.rules import Rules
from picker.table import Endpoint, Table
from protos.pointsman.envoy.v1.ext_proc_pb2 import ProcessingRequest, ProcessingResponse
from protos.pointsman.picker.v1 import pool_pb2


def pool(*addresses: str, models: dict[str, dict[str, int]] | None = None) -> Pool:
    table = Table()
    table.replace(Endpoint(address, "", waiting=number, reported=True) for number, address in enumerate(addresses))
    return Pool(
        "default/qwen",
        "cluster",
        Rules.of(pool_message("default/qwen", models=models)),
        table,
    )


def exchange(of: Pool, *, body_follows: bool = False, throw: float = 0.0, mirrors: Sequence[Pool] = ()) -> Exchange:
    numbers = count()
    return Exchange(
        of, body_follows=body_follows, identify=lambda: f"i-{next(numbers)}", dice=lambda: throw, mirrors=mirrors
    )


def copies(answer: ProcessingResponse) -> str | None:
    kind = getattr(answer, answer.WhichOneof("response") or "").response
    found = {each.header.key: each.header.raw_value.decode() for each in kind.header_mutation.set_headers}
    return found.get("x-pointsman-mirror-destination")


def test_copies_have_picks_of_their_own_in_a_header() -> None:
    mirrors = [pool("d:1", "e:1"), pool(), Pool("default/unknown", "cluster"), pool("f:1")]
    answer = exchange(pool("a:1"), mirrors=mirrors).receive(headers_message("qwen"))
    assert destinations(answer) == ["a:1"]
    assert copies(answer) == "d:1,e:1,f:1"


def test_copies_of_a_request_with_a_body_are_picked_for_with_it() -> None:
    made = exchange(pool("a:1"), body_follows=True, mirrors=[pool("d:1")])
    assert copies(made.receive(headers_message("qwen"))) is None
    assert copies(made.receive(body_message(b'{"model":"qwen"}'))) == "d:1"


def test_without_copies_there_is_no_header() -> None:
    assert copies(exchange(pool("a:1")).receive(headers_message("qwen"))) is None
    assert copies(exchange(pool("a:1"), mirrors=[pool()]).receive(headers_message("qwen"))) is None


def test_headers_alone_are_answered_with_the_pick() -> None:
    made = exchange(pool("a:1", "b:1", "c:1", "d:1"))
    answer = made.receive(headers_message("qwen"))
    assert answer.WhichOneof("response") == "request_headers"
    assert destinations(answer) == ["a:1", "b:1", "c:1", "d:1"]
    assert identity(answer) == "i-0"
    assert made.done
    assert made.picked is not None
    assert (made.picked.model, made.picked.target, made.picked.pool) == ("qwen", "qwen", "default/qwen")


def test_headers_before_a_body_pass_without_a_pick() -> None:
    made = exchange(pool("a:1"), body_follows=True)
    answer = made.receive(headers_message("qwen"))
    assert not answer.HasField("dynamic_metadata")
    assert not made.done


def test_headers_that_end_the_stream_are_answered_though_a_body_was_announced() -> None:
    made = exchange(pool("a:1"), body_follows=True)
    assert destinations(made.receive(headers_message("qwen", end_of_stream=True))) == ["a:1"]
    assert made.done


def test_the_drawn_target_replaces_the_model() -> None:
    of = pool("a:1", models={"qwen": {"v1": 9, "v2": 1}})
    for throw, target in ((0.0, "v1"), (0.89, "v1"), (0.95, "v2")):
        made = exchange(of, body_follows=True, throw=throw)
        made.receive(headers_message("qwen", length=22))
        answer = made.receive(body_message(b'{"model":"qwen","n":1}'))
        common = answer.request_body.response
        assert orjson.loads(common.body_mutation.body) == {"model": target, "n": 1}
        [option] = common.header_mutation.set_headers
        assert option.header.key == "content-length"
        assert int(option.header.raw_value) == len(common.body_mutation.body)
        assert made.done
        assert made.picked is not None
        assert (made.picked.model, made.picked.target) == ("qwen", target)


def test_the_bodys_model_counts_even_without_a_header() -> None:
    made = exchange(pool("a:1", models={"qwen": {"v1": 1}}), body_follows=True)
    made.receive(headers_message())
    made.receive(body_message(b'{"model":"qwen"}'))
    assert made.picked is not None
    assert made.picked.target == "v1"


def test_a_body_that_needs_no_change_is_not_touched() -> None:
    of = pool("a:1", models={"qwen": {"qwen": 1}, "bare": {}})
    for body in (b'{"model":"qwen"}', b'{"model":"bare"}', b'{"model":"undeclared"}', b"no json", b"", b"[1]"):
        made = exchange(of, body_follows=True)
        made.receive(headers_message())
        answer = made.receive(body_message(body))
        assert destinations(answer) == ["a:1"]
        assert not answer.request_body.HasField("response")


def test_a_pool_without_endpoints_is_refused_naming_the_model() -> None:
    for body_follows in (False, True):
        made = exchange(pool(models={"qwen": {"v1": 1}}), body_follows=body_follows)
        answer = made.receive(headers_message("qwen"))
        if body_follows:
            answer = made.receive(body_message(b'{"model":"qwen"}'))
        immediate = answer.immediate_response
        assert (immediate.status.code, immediate.details) == (503, "pointsman_no_ready_endpoint")
        assert orjson.loads(immediate.body) == {
            "error": {
                "message": "No pod of the pool default/qwen is ready to serve the model 'qwen'.",
                "type": "service_unavailable_error",
                "param": None,
                "code": "no_ready_endpoint",
            }
        }
        [option] = immediate.headers.set_headers
        assert (option.header.key, option.header.raw_value) == ("content-type", b"application/json")
        assert made.done
        assert made.refused == "no_ready_endpoint"


def test_endpoints_that_are_not_known_yet_leave_the_choice_to_envoy() -> None:
    made = exchange(Pool("default/qwen", "cluster"))
    answer = made.receive(headers_message("qwen"))
    assert answer.WhichOneof("response") == "request_headers"
    assert not answer.HasField("dynamic_metadata")
    assert made.done


def test_the_subset_hint_confines_the_choice() -> None:
    for as_list in (False, True):
        message = headers_message("qwen")
        value = message.metadata_context.filter_metadata["envoy.lb.subset_hint"].fields[
            "x-gateway-destination-endpoint-subset"
        ]
        if as_list:
            value.list_value.values.add(string_value="b:1")
            value.list_value.values.add(string_value="c:1")
        else:
            value.string_value = "b:1, c:1"
        assert destinations(exchange(pool("a:1", "b:1", "c:1")).receive(message)) == ["b:1", "c:1"]


def test_a_message_about_the_response_passes() -> None:
    message = ProcessingRequest()
    message.response_headers.end_of_stream = False
    made = exchange(pool("a:1"))
    assert made.receive(message).WhichOneof("response") == "response_headers"
    assert made.done


def test_a_refusal_without_a_model() -> None:
    body = orjson.loads(refuse(UNKNOWN_POOL, "", "x").immediate_response.body)
    assert body["error"]["message"] == "The pool x is not known to the endpoint picker."


def judged(
    of: Pool, model: str, *, body: bool, objective: str = "", header: str = "x-llm-d-inference-objective"
) -> ProcessingResponse:
    made = exchange(of, body_follows=body)
    message = headers_message(model)
    if objective:
        message.request_headers.headers.headers.add(key=header, raw_value=objective.encode())
    answer = made.receive(message)
    return made.receive(body_message(orjson.dumps({"model": model}))) if body else answer


def busy(unlisted: pool_pb2.Unlisted.ValueType) -> Pool:
    made = pool("a:1", "b:1")
    message = pool_pb2.Pool(name="default/qwen", unlisted=unlisted)
    message.models.add(name="critical", criticality=pool_pb2.CRITICALITY_CRITICAL)
    message.models.add(name="cheap", criticality=pool_pb2.CRITICALITY_SHEDDABLE)
    message.objectives.add(name="batch", priority=-5)
    made.rules = Rules.of(message)
    assert made.table is not None
    made.table.endpoints[0].waiting = 6
    made.table.endpoints[1].kv_usage = 0.81
    return made


@pytest.mark.parametrize("body", [False, True])
def test_a_busy_pool_sheds_at_once_and_says_when_to_come_back(body: bool) -> None:  # noqa: FBT001  (a parameter)
    of = busy(pool_pb2.UNLISTED_SHEDDABLE)
    for model in ("cheap", "unlisted"):
        immediate = judged(of, model, body=body).immediate_response
        assert (immediate.status.code, immediate.details) == (429, "pointsman_saturated")
        error = orjson.loads(immediate.body)["error"]
        assert (error["type"], error["code"]) == ("rate_limit_error", "saturated")
        assert f"'{model}'" in error["message"]
        said = {option.header.key: option.header.raw_value for option in immediate.headers.set_headers}
        assert said == {"content-type": b"application/json", "retry-after": b"1"}
    assert destinations(judged(of, "critical", body=body)) == ["b:1", "a:1"]


def test_objectives_are_read_from_either_header() -> None:
    of = busy(pool_pb2.UNLISTED_STANDARD)
    for header in ("x-llm-d-inference-objective", "x-gateway-inference-objective"):
        answer = judged(of, "unlisted", body=False, objective="batch", header=header)
        assert answer.immediate_response.status.code == 429
    assert destinations(judged(of, "unlisted", body=False, objective="other")) != []


def test_what_may_be_shed_goes_where_there_is_room() -> None:
    of = busy(pool_pb2.UNLISTED_SHEDDABLE)
    assert of.table is not None
    of.table.endpoints[0].waiting = 5
    of.table.endpoints[1].waiting = 6
    assert destinations(judged(of, "cheap", body=False)) == ["a:1", "b:1"]


def test_a_model_that_the_pool_does_not_list_may_be_refused() -> None:
    of = busy(pool_pb2.UNLISTED_REFUSED)
    for body in (False, True):
        immediate = judged(of, "unlisted", body=body).immediate_response
        assert (immediate.status.code, immediate.details) == (404, "pointsman_model_not_found")
        assert orjson.loads(immediate.body) == {
            "error": {
                "message": "The model 'unlisted' does not exist.",
                "type": "invalid_request_error",
                "param": "model",
                "code": "model_not_found",
            }
        }
    assert destinations(judged(of, "critical", body=True)) == ["b:1", "a:1"]
    assert destinations(judged(of, "", body=True)) == ["b:1", "a:1"]


def test_a_rewrite_renames_what_no_inference_model_names() -> None:
    of = pool("a:1")
    message = pool_pb2.Pool(name="default/qwen")
    message.rewrites.add(models=["old"]).targets.add(name="new", weight=1)
    of.rules = Rules.of(message)
    answer = judged(of, "old", body=True)
    assert orjson.loads(answer.request_body.response.body_mutation.body) == {"model": "new"}
    assert not judged(of, "other", body=True).request_body.HasField("response")
