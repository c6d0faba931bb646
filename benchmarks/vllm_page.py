"""A /metrics page as long as a vLLM server's, 46 KB, with the families, labels and buckets that one has.

The official client library writes it, as in vLLM itself, so that its form is right to the byte.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, generate_latest

_MODEL = {"model_name": "Qwen/Qwen3-8B", "engine": "0"}
_LABELS = tuple(_MODEL)

_GAUGES = ("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc", "engine_sleep_state")
_COUNTERS = (
    "prefix_cache_queries",
    "prefix_cache_hits",
    "external_prefix_cache_queries",
    "external_prefix_cache_hits",
    "mm_cache_queries",
    "mm_cache_hits",
    "num_preemptions",
    "prompt_tokens",
    "generation_tokens",
    "corrupted_requests",
)


def _one_two_five(highest: int) -> tuple[float, ...]:
    return tuple(float(digit * 10**power) for power in range(8) for digit in (1, 2, 5) if digit * 10**power <= highest)


_SECONDS = (0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680)
_FIRST_TOKEN = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75),
    *(1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 640, 2560),
)
_NEXT_TOKEN = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80)
_HISTOGRAMS: dict[str, tuple[float, ...]] = {
    "request_prompt_tokens": _one_two_five(100_000),
    "request_generation_tokens": _one_two_five(100_000),
    "iteration_tokens_total": tuple(map(float, (1, *(8 << step for step in range(12))))),
    "request_max_num_generation_tokens": _one_two_five(100_000),
    "request_params_n": (1, 2, 5, 10, 20),
    "request_params_max_tokens": _one_two_five(100_000),
    "time_to_first_token_seconds": _FIRST_TOKEN,
    "inter_token_latency_seconds": _NEXT_TOKEN,
    "request_time_per_output_token_seconds": _NEXT_TOKEN,
    "e2e_request_latency_seconds": _SECONDS,
    "request_queue_time_seconds": _SECONDS,
    "request_inference_time_seconds": _SECONDS,
    "request_prefill_time_seconds": _SECONDS,
    "request_decode_time_seconds": _SECONDS,
    "request_prefill_kv_computed_tokens": _one_two_five(100_000),
}
_HANDLERS = ("/v1/chat/completions", "/v1/completions")
_DURATIONS = (0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5, 5, 7.5, 10, 30, 60)


class Server:
    """A server's figures; each `page` shows them some requests later."""

    def __init__(self, seed: int) -> None:
        self._dice = random.Random(seed)  # noqa: S311  (no secret)
        self._registry = CollectorRegistry()
        self._gauges = [self._gauge(name) for name in _GAUGES]
        self._lora = Gauge(
            "vllm:lora_requests_info",
            "Running stats on lora requests.",
            ("max_lora", "waiting_lora_adapters", "running_lora_adapters"),
            registry=self._registry,
        )
        self._counters = [
            Counter(f"vllm:{name}", _about(name), _LABELS, registry=self._registry).labels(**_MODEL)
            for name in _COUNTERS
        ]
        self._finished = Counter(
            "vllm:request_success", "Finished requests.", (*_LABELS, "finished_reason"), registry=self._registry
        )
        self._histograms = [
            Histogram(f"vllm:{name}", _about(name), _LABELS, buckets=buckets, registry=self._registry).labels(**_MODEL)
            for name, buckets in _HISTOGRAMS.items()
        ]
        Info("vllm:cache_config", "Cache configuration.", registry=self._registry).info(
            {"block_size": "16", "cache_dtype": "auto", "enable_prefix_caching": "True", "num_gpu_blocks": "27845"}
        )
        self._requests = Counter(
            "http_requests", "Requests by handler.", ("handler", "method", "status"), registry=self._registry
        )
        self._durations = Histogram(
            "http_request_duration_seconds",
            "Latency by handler.",
            ("handler", "method"),
            buckets=_DURATIONS,
            registry=self._registry,
        )

    def page(self) -> bytes:
        """Let time pass, and write the page."""
        draw = self._dice.random
        running, waiting, usage, asleep = self._gauges
        running.set(self._dice.randrange(256))
        waiting.set(self._dice.randrange(8))
        usage.set(draw())
        asleep.set(0)
        self._lora.labels("4", "", "sql,poems").set(1_700_000_000 + draw())
        for counter in self._counters:
            counter.inc(self._dice.randrange(10_000))
        for reason in ("stop", "length", "abort", "error"):
            self._finished.labels(**_MODEL, finished_reason=reason).inc(self._dice.randrange(10))
        for histogram in self._histograms:
            for _ in range(20):
                histogram.observe(10 ** (draw() * 6 - 2))
        for handler in _HANDLERS:
            self._requests.labels(handler, "POST", "2xx").inc(self._dice.randrange(10))
            self._durations.labels(handler, "POST").observe(draw())
        return generate_latest(self._registry)

    def _gauge(self, name: str) -> Gauge:
        return Gauge(f"vllm:{name}", _about(name), _LABELS, registry=self._registry).labels(**_MODEL)


def _about(name: str) -> str:
    return f"The server's {name.replace('_', ' ')}."


def pages(servers: int, each: int) -> Iterator[Sequence[bytes]]:
    """Yield several pages of each of so many servers, all different."""
    for seed in range(servers):
        server = Server(seed)
        yield [server.page() for _ in range(each)]
