"""Prefill and decode apart: two picks, one meeting in the body, and what is counted where."""

from __future__ import annotations

import json
import random
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st
from picker_worlds import (
    Stderr,
    assignment,
    body_message,
    destinations,
    entry,
    headers_message,
    identity,
    log_message,
    response,
)
from picker_worlds import pool as pool_message

from picker.access_log import AccessLog
from picker.disaggregation import arrange, draw_room, is_object
from picker.exchange import Exchange
from picker.in_flight import InFlight
from picker.logs import open_log
from picker.pools import ENDPOINTS_TYPE, POOL_TYPE, Directory
from picker.probe import Prober
from picker.table import Endpoint
from picker.telemetry import Telemetry
from protos.pointsman.envoy.v1.ext_proc_pb2 import ProcessingResponse
from protos.pointsman.picker.v1.pool_pb2 import STRATEGY_PREFIX_CACHE

POOL, DECODE, PREFILL = "default/qwen", "pool/default/qwen", "pool/default/qwen/prefill"
DECODERS, PREFILLERS = ("10.0.0.1:80", "10.0.0.2:80"), ("10.0.1.1:80", "[fd00::1]:80")
BODY = b'{"model": "qwen", "messages": [{"role": "user", "content": "%s"}]}\n' % (b"x" * 5000)

keys = st.text(max_size=3)
values = st.recursive(
    st.none() | st.integers() | st.text(max_size=3), lambda each: st.lists(each) | st.dictionaries(keys, each)
)


class Gateway:
    def __init__(self, models: dict[str, dict[str, int]] | None = None, *, cached: bool = False) -> None:
        self.told = pool_message(POOL, models=models)
        self.told.disaggregation.prefill_cluster = PREFILL
        self.told.disaggregation.bootstrap_port = 34000
        if cached:
            self.told.disaggregation.prefill_strategy = STRATEGY_PREFIX_CACHE
        self.directory = Directory("up")
        self.in_flight = InFlight()
        self.tell()

    def tell(self) -> list[str]:
        """Tell of the pool; return the endpoints that are asked for."""
        answers = self.directory.receive(response(POOL_TYPE, {POOL: ("1", self.told)}))
        return [name for answer in answers for name in answer.resource_names_subscribe]

    def place(self, cluster: str, *addresses: str) -> None:
        rows = assignment(cluster, [(address, address) for address in addresses])
        self.directory.receive(response(ENDPOINTS_TYPE, {cluster: ("1", rows)}))

    def start(self) -> Gateway:
        self.place(DECODE, *DECODERS)
        self.place(PREFILL, *PREFILLERS)
        return self

    def ask(self, body: bytes | None = BODY) -> tuple[Exchange, ProcessingResponse]:
        identities = map(str, count(len(self.in_flight)))
        pool = self.directory.pools[POOL]
        dice = random.Random(1).random  # noqa: S311  (dice)
        made = Exchange(pool, body_follows=True, identify=identities.__next__, dice=dice)
        length = None if body is None else len(body)
        answer = made.receive(headers_message(end_of_stream=body is None, length=length))
        if body is not None:
            answer = made.receive(body_message(body))
        if made.picked is not None:
            self.in_flight.begin(made.picked)
        return made, answer

    def counts(self) -> dict[str, int]:
        return {address: member.endpoint.in_flight for address, member in self.directory.members.items()}


def headers(answer: ProcessingResponse) -> dict[str, str]:
    kind = getattr(answer, answer.WhichOneof("response") or "").response
    return {each.header.key: each.header.raw_value.decode() for each in kind.header_mutation.set_headers}


@given(st.dictionaries(keys, values), st.sampled_from(["", " ", "\r\n\t"]), st.sampled_from([None, 1]))
def test_the_meeting_is_added_and_nothing_else_changes(body: dict[str, object], space: str, indent: int | None) -> None:
    written = (space + json.dumps(body, indent=indent) + space).encode()
    assert is_object(written)
    room = draw_room(lambda: 0.7)
    meeting = {"bootstrap_host": "fd00::1", "bootstrap_port": 9, "bootstrap_room": room}
    arranged = arrange(written, "[fd00::1]:80", 9, room)
    assert json.loads(arranged) == body | meeting
    assert arranged.startswith(written.rstrip()[:-1].rstrip())


def test_of_a_key_that_is_there_already_ours_counts() -> None:
    found = json.loads(arrange(b'{"bootstrap_room":1,"bootstrap_host":"here"}', "10.0.0.1:80", 9, 2))
    assert (found["bootstrap_room"], found["bootstrap_host"]) == (2, "10.0.0.1")


@pytest.mark.parametrize("body", [b"", b"[]", b'"}', b"{", b"}", b"1"])
def test_what_is_no_object(body: bytes) -> None:
    assert not is_object(body)


@pytest.mark.parametrize(("throw", "room"), [(0.0, 0), (1 - 2**-53, (1 << 62) - 1)])
def test_rooms_have_62_bits(throw: float, room: int) -> None:
    assert draw_room(lambda: throw) == room


def test_two_are_picked_and_told_where_to_meet() -> None:
    made, answer = Gateway().start().ask()
    assert made.done
    assert set(destinations(answer)) == set(DECODERS)
    sent = answer.request_body.response.body_mutation.body
    prefill = headers(answer)["x-pointsman-prefill-endpoint"]
    assert prefill in PREFILLERS
    assert headers(answer)["content-length"] == str(len(sent))
    found = json.loads(sent)
    assert found.pop("bootstrap_room") > 0
    assert (found.pop("bootstrap_host"), found.pop("bootstrap_port")) == (prefill.rpartition(":")[0].strip("[]"), 34000)
    assert found == json.loads(BODY)


