from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from picker.metrics_text import DIALECTS, Report, read
from protos.pointsman.picker.v1.pool_pb2 import RUNTIME_SGLANG, RUNTIME_VLLM

VLLM = DIALECTS[RUNTIME_VLLM]


def test_vllms_page() -> None:
    page = b"""# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="a}b"} 3.0
vllm:num_requests_waiting_by_reason{engine="0"} 100.0
vllm:num_requests_waiting{engine="0",model_name="x"} 2.0
vllm:kv_cache_usage_perc{engine="0",model_name="x"} 0.25
vllm:e2e_request_latency_seconds_bucket{le="+Inf"} 7
"""
    assert read(page, VLLM) == Report(2, 3, 0.25)


def test_several_engines_add_up_and_the_fullest_counts() -> None:
    page = b"""vllm:num_requests_waiting{engine="0"} 2
vllm:num_requests_waiting{engine="1"} 5
vllm:kv_cache_usage_perc{engine="0"} 0.9
vllm:kv_cache_usage_perc{engine="1"} 0.1"""
    assert read(page, VLLM) == Report(7, 0, 0.9)


def test_the_older_name_of_the_cache() -> None:
    assert read(b"vllm:gpu_cache_usage_perc 0.5 1700000000000\n", VLLM) == Report(0, 0, 0.5)


def test_sglangs_page() -> None:
    page = b'sglang:num_queue_reqs{tp="0"} 4\nsglang:num_running_reqs 6\nsglang:token_usage 0.75\n'
    assert read(page, DIALECTS[RUNTIME_SGLANG]) == Report(4, 6, 0.75)


def test_a_page_of_something_else() -> None:
    assert read(b"go_goroutines 5\n", VLLM) is None
    assert read(b"", VLLM) is None


def test_values_that_are_no_counts_are_passed_over() -> None:
    page = b"vllm:num_requests_waiting NaN\nvllm:num_requests_running +Inf\nvllm:kv_cache_usage_perc -1\n"
    assert read(page, VLLM) is None
    assert read(page + b"vllm:num_requests_waiting 1\n", VLLM) == Report(1, 0, 0)


@given(st.binary(max_size=80))
def test_any_page_is_read_without_error(noise: bytes) -> None:
    read(noise, VLLM)
    read(b"vllm:num_requests_waiting" + noise, VLLM)
