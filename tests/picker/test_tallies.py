from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from picker_worlds import assignment, headers_message, pool, response
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from picker.exchange import Exchange, Picked
from picker.figures import Figures
from picker.in_flight import InFlight
from picker.pools import ENDPOINTS_TYPE, POOL_TYPE, Directory
from picker.tallies import OTHER, SECONDS, Key, Spread, Tallies, counted, merged
from picker.telemetry import Telemetry
from picker.usage import Usage

QWEN, CLUSTER = "default/qwen", "pool/default/qwen"
VALUES = st.lists(st.floats(0, 4000), max_size=20)


def key(model: str = "m", status: int = 200) -> Key:
    return Key("g", "r", QWEN, model, "t", status)


@given(VALUES, VALUES)
def test_a_spread_is_prometheus_histogram(one: list[float], two: list[float]) -> None:
    spread, other = Spread(SECONDS), Spread(SECONDS)
    for value in one:
        spread.add(value)
    for value in two:
        other.add(value)
    spread.merge(other)
    rows = dict(spread.cumulated())
    assert rows["+Inf"] == len(one + two)
    for bound in SECONDS:
        assert rows[str(float(bound))] == sum(value <= bound for value in one + two)
    assert abs(spread.total - sum(one + two)) < 1e-6


@given(st.lists(st.tuples(st.text(max_size=3), st.sampled_from([200, 429, 503])), max_size=40))
def test_names_are_bounded_and_nothing_is_lost(models: list[tuple[str, int]]) -> None:
    tallies = Tallies(limit=5)
    for model, status in models:
        tallies.of(key(model=model, status=status)).count += 1
    assert len(list(tallies)) <= 5 + 3
    assert sum(counted(tallies, lambda _: ()).values()) == len(models)


def test_the_rest_is_other() -> None:
    tallies = Tallies(limit=1)
    tallies.of(key())
    tallies.of(key(model="new", status=404))
    assert [each for each, _ in tallies] == [key(), Key(OTHER, OTHER, OTHER, OTHER, OTHER, 400)]


def test_figures_of_keys_with_the_same_labels_add_up() -> None:
    tallies = Tallies()
    for status in (200, 200, 503):
        tallies.of(key(status=status)).duration.add(1.0)
    assert merged(tallies, lambda each: (each.pool,), lambda tally: tally.duration)[(QWEN,)].total == 3.0
    good = merged(tallies, lambda each: None if each.status > 200 else (), lambda tally: tally.duration)
    assert good[()].total == 2.0


def picked(directory: Directory, model: str, identity: str) -> Picked:
    exchange = Exchange(directory.pools[QWEN], body_follows=False, identify=lambda: identity, dice=lambda: 0.0)
    exchange.receive(headers_message(model))
    assert exchange.picked is not None
    return exchange.picked