def test_the_model_is_renamed_as_well() -> None:
    _, answer = Gateway({"qwen": {"qwen-v2": 1}}).start().ask()
    found = json.loads(answer.request_body.response.body_mutation.body)
    assert (found["model"], "bootstrap_room" in found) == ("qwen-v2", True)


@pytest.mark.parametrize("body", [None, b"[1]", b""])
def test_what_has_no_prompt_only_goes_to_decode(body: bytes | None) -> None:
    made, answer = Gateway().start().ask(body)
    assert made.picked is not None
    assert made.picked.prefill is None
    assert set(destinations(answer)) == set(DECODERS)
    assert headers(answer) == {}


@pytest.mark.parametrize(
    ("decode", "prefill", "reason"),
    [
        ((), PREFILLERS, "no_ready_endpoint"),
        (DECODERS, (), "no_ready_prefill_endpoint"),
    ],
)
def test_both_roles_must_be_there(decode: tuple[str, ...], prefill: tuple[str, ...], reason: str) -> None:
    gateway = Gateway()
    gateway.place(DECODE, *decode)
    gateway.place(PREFILL, *prefill)
    made, answer = gateway.ask()
    assert (made.refused, made.picked) == (reason, None)
    assert answer.immediate_response.status.code == 503
    assert json.loads(answer.immediate_response.body)["error"]["code"] == reason


def test_both_must_be_known_before_anything_is_served() -> None:
    gateway = Gateway()
    assert gateway.directory.connect()[-1].resource_names_subscribe == [DECODE, PREFILL]
    gateway.place(DECODE, *DECODERS)
    known = [gateway.directory.complete]
    # Envoy's own choice would name no meeting.
    assert gateway.ask()[0].refused == "unknown_pool"
    gateway.place(PREFILL, *PREFILLERS)
    assert [*known, gateway.directory.complete] == [False, True]
    assert gateway.ask()[0].picked is not None


def test_a_pool_may_be_split_and_joined_while_it_runs() -> None:
    gateway = Gateway().start()
    gateway.told.ClearField("disaggregation")
    gateway.tell()
    made, answer = gateway.ask()
    assert made.picked is not None
    assert made.picked.prefill is None
    assert not answer.request_body.response.body_mutation.body
    gateway.told.disaggregation.prefill_cluster = PREFILL
    assert gateway.tell() == [PREFILL]


def test_both_pods_are_counted_until_the_request_ends() -> None:
    gateway = Gateway().start()
    made, answer = gateway.ask()
    prefill, decode = headers(answer)["x-pointsman-prefill-endpoint"], destinations(answer)[0]
    assert {address for address, number in gateway.counts().items() if number} == {prefill, decode}
    members = gateway.directory.members
    assert members[prefill].endpoint.backlog.left == len(BODY) / 4
    assert members[decode].endpoint.backlog.left == 0
    assert made.picked is not None
    assert gateway.in_flight.finish(made.picked.identity) is made.picked
    assert not any(gateway.counts().values())


def test_a_prefill_pod_that_is_idle_is_done_while_the_answer_goes_on() -> None:
    gateway = Gateway().start()
    made, answer = gateway.ask()
    prefill, decode = headers(answer)["x-pointsman-prefill-endpoint"], destinations(answer)[0]
    endpoint = gateway.directory.members[prefill].endpoint
    assert gateway.in_flight.oldest(endpoint) == 0.0
    assert gateway.in_flight.discount(endpoint, before=1.0) == 1
    assert {address for address, number in gateway.counts().items() if number} == {decode}
    assert made.picked is not None
    gateway.in_flight.finish(made.picked.identity)
    assert not any(gateway.counts().values())


def test_prefill_by_prefix_keeps_to_the_pod_that_knows_it() -> None:
    gateway = Gateway(cached=True).start()
    first, _ = gateway.ask()
    second, _ = gateway.ask()
    assert first.picked is not None
    assert second.picked is not None
    assert first.picked.prefill is not None
    assert second.picked.prefill is not None
    assert second.picked.prefill.decision.picked is first.picked.prefill.decision.picked
    assert second.picked.prefill.cached > 0.9
    assert (second.picked.chain, second.picked.cached) == ((), 0.0)


class Suspicions(Prober):
    """Notes who is suspected, and asks nobody."""

    def __init__(self) -> None:
        super().__init__(lambda _endpoint, _reason: None)
        self.addresses: set[str] = set()

    def suspect(self, endpoint: Endpoint, path: str = "") -> None:
        assert path
        self.addresses.add(endpoint.address)


@pytest.mark.parametrize("status", [200, 400, 500, 504])
def test_when_decoding_fails_the_prefill_pod_is_suspected_too(status: int) -> None:
    gateway, suspicions, stderr = Gateway().start(), Suspicions(), Stderr()
    log = AccessLog(
        directory=gateway.directory,
        in_flight=gateway.in_flight,
        prober=suspicions,
        telemetry=Telemetry(gateway.directory, gateway.in_flight),
        log=open_log(stderr),
    )
    _, answer = gateway.ask()
    prefill, decode = headers(answer)["x-pointsman-prefill-endpoint"], destinations(answer)[0]
    log.receive(log_message(entry(identity(answer), decode, status=status)))
    assert (prefill in suspicions.addresses) == (status >= 500)
    # A 500 may be the request's own fault, and says nothing of the pod that gave it.
    assert (decode in suspicions.addresses) == (status == 504)
    (line,) = stderr.lines("Request Handled")
    assert (line["pod_prefill"], line["pod_served"]) == (prefill, decode)
    assert not any(gateway.counts().values())
