"""What Envoy tells of finished requests: the count in flight, the line of the log, and suspicions.

Envoy streams an entry for each request; the identity that the exchange left in its metadata finds the record of the
pick.  An entry without one (the picker was away and the pool fails open) still gets its line, if its cluster belongs
to a pool that no other picker picks for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from picker.exchange import MODEL_HEADER, NAMESPACE, Picked
from picker.figures import Figures, milliseconds
from picker.in_flight import InFlight
from picker.logs import Log
from picker.pools import Directory, address_text
from picker.probe import Prober
from picker.tallies import Tally
from picker.telemetry import Telemetry
from picker.usage import Usage
from protos.pointsman.envoy.v1.access_log_pb2 import HttpAccessLogEntry, StreamAccessLogsMessage

# Envoy's response_code_details where the server, and not the client or the gateway, ended the matter.
_SERVER_TROUBLE = ("upstream_reset", "connection_failure", "connection_termination", "upstream_response_timeout")
_UNAVAILABLE = (502, 503, 504)
_POOL_CLUSTERS = ("inferencepool", "xinferencepool")
_OK, _REDIRECT, _SERVER_ERROR = 200, 300, 500
# Whatever the status: the server's answer, to its end.
_COMPLETE = "via_upstream"


class Names(NamedTuple):
    """What a request was for: the pool, the model that it named, and the name that the server knows it by."""

    pool: str
    model: str
    target: str


class Outcome(NamedTuple):
    """What of an entry says where the request went: the address that served last, attempts, status, details."""

    served: str
    attempts: int
    status: int
    details: str


class AccessLog:
    """Takes entries in.  Not aware of streams; `close_stream` says that an Envoy's last one ended."""

    def __init__(
        self, *, directory: Directory, in_flight: InFlight, prober: Prober, telemetry: Telemetry, log: Log
    ) -> None:
        self._directory = directory
        self._in_flight = in_flight
        self._prober = prober
        self._telemetry = telemetry
        self._log = log
        self._info: Callable[..., Any] = log.logger.info

    def receive(self, message: StreamAccessLogsMessage, gateway: str = "") -> None:
        """Take in a message of a gateway's Envoy, and write its lines."""
        for entry in message.http_logs.log_entry:
            self._finish(entry, gateway)
        self._log.release()

    def close_stream(self, envoy: str) -> None:
        """Drop what an Envoy that is gone had in flight."""
        forgotten = self._in_flight.forget_envoy(envoy)
        if forgotten:
            self._log.event("Envoy gone", envoy=envoy, forgotten=forgotten)

    def _finish(self, entry: HttpAccessLogEntry, gateway: str) -> None:
        common = entry.common_properties
        response = entry.response
        outcome = Outcome(
            address_text(common.upstream_remote_address),
            common.upstream_request_attempt_count,
            response.response_code.value,
            response.response_code_details,
        )
        picked = self._record(entry, outcome)
        figures = Figures.of(entry)
        if picked is None:
            pool = self._directory.pool_of_cluster.get(common.upstream_cluster)
            pool_name = _pool_behind(common.upstream_cluster) if pool is None else pool.name
            if not pool_name:
                return
            model = entry.request.request_headers.get(MODEL_HEADER, "")
            if pool is None or pool.stand_in:
                # What another picker picked is that one's to tell; how long it took the gateway alone knows.
                self._measure(entry, gateway, Names(pool_name, model, figures.model or model), outcome, figures)
                return
            # Nobody has renamed the model: the answer names it where the request was not looked into.
            model = target = model or figures.model
            self._telemetry.miss()
        else:
            pool_name, model = picked.pool, picked.model or figures.model
            target = picked.target or figures.model
        if picked is not None:
            decision = picked.decision
            pod_picked, reason, decision_ms = (
                decision.endpoints[0].pod,
                decision.basis,
                round(picked.decision_seconds * 1e3, 3),
            )
        else:
            pod_picked, reason, decision_ms = "", "not asked", None
        tally = self._measure(entry, gateway, Names(pool_name, model, target), outcome, figures)
        if picked is not None:
            tally.decision.add(picked.decision_seconds)
            if (prompt := picked.prefill or picked).chain:
                tally.cached.add(prompt.cached)
        self._info(
            "Request Handled",
            pool=pool_name,
            model=model,
            target_model=target,
            pod_picked=pod_picked,
            pod_served=self._pod_at(outcome.served, picked),
            address=outcome.served,
            reason=reason,
            cached=_cached(picked),
            decision_ms=decision_ms,
            duration_ms=milliseconds(figures.seconds),
            ttft_ms=milliseconds(figures.first),
            status=outcome.status,
            details=outcome.details,
            route=common.route_name,
            request_id=entry.request.request_id,
            attempts=outcome.attempts,
            **_apart(picked),
            **figures.tokens(),
        )
        if picked is not None and _OK <= outcome.status < _REDIRECT:
            self._learn(outcome, picked, entry.request.request_body_bytes, figures.usage)
        if picked is None or not _went_smoothly(outcome, picked):
            self._suspect(outcome, picked, entry.request.path)

    def _measure(
        self, entry: HttpAccessLogEntry, gateway: str, names: Names, outcome: Outcome, figures: Figures
    ) -> Tally:
        """Add a request up, whoever picked."""
        route = entry.common_properties.route_name
        tally = self._telemetry.tally(gateway, route, names.pool, names.model, names.target, outcome.status)
        tally.bodies.add(entry.request.request_body_bytes)
        tally.answers.add(entry.response.response_body_bytes)
        figures.add_to(tally)
        if outcome.attempts > 1:
            self._telemetry.retry(names.pool)
        return tally

    def _learn(self, outcome: Outcome, picked: Picked, body: int, usage: Usage | None) -> None:
        """Take in what was served: the prompt's length (bytes), and who has it cached, whichever was picked."""
        pool = self._directory.pools.get(picked.pool)
        if pool is not None and pool.table is not None:
            pool.table.settle(body, None if usage is None else usage.prompt)
        if picked.chain:
            member = self._directory.members.get(outcome.served)
            if member is not None:
                member.endpoint.prefixes.learn(picked.chain)
        if picked.prefill is not None and picked.prefill.chain:
            picked.prefill.decision.picked.prefixes.learn(picked.prefill.chain)

    def _record(self, entry: HttpAccessLogEntry, outcome: Outcome) -> Picked | None:
        metadata = entry.common_properties.metadata.filter_metadata
        if NAMESPACE not in metadata:
            return None
        answered = _OK <= outcome.status < _REDIRECT and outcome.details == _COMPLETE
        served = outcome.served if answered else ""
        return self._in_flight.finish(metadata[NAMESPACE].fields["id"].string_value, served)

    def _pod_at(self, address: str, picked: Picked | None) -> str:
        """Name the pod that served: as it was known at the pick, since it may be gone by the time its answer ends."""
        for endpoint in () if picked is None else picked.decision.endpoints:
            if endpoint.address == address:
                return endpoint.pod
        member = self._directory.members.get(address)
        return "" if member is None else member.endpoint.pod

    def _suspect(self, outcome: Outcome, picked: Picked | None, path: str) -> None:
        offered = [] if picked is None else [endpoint.address for endpoint in picked.decision.endpoints]
        for address in suspects(outcome, offered):
            member = self._directory.members.get(address)
            if member is not None:
                self._prober.suspect(member.endpoint, path)
        # The one that decodes answers for the one that prefills, of which nothing else is heard.
        if picked is not None and picked.prefill is not None and outcome.status >= _SERVER_ERROR:
            member = self._directory.members.get(picked.prefill.decision.picked.address)
            if member is not None:
                self._prober.suspect(member.endpoint, path)


