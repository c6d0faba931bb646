"""vLLM's metrics, under vLLM's names (docs.vllm.ai, Production Metrics)."""

from collections.abc import Iterator

from simulator.dialects.exposition import counter, escape, gauge, histogram
from simulator.driver import Driver
from simulator.spec import ServerSpec


def render(spec: ServerSpec, driver: Driver) -> bytes:
    """Write the present values of all metrics."""
    labels = f'engine="0",model_name="{escape(spec.served_names[0])}"'
    return "".join((*_values(driver, labels), *_infos(spec, driver), *_histograms(driver, labels))).encode()


def _values(driver: Driver, labels: str) -> Iterator[str]:
    engine, counts = driver.engine, driver.engine.counts
    gauges = (
        ("vllm:num_requests_running", "Requests in the running batch.", engine.running),
        ("vllm:num_requests_waiting", "Requests waiting for a place in the batch.", engine.waiting),
        ("vllm:kv_cache_usage_perc", "Share of the KV cache in use, 1 is all.", engine.cache_usage),
    )
    counters = (
        ("vllm:prefix_cache_queries_total", "Prompt tokens looked up in the prefix cache.", counts.queried),
        ("vllm:prefix_cache_hits_total", "Prompt tokens found in the prefix cache.", counts.hits),
        ("vllm:prompt_tokens_total", "Prompt tokens processed.", counts.prompt),
        ("vllm:generation_tokens_total", "Tokens generated.", counts.generated),
        ("vllm:num_preemptions_total", "Preemptions.", counts.preemptions),
    )
    for name, about, value in gauges:
        yield gauge(name, about, labels, value)
    for name, about, count in counters:
        yield counter(name, about, labels, count)
    name = "vllm:request_success_total"
    yield f"# HELP {name} Requests finished, by reason.\n# TYPE {name} counter\n"
    for reason in ("stop", "length", "abort"):
        yield f'{name}{{{labels},finished_reason="{reason}"}} {float(driver.seen.finished[reason])!r}\n'


def _infos(spec: ServerSpec, driver: Driver) -> Iterator[str]:
    name = "vllm:cache_config_info"
    yield (
        f"# HELP {name} The KV cache's configuration.\n# TYPE {name} gauge\n"
        f'{name}{{block_size="{spec.block_size}",enable_prefix_caching="{spec.prefix_caching}",engine="0",'
        f'gpu_memory_utilization="{spec.gpu_memory_utilization}",num_gpu_blocks="{spec.num_blocks}"}} 1.0\n'
    )
    if not spec.lora_enabled:
        return
    name = "vllm:lora_requests_info"
    yield f"# HELP {name} LoRA adapters of running and waiting requests.\n# TYPE {name} gauge\n"
    # Every pair that was ever seen is a series, and its value is when it was last true: readers take the newest.
    for (running, waiting), seen in driver.seen.adapter_sets.items():
        yield (
            f'{name}{{max_lora="{spec.max_loras}",running_lora_adapters="{escape(running)}",'
            f'waiting_lora_adapters="{escape(waiting)}"}} {seen!r}\n'
        )


def _histograms(driver: Driver, labels: str) -> Iterator[str]:
    seen = driver.seen
    yield from histogram("vllm:time_to_first_token_seconds", "Time to the first token.", seen.first_token, labels)
    yield from histogram("vllm:e2e_request_latency_seconds", "Time of a request.", seen.whole_request, labels)