def samples(telemetry: Telemetry) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    families = text_string_to_metric_families(generate_latest(telemetry.registry).decode())
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def test_every_name_is_shown_with_its_labels() -> None:
    directory, in_flight = Directory("up"), InFlight()
    telemetry = Telemetry(directory, in_flight)
    directory.receive(response(POOL_TYPE, {QWEN: ("1", pool(QWEN, models={"m": {"m-1": 1}}))}))
    directory.receive(response(ENDPOINTS_TYPE, {CLUSTER: ("1", assignment(CLUSTER, [("127.0.0.1:80", "default/a")]))}))
    directory.members["127.0.0.1:80"].endpoint.report(3, 2, 0.5, 0, 0.0)
    table = directory.pools[QWEN].table
    assert table is not None
    table.refresh()
    for number, model in enumerate(("m", "m", "chosen-by-a-client")):
        request = picked(directory, model, str(number))
        telemetry.decide(request)
        in_flight.begin(request)
    in_flight.finish("0")
    for model, target, status in (
        ("m", "m-1", 200),
        ("m", "m-1", 503),
        ("chosen-by-a-client", "chosen-by-a-client", 0),
    ):
        tally = telemetry.tally("gw", "route 1", QWEN, model, target, status)
        Figures(2.0, 0.02, Usage(20, 16, 10), streamed=True).add_to(tally)
        tally.bodies.add(600)
    shown = samples(telemetry)
    models = {"model_name": "m", "target_model_name": "m-1"}
    gen_ai = {
        "gateway": "gw",
        "route": "route 1",
        "pool": QWEN,
        "gen_ai_request_model": "m",
        "gen_ai_response_model": "m-1",
    }
    other = {"model_name": "other", "target_model_name": "other"}
    pod = {"name": QWEN, "model_server_pod": "default/a"}
    for name, labels, value in (
        ("pointsman_picker_requests_total", {"pool": QWEN, "model": "m", "status": "200"}, 1),
        ("pointsman_picker_decisions_total", {"pool": QWEN, "reason": "only"}, 3),
        ("pointsman_picker_request_duration_seconds_sum", {"pool": QWEN}, 6),
        ("gen_ai_server_request_duration_seconds_count", {**gen_ai, "error_type": ""}, 1),
        ("gen_ai_server_request_duration_seconds_count", {**gen_ai, "error_type": "503"}, 1),
        ("gen_ai_server_time_to_first_token_seconds_sum", gen_ai, 0.02),
        ("gen_ai_server_time_to_first_token_seconds_bucket", {**gen_ai, "le": "0.025"}, 1),
        ("gen_ai_server_time_per_output_token_seconds_sum", gen_ai, 0.22),
        ("gen_ai_client_token_usage_sum", {**gen_ai, "gen_ai_token_type": "input"}, 20),
        ("gen_ai_client_token_usage_sum", {**gen_ai, "gen_ai_token_type": "cached_input"}, 16),
        ("gen_ai_client_token_usage_sum", {**gen_ai, "gen_ai_token_type": "output"}, 10),
        ("gen_ai_client_token_usage_bucket", {**gen_ai, "gen_ai_token_type": "output", "le": "4.0"}, 0),
        ("inference_model_request_total", models, 2),
        ("inference_model_request_error_total", {**models, "error_code": "503"}, 1),
        ("inference_model_request_error_total", {**other, "error_code": "0"}, 1),
        ("inference_model_request_duration_seconds_sum", models, 4),
        ("inference_model_request_sizes_sum", models, 1200),
        ("inference_model_input_tokens_sum", models, 40),
        ("inference_model_output_tokens_sum", models, 20),
        ("inference_model_prompt_cached_tokens_sum", models, 32),
        ("inference_model_normalized_time_per_output_token_seconds_sum", models, 0.4),
        ("inference_model_running_requests", {"model_name": "m"}, 1),
        ("inference_model_running_requests", {"model_name": "other"}, 1),
        ("inference_pool_average_kv_cache_utilization", {"name": QWEN}, 0.5),
        ("inference_pool_average_queue_size", {"name": QWEN}, 3),
        ("inference_pool_per_pod_queue_size", pod, 3),
        ("inference_pool_ready_pods", {"name": QWEN}, 1),
    ):
        assert shown[name, frozenset(labels.items())] == pytest.approx(value), name
    assert not any("chosen-by-a-client" in str(labels) for _, labels in shown)


def test_endpoints_that_are_gone_leave_no_series() -> None:
    directory = Directory("up")
    telemetry = Telemetry(directory, InFlight())
    rows = [(f"127.0.0.{number}:80", f"default/{number}") for number in range(1, 10)]
    directory.receive(response(POOL_TYPE, {QWEN: ("1", pool(QWEN))}))
    directory.receive(response(ENDPOINTS_TYPE, {CLUSTER: ("1", assignment(CLUSTER, rows))}))
    for address, pod in rows:
        telemetry.fail_scrape(address, pod)
        telemetry.avoid(address, pod)
    assert len({dict(labels).get("endpoint") for _, labels in samples(telemetry)} - {None}) == 9
    directory.receive(response(ENDPOINTS_TYPE, {CLUSTER: ("2", assignment(CLUSTER, rows[:1]))}))
    telemetry.forget_others()
    assert {dict(labels).get("endpoint") for _, labels in samples(telemetry)} == {None, "127.0.0.1:80"}
