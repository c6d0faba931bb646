"""The names under which what the picker knows is shown to Prometheus, each read when somebody asks.

1. ``pointsman_picker_*``: its own, by pool and by endpoint.
2. ``gen_ai_server_*``: OpenTelemetry's GenAI metrics as Prometheus writes them, by gateway, route, pool, model
   (``gen_ai_request_model``) and target model (``gen_ai_response_model``); and ``gen_ai_client_token_usage``, by the
   same and by ``gen_ai_token_type``.
3. ``inference_model_*`` and ``inference_pool_*``: those of the Inference Extension, for its dashboards.

The time to the first token is that to the first byte of the body of an answer that streams, as Envoy saw it.  Tokens
are those that the answer tells of: a stream does so where the request asks for it (``stream_options.include_usage``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from picker.exchange import Pool
from picker.in_flight import InFlight
from picker.pools import Directory
from picker.table import Endpoint
from picker.tallies import Key, Labels, Spread, Tallies, Tally, counted, merged

_ERROR = 400
_GEN_AI = ("gateway", "route", "pool", "gen_ai_request_model", "gen_ai_response_model")
_MODEL = ("model_name", "target_model_name")


class Requests(Collector):
    """Finished requests, and those under way."""

    def __init__(self, tallies: Tallies, decisions: Mapping[tuple[str, str], int], in_flight: InFlight) -> None:
        self._tallies = tallies
        self._decisions = decisions
        self._in_flight = in_flight

    def collect(self) -> Iterator[Metric]:
        """Write all families of requests."""
        yield from self._own()
        yield from self._gen_ai()
        yield from self._extension()

    def _own(self) -> Iterator[Metric]:
        prefix = "pointsman_picker_"
        yield self._count(
            f"{prefix}requests",
            "Requests finished.",
            ("pool", "model", "status"),
            lambda key: (key.pool, key.model, str(key.status)),
        )
        decisions = CounterMetricFamily(f"{prefix}decisions", "Picks, by what decided.", labels=("pool", "reason"))
        for labels, count in list(self._decisions.items()):
            decisions.add_metric(labels, count)
        yield decisions
        figures: tuple[tuple[str, str, Callable[[Tally], Spread]], ...] = (
            ("decision_seconds", "Time of an exchange within the picker.", lambda tally: tally.decision),
            ("request_duration_seconds", "Time of a request as Envoy saw it.", lambda tally: tally.duration),
            (
                "time_to_first_byte_seconds",
                "Time until the first byte of the answer, as Envoy saw it.",
                lambda tally: tally.first_byte,
            ),
            (
                "prefix_cached_ratio",
                "Share of the prompt that the picked pod was likely to have cached.",
                lambda tally: tally.cached,
            ),
        )
        for name, text, figure in figures:
            yield self._spread(prefix + name, text, ("pool",), lambda key: (key.pool,), figure)
        yield GaugeMetricFamily(
            f"{prefix}in_flight_requests", "Requests picked for and not reported finished.", len(self._in_flight)
        )

    def _gen_ai(self) -> Iterator[Metric]:
        yield self._spread(
            "gen_ai_server_request_duration_seconds",
            "Time of a request as Envoy saw it (gen_ai.server.request.duration).",
            (*_GEN_AI, "error_type"),
            lambda key: (*key[:5], str(key.status) if key.status >= _ERROR or not key.status else ""),
            lambda tally: tally.duration,
        )
        yield self._spread(
            "gen_ai_server_time_to_first_token_seconds",
            "Time until the first token of a good answer that streams (gen_ai.server.time_to_first_token).",
            _GEN_AI,
            _good,
            lambda tally: tally.first_token,
        )
        yield self._spread(
            "gen_ai_server_time_per_output_token_seconds",
            "Time of each token after the first in a good answer that streams (gen_ai.server.time_per_output_token).",
            _GEN_AI,
            _good,
            lambda tally: tally.per_token,
        )
        usage = HistogramMetricFamily(
            "gen_ai_client_token_usage",
            "Tokens of the prompt, those of them that were cached, and of the answer (gen_ai.client.token.usage).",
            labels=(*_GEN_AI, "gen_ai_token_type"),
        )
        kinds: tuple[tuple[str, Callable[[Tally], Spread]], ...] = (
            ("input", lambda tally: tally.prompt_tokens),
            ("cached_input", lambda tally: tally.cached_tokens),
            ("output", lambda tally: tally.completion_tokens),
        )
        for kind, figure in kinds:
            self._fill(usage, _good, figure, kind)
        yield usage

    def _extension(self) -> Iterator[Metric]:
        prefix = "inference_model_"
        yield self._count(f"{prefix}request", "Requests finished.", _MODEL, _models)
        yield self._count(
            f"{prefix}request_error",
            "Requests that failed, by the code of the answer.",
            (*_MODEL, "error_code"),
            lambda key: (*_models(key), str(key.status)) if key.status >= _ERROR or not key.status else None,
        )
        figures: tuple[tuple[str, str, Callable[[Tally], Spread]], ...] = (
            ("request_duration_seconds", "Time of a request as Envoy saw it.", lambda tally: tally.duration),
            ("request_sizes", "Bytes of the request's body.", lambda tally: tally.bodies),
            ("response_sizes", "Bytes of the answer's body.", lambda tally: tally.answers),
            ("input_tokens", "Tokens of the prompt.", lambda tally: tally.prompt_tokens),
            ("output_tokens", "Tokens of the answer.", lambda tally: tally.completion_tokens),
            ("prompt_cached_tokens", "Tokens of the prompt that were cached.", lambda tally: tally.cached_tokens),
            (
                "normalized_time_per_output_token_seconds",
                "Time of a request over the tokens of its answer.",
                lambda tally: tally.overall_per_token,
            ),
        )
        for name, text, figure in figures:
            yield self._spread(prefix + name, text, _MODEL, _models, figure)
        running = GaugeMetricFamily(f"{prefix}running_requests", "Requests under way.", labels=("model_name",))
        for model, count in Counter(picked.label for picked in self._in_flight.records()).items():
            running.add_metric((model,), count)
        yield running

    def _count(
        self, name: str, text: str, names: Labels, labels: Callable[[Key], Labels | None]
    ) -> CounterMetricFamily:
        family = CounterMetricFamily(name, text, labels=names)
        for values, count in counted(self._tallies, labels).items():
            family.add_metric(values, count)
        return family

    def _spread(
        self,
        name: str,
        text: str,
        names: Labels,
        labels: Callable[[Key], Labels | None],
        figure: Callable[[Tally], Spread],
    ) -> HistogramMetricFamily:
        family = HistogramMetricFamily(name, text, labels=names)
        self._fill(family, labels, figure)
        return family

    def _fill(
        self,
        family: HistogramMetricFamily,
        labels: Callable[[Key], Labels | None],
        figure: Callable[[Tally], Spread],
        *more: str,
    ) -> None:
        for values, spread in merged(self._tallies, labels, figure).items():
            if any(spread.counts):
                family.add_metric((*values, *more), spread.cumulated(), spread.total)


def _good(key: Key) -> Labels | None:
    """Give the labels of GenAI's metrics for requests that were answered well."""
    return None if key.status >= _ERROR or not key.status else key[:5]


