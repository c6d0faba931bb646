"""SGLang's metrics, under SGLang's names (docs.sglang.ai, Production Metrics)."""

from collections.abc import Iterator

from simulator.dialects.exposition import counter, escape, gauge, histogram
from simulator.driver import Driver
from simulator.spec import Role, ServerSpec

_ENGINES = {None: "unified", Role.PREFILL: "prefill", Role.DECODE: "decode"}


def render(spec: ServerSpec, driver: Driver, meeting: int) -> bytes:
    """Write the present values of all metrics; `meeting` requests wait for the other half of the work."""
    role = spec.disaggregation.role if spec.disaggregation else None
    labels = f'engine_type="{_ENGINES[role]}",model_name="{escape(spec.served_names[0])}",pp_rank="0",tp_rank="0"'
    return "".join(
        (*_values(spec, driver, labels), *_meetings(role, labels, meeting), *_times(driver, labels))
    ).encode()


def _values(spec: ServerSpec, driver: Driver, labels: str) -> Iterator[str]:
    engine, counts = driver.engine, driver.engine.counts
    rate = counts.hits / counts.queried if counts.queried else 0.0
    used = engine.cache.used * spec.block_size
    total = spec.num_blocks * spec.block_size
    finished = sum(driver.seen.finished.values())
    yield gauge("sglang:num_running_reqs", "Requests in the running batch.", labels, engine.running)
    yield gauge("sglang:num_queue_reqs", "Requests waiting for a place in the batch.", labels, engine.waiting)
    yield gauge("sglang:num_used_tokens", "Tokens in the KV cache that requests use.", labels, used)
    yield gauge("sglang:token_usage", "Share of the KV cache in use, 1 is all.", labels, engine.cache_usage)
    yield gauge("sglang:cache_hit_rate", "Share of the prompt tokens that were found in the cache.", labels, rate)
    yield gauge("sglang:max_total_num_tokens", "Tokens that the KV cache holds.", labels, total)
    yield gauge(
        "sglang:cache_config_info",
        "The KV cache's configuration.",
        f'{labels},page_size="{spec.block_size}",num_pages="{spec.num_blocks}"',
        1,
    )
    yield counter("sglang:prompt_tokens_total", "Prompt tokens processed.", labels, counts.prompt)
    yield counter("sglang:generation_tokens_total", "Tokens generated.", labels, counts.generated)
    yield counter("sglang:cached_tokens_total", "Prompt tokens found in the cache.", labels, counts.hits)
    yield counter("sglang:num_requests_total", "Requests finished.", labels, finished)
    yield counter("sglang:num_aborted_requests_total", "Requests aborted.", labels, driver.seen.finished["abort"])


def _meetings(role: Role | None, labels: str, meeting: int) -> Iterator[str]:
    if role is Role.PREFILL:
        name, about = "sglang:num_prefill_bootstrap_queue_reqs", "Requests that wait for their decode server."
        yield gauge(name, about, labels, meeting)
    elif role is Role.DECODE:
        name, about = "sglang:num_decode_transfer_queue_reqs", "Requests that wait for their KV values."
        yield gauge(name, about, labels, meeting)


def _times(driver: Driver, labels: str) -> Iterator[str]:
    seen = driver.seen
    yield from histogram("sglang:time_to_first_token_seconds", "Time to the first token.", seen.first_token, labels)
    yield from histogram("sglang:e2e_request_latency_seconds", "Time of a request.", seen.whole_request, labels)
