from __future__ import annotations

from itertools import count

import orjson
from picker_worlds import body_message, destinations, headers_message, identity

from picker.exchange import Exchange, Pool, refuse
from picker.models import Targets
from picker.table import Endpoint, Table
from protos.pointsman.envoy.v1.ext_proc_pb2 import ProcessingRequest


def pool(*addresses: str, models: dict[str, dict[str, int]] | None = None) -> Pool:
    table = Table()
    table.replace(Endpoint(address, "", waiting=number, reported=True) for number, address in enumerate(addresses))
    return Pool(
        "default/qwen",
        "cluster",
        {name: Targets.of(list(targets.items())) for name, targets in (models or {}).items()},
        table,
    )


def exchange(of: Pool, *, body_follows: bool = False, throw: float = 0.0) -> Exchange:
    numbers = count()
    return Exchange(of, body_follows=body_follows, identify=lambda: f"i-{next(numbers)}", dice=lambda: throw)


def test_headers_alone_are_answered_with_the_pick() -> None:
    made = exchange(pool("a:1", "b:1", "c:1", "d:1"))
    answer = made.receive(headers_message("qwen"))
    assert answer.WhichOneof("response") == "request_headers"
    assert destinations(answer) == ["a:1", "b:1", "c:1"]
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
        made.receive(headers_message("qwen"))
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
    made = exchange(Pool("default/qwen", "cluster", {}))
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
    body = orjson.loads(refuse(503, "unknown_pool", "The pool x is not known").immediate_response.body)
    assert body["error"]["message"] == "The pool x is not known."