def _models(key: Key) -> tuple[str, str]:
    return key.model, key.target


class Endpoints(Collector):
    """Pools and their endpoints, as the tables have them."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory

    def collect(self) -> Iterator[Metric]:
        """Write all families of endpoints and pools."""
        rows = [
            (pool, row)
            for pool in self._directory.pools.values()
            for row in (pool.table.endpoints if pool.table is not None else ())
        ]
        yield from self._own(rows)
        yield from self._extension()

    def _own(self, rows: list[tuple[Pool, Endpoint]]) -> Iterator[Metric]:
        figures: tuple[tuple[str, str, Callable[[Endpoint], float | None]], ...] = (
            ("waiting_requests", "Requests waiting, as last reported.", lambda row: _said(row, row.waiting)),
            ("running_requests", "Requests running, as last reported.", lambda row: _said(row, row.running)),
            ("kv_cache_usage_ratio", "KV cache in use, 0..1.", lambda row: _said(row, row.kv_usage)),
            ("in_flight_requests", "Requests sent there, unfinished.", lambda row: row.in_flight),
            ("in_flight_tokens", "Tokens of theirs still to compute, estimated.", lambda row: row.backlog.left),
            ("prefix_blocks", "Blocks of prompts that the pod has likely cached.", lambda row: len(row.prefixes)),
            ("avoided", "1 while no request is sent there by choice.", lambda row: float(row.avoided)),
        )
        for name, text, figure in figures:
            family = GaugeMetricFamily(f"pointsman_picker_endpoint_{name}", text, labels=("pool", "pod", "endpoint"))
            for pool, row in rows:
                value = figure(row)
                if value is not None:
                    family.add_metric((pool.name, row.pod, row.address), value)
            yield family

    def _extension(self) -> Iterator[Metric]:
        ready = GaugeMetricFamily("pointsman_picker_pool_endpoints", "Endpoints of the pool.", labels=("pool",))
        usable = GaugeMetricFamily("inference_pool_ready_pods", "Endpoints that are not avoided.", labels=("name",))
        usage = GaugeMetricFamily(
            "inference_pool_average_kv_cache_utilization", "Mean share of the KV caches in use.", labels=("name",)
        )
        waiting = GaugeMetricFamily("inference_pool_average_queue_size", "Mean requests waiting.", labels=("name",))
        each = GaugeMetricFamily(
            "inference_pool_per_pod_queue_size", "Requests waiting.", labels=("name", "model_server_pod")
        )
        for pool in self._directory.pools.values():
            table = pool.table
            endpoints = table.endpoints if table is not None else ()
            ready.add_metric((pool.name,), len(endpoints))
            usable.add_metric((pool.name,), sum(not row.avoided for row in endpoints))
            if table is not None and any(row.reported for row in endpoints):
                usage.add_metric((pool.name,), table.mean_kv_usage)
                waiting.add_metric((pool.name,), table.mean_waiting)
            for row in endpoints:
                if row.reported:
                    each.add_metric((pool.name, row.pod), row.waiting)
        yield from (ready, usable, usage, waiting, each)


def _said(row: Endpoint, figure: float) -> float | None:
    return figure if row.reported else None
