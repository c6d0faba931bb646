from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from picker.metrics_text import DIALECTS, Adapters, Dialect, Family, Report, dialect_of, read, read_any
from protos.pointsman.picker.v1.pool_pb2 import (
    RUNTIME_SGLANG,
    RUNTIME_TENSORRT_LLM,
    RUNTIME_TGI,
    RUNTIME_TRITON,
    RUNTIME_VLLM,
)

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


def test_first_tokens_are_counted_where_the_page_counts_them() -> None:
    page = b"""vllm:num_requests_running{engine="0"} 3.0
vllm:time_to_first_token_seconds_bucket{engine="0",le="+Inf"} 41.0
vllm:time_to_first_token_seconds_count{engine="0"} 41.0
vllm:time_to_first_token_seconds_count{engine="1"} 9.0
"""
    assert read(page, VLLM) == Report(0, 3, 0, first_tokens=50)
    page = b"sglang:num_running_reqs 6\nsglang:time_to_first_token_seconds_count 7\n"
    assert read(page, DIALECTS[RUNTIME_SGLANG]) == Report(0, 6, 0, first_tokens=7)


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


PAGES: dict[int, bytes] = {
    RUNTIME_SGLANG: b'sglang:num_queue_reqs{tp="0"} 4\nsglang:num_running_reqs 6\nsglang:token_usage 0.75\n',
    RUNTIME_TENSORRT_LLM: b"""trtllm_num_requests_waiting{model_name="m"} 4.0
trtllm_num_requests_running{model_name="m"} 6.0
trtllm_kv_cache_utilization{model_name="m"} 0.75
""",
    RUNTIME_TRITON: b"""# TYPE nv_trt_llm_request_metrics gauge
nv_trt_llm_request_metrics{model="tensorrt_llm",request_type="waiting",version="1"} 4
nv_trt_llm_request_metrics{model="tensorrt_llm",request_type="scheduled",version="1"} 6
nv_trt_llm_request_metrics{model="tensorrt_llm",request_type="max",version="1"} 512
nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="fraction",model="tensorrt_llm",version="1"} 0.75
nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="max",model="tensorrt_llm",version="1"} 6239
""",
}


@pytest.mark.parametrize("runtime", PAGES)
def test_every_runtimes_page(runtime: int) -> None:
    assert read(PAGES[runtime], DIALECTS[runtime]) == Report(4, 6, 0.75)
    assert read(PAGES[runtime], VLLM) is None
    assert read_any(PAGES[runtime], VLLM) == Report(4, 6, 0.75)


def test_tgi_does_not_tell_of_its_cache() -> None:
    page = b"# TYPE tgi_queue_size gauge\ntgi_queue_size 4\ntgi_batch_current_size 6\n"
    assert read(page, DIALECTS[RUNTIME_TGI]) == Report(4, 6, 0)


def test_names_of_ones_own() -> None:
    own = dialect_of(
        RUNTIME_VLLM, {"waiting": "my_requests{state=queued}", "kv_usage": 'my_cache{kind="gpu"},my_cache'}
    )
    page = b'my_requests{state="queued"} 3\nmy_requests{state="running"} 9\nmy_cache 0.5\n'
    assert read_any(page, own) == Report(3, 0, 0.5)
    assert read_any(page, VLLM) is None
    # What has no name of its own is called as the runtime calls it.
    assert read_any(page + b"vllm:num_requests_running 7\n", own) == Report(3, 7, 0.5)


@pytest.mark.parametrize("names", [{"waiting": "a b"}, {"waiting": ""}, {"wating": "a"}, {"running": "a{b}"}])
def test_names_that_are_none(names: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"neither a metric|no such figure"):
        Dialect.of(names)


def test_a_family_with_a_label() -> None:
    assert Family.of("a:b{c=d}") == Family(b"a:b", b'c="d"')


LORA = b"""vllm:num_requests_waiting 0
vllm:lora_requests_info{max_lora="4",running_lora_adapters="old",waiting_lora_adapters=""} 1.7e+09
vllm:lora_requests_info{max_lora="2",running_lora_adapters="a,b\\"c",waiting_lora_adapters="d"} 1.7000001e+09
vllm:lora_requests_info{max_lora="3",running_lora_adapters="",waiting_lora_adapters="x"} 1.6e+09
"""


def test_of_vllms_adapters_the_newest_series_is_true() -> None:
    report = read(LORA, VLLM)
    assert report is not None
    assert report.adapters == Adapters(frozenset({"a", 'b\\"c'}), frozenset({"d"}), 2)


def test_a_page_of_something_else() -> None:
    assert read(b"go_goroutines 5\n", VLLM) is None
    assert read(b"", VLLM) is None


def test_values_that_are_no_counts_are_passed_over() -> None:
    page = b"vllm:num_requests_waiting NaN\nvllm:num_requests_waiting 1\nvllm:num_requests_running 2\n"
    assert read(page, VLLM) == Report(1, 2, 0)


@pytest.mark.parametrize("value", [b"NaN", b"+Inf", b"-1", b"1e300", b"full", b""])
@pytest.mark.parametrize("family", [b"vllm:num_requests_waiting", b"vllm:num_requests_running"])
def test_a_page_with_a_figure_that_says_nothing_does_not_say_zero(family: bytes, value: bytes) -> None:
    page = b"vllm:kv_cache_usage_perc 0\n" + family + b" " + value + b"\n"
    assert read(page, VLLM) is None


def test_names_in_comments_and_at_the_start_of_longer_names_are_passed_over() -> None:
    page = b"""# HELP a see vllm:num_requests_waiting {not} 7
vllm:num_requests_waiting_by_reason{reason="vllm:num_requests_waiting "} 7
 vllm:num_requests_waiting 7
vllm:num_requests_waiting{e="0"} 1
vllm:num_requests_waiting{e="1"} 2
vllm:num_requests_waiting_by_reason 7
"""
    assert read(page, VLLM) == Report(3, 0, 0)


@given(st.binary(max_size=80))
def test_any_page_is_read_without_error(noise: bytes) -> None:
    read(noise, VLLM)
    read(b"vllm:num_requests_waiting" + noise, VLLM)