def _pool_behind(cluster: str) -> str:
    """Name the pool of a cluster of which we were told nothing, another picker's; "" where it is no pool's.

    The control plane names such a cluster by the pool's kind, namespace and name.
    """
    kind, _, name = cluster.partition("/")
    return name if kind in _POOL_CLUSTERS and name.count("/") == 1 else ""


def _cached(picked: Picked | None) -> float | None:
    """Tell the share of the prompt that is likely to have been cached where it was prefilled."""
    prompt = None if picked is None else picked.prefill or picked
    return None if prompt is None or not prompt.chain else round(prompt.cached, 3)


def _apart(picked: Picked | None) -> dict[str, str]:
    return {} if picked is None or picked.prefill is None else {"pod_prefill": picked.prefill.decision.picked.pod}


def _went_smoothly(outcome: Outcome, picked: Picked) -> bool:
    """Tell the usual case from the rest: the picked endpoint served, at once, and nobody had trouble."""
    return (
        outcome.attempts <= 1
        and (picked.prefill is None or outcome.status < _SERVER_ERROR)
        and outcome.status not in _UNAVAILABLE
        and outcome.details == _COMPLETE
        and outcome.served == picked.decision.endpoints[0].address
    )


def suspects(outcome: Outcome, offered: list[str]) -> list[str]:
    """Name the addresses that the outcome casts doubt on, given those offered in order.

    Envoy walks the list, so everyone before the one that served was tried or skipped; a retry past the list's end goes
    anywhere.  The one that served last is doubtful if it brought trouble or an answer that is retried.
    """
    doubtful = []
    if outcome.served and offered and (outcome.attempts > 1 or outcome.served != offered[0]):
        position = offered.index(outcome.served) if outcome.served in offered else len(offered)
        # Served by the first after several attempts: it was tried again when the list was used up.
        doubtful += offered[:position] or offered
    trouble = any(sign in outcome.details for sign in _SERVER_TROUBLE)
    answered = outcome.details == _COMPLETE and outcome.status in _UNAVAILABLE
    if trouble or answered:
        last = outcome.served or (offered[0] if offered else "")
        if last and last not in doubtful:
            doubtful.append(last)
    return doubtful
