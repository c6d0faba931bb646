"""The exchange with Envoy over one request, as a state machine without I/O.

Rules, and everything that affects the state lives in this file:

1. Envoy sends the request's headers first.  Where no body follows (the headers end the stream, or the route sends none)
   the answer to them carries the pick, and the exchange is done.
2. Where a body follows, the headers are let pass without a pick, and the answer to the body carries pick and rewritten
   model.  Then the exchange is done: the stream is ended at once, so that a picker that dies later cuts no answer.
3. The pick travels as dynamic metadata: `envoy.lb` for the load balancer, `pointsman` for the access log.
4. A request that nobody can serve, that may be shed while every pod is busy, or whose model the pool refuses, is
   answered here and now, in the shape of OpenAI's errors.
5. Where prefill and decode are apart, the pick is the pod to decode; the one to prefill travels as a header, for the
   copy that goes there, and the body says where both meet.  A request without a body has nothing to prefill.
6. Copies of a request that go to other pools see no metadata: what is picked for them travels as a header, all pools'
   endpoints in one list, of which each copy goes to the first of its own pool.
7. The response never passes here; a message about it is let pass.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec import Struct

from picker.decision import NO_READY_ENDPOINT, Decision, Dice, Drained, Profile, Request
from picker.disaggregation import arrange, draw_room, is_object
from picker.models import locate, name, replace
from picker.prompt import ENDS, Prompt, chain, read
from picker.refusals import MODEL_NOT_FOUND, NO_READY_PREFILL, UNKNOWN_POOL, refuse
from picker.rules import Rules
from picker.strategies import DEFAULT
from picker.table import Table
from protos.pointsman.envoy.v1.base_pb2 import HeaderMap, HeaderValueOption, Metadata
from protos.pointsman.envoy.v1.ext_proc_pb2 import HttpHeaders, ProcessingRequest, ProcessingResponse

DESTINATION = "x-gateway-destination-endpoint"
MIRROR_DESTINATION = "x-pointsman-mirror-destination"
PREFILL_DESTINATION = "x-pointsman-prefill-endpoint"
MODEL_HEADER = "x-gateway-model-name"
# The name of an InferenceObjective: llm-d's header, and the Inference Extension's.
OBJECTIVE_HEADERS = ("x-llm-d-inference-objective", "x-gateway-inference-objective")
NAMESPACE = "pointsman"
# Endpoint Picker Protocol: the gateway may confine the choice.
# Those who are refused together are told to come back one after another (seconds).
_RETRY_SPREAD = 3
_LENGTH_HEADER = "content-length"
_HEADERS = frozenset((MODEL_HEADER, _LENGTH_HEADER, *OBJECTIVE_HEADERS))
_SUBSET_NAMESPACE = "envoy.lb.subset_hint"
_SUBSET_KEY = "x-gateway-destination-endpoint-subset"


class Split(Struct, eq=False):
    """The pods that prefill, how one of them is chosen, and the port at which they are met; the pool's own decode."""

    table: Table
    profile: Profile
    bootstrap_port: int


class Pool(Struct, eq=False):
    """A pool as an exchange sees it.

    `table` is None until the control plane has told its endpoints: that is not the same as a pool that has none.
    `apart` says that prefill and decode are, even while `split` is not known yet; `stand_in`, that another picker picks
    for the pool, and this one only while that one cannot.
    """

    name: str
    cluster: str
    rules: Rules = Rules()
    table: Table | None = None
    profile: Profile = DEFAULT
    apart: bool = False
    split: Split | None = None
    stand_in: bool = False

    def knows(self, model: str) -> bool:
        """Whether a model is declared for the pool, or a server of it says that it serves it."""
        return self.rules.names(model) or (self.table is not None and model in self.table.served)

    @property
    def reads_prompt(self) -> bool:
        """Whether a choice needs the prompt."""
        return self.profile.reads_prompt or (self.split is not None and self.split.profile.reads_prompt)

    def note_use(self, now: float) -> None:
        """Note that a request asks for the pool at this time (seconds of the rim's clock)."""
        if self.table is not None:
            self.table.used_at = now
        if self.split is not None:
            self.split.table.used_at = now


class Prefill(Struct, eq=False):
    """The part of a request that is prefilled elsewhere; all is as in `Picked`."""

    decision: Decision
    counted: bool = False
    chain: Sequence[int] = ()
    expected: bool = False
    tokens: float = 0.0
    cached: float = 0.0
    ticket: int = -1


class Picked(Struct, eq=False):
    """What was decided for a request, kept until the access log tells how it ended.

    `target` is the model's name as sent to the server; `chain` the prompt's prefix, and `expected` whether the endpoint
    counts on it; `tokens` the estimate of what
    the endpoint has to compute of it, `cached` the share that it has not to, and `ticket` its place in the endpoint's
    backlog; `label` the model's name in
    metrics.  `began` (seconds of the rim's clock), `decision_seconds` and
    `envoy` are the rim's to fill in; `counted` says whether the request is in its endpoint's count of requests in
    flight.  With a `prefill` apart there is nothing of the prompt left to compute here.
    """

    identity: str
    pool: str
    model: str
    target: str
    decision: Decision
    began: float = 0.0
    decision_seconds: float = 0.0
    envoy: str = ""
    counted: bool = False
    chain: Sequence[int] = ()
    expected: bool = False
    tokens: float = 0.0
    cached: float = 0.0
    ticket: int = -1
    label: str = ""
    prefill: Prefill | None = None


def _passing(kind: str) -> bytes:
    response = ProcessingResponse()
    getattr(response, kind).SetInParent()
    return bytes(response.SerializeToString())


_PASSING = {
    kind: _passing(kind)
    for kind in (
        "request_headers",
        "request_body",
        "request_trailers",
        "response_headers",
        "response_body",
        "response_trailers",
    )
}


class Exchange:
    """One exchange: `receive` each message, send what it returns, end the stream when `done`.

    `body_follows` may still be changed before the headers are received.

    `mirrors` are the pools that copies of the request go to; `identify` gives each pick a name of its own; `explain`
    keeps a trace of the decision.  After a pick `picked` holds it; `refused` is the reason of a refusal.
    """

    __slots__ = (
        "_dice",
        "_explain",
        "_identify",
        "_length",
        "_model",
        "_objective",
        "_pool",
        "_subset",
        "body_follows",
        "done",
        "mirrors",
        "picked",
        "refusal",
        "refused",
    )

    def __init__(
        self,
        pool: Pool,
        *,
        body_follows: bool,
        identify: Callable[[], str],
        dice: Dice,
        explain: bool = False,
        mirrors: Sequence[Pool] = (),
    ) -> None:
        self._pool = pool
        self.mirrors = mirrors
        self.body_follows = body_follows
        self._identify = identify
        self._dice = dice
        self._explain = explain
        self._model = ""
        self._objective = ""
        self._length: int | None = None
        self._subset: frozenset[str] | None = None
        self.done = False
        self.picked: Picked | None = None
        self.refusal: ProcessingResponse | None = None
        self.refused = ""

    @property
    def may_rename(self) -> bool:
        """Whether the name of a model may have to change, or be refused."""
        return self._pool.rules.names_models

    def name_late(self, model: str) -> str:
        """Take in the model's name where the endpoint is picked already; return the name that it has there.

        Where the pool refuses the model there is a `refusal` from then on.
        """
        rules = self._pool.rules
        if rules.refuses(model):
            self.refusal = self._refuse(MODEL_NOT_FOUND, model)
            return model
        target = rules.target(model, self._dice)
        if self.picked is not None:
            self.picked.model, self.picked.target = model, target
        return target

    def receive(self, request: ProcessingRequest) -> ProcessingResponse:
        """Answer one message of Envoy's."""
        kind = request.WhichOneof("request")
        if kind == "request_headers":
            return self._receive_headers(request, request.request_headers)
        if kind == "request_body" and self.picked is None:
            self._read_subset(request)
            return self._receive_body(request.request_body.body)
        self.done = True
        return ProcessingResponse.FromString(_PASSING[kind or "request_headers"])

    def _receive_headers(self, request: ProcessingRequest, headers: HttpHeaders) -> ProcessingResponse:
        self._read(headers.headers)
        self._read_subset(request)
        response = ProcessingResponse.FromString(_PASSING["request_headers"])
        if self.body_follows and not headers.end_of_stream:
            return response
        return self._pick(response, self._model, self._model)

    def _read_subset(self, request: ProcessingRequest) -> None:
        if request.HasField("metadata_context"):
            found = _subset(request.metadata_context)
            if found is not None:
                self._subset = found

    def _read(self, headers: HeaderMap) -> None:
        for header in headers.headers:
            key = header.key
            if key not in _HEADERS:
                continue
            value = str(header.raw_value, "utf-8", "replace") if header.raw_value else header.value
            if key == MODEL_HEADER:
                self._model = value
            elif key == _LENGTH_HEADER:
                self._length = int(value) if value.isdecimal() else None
            elif key == OBJECTIVE_HEADERS[0] or not self._objective:
                self._objective = value

    def _receive_body(self, body: bytes) -> ProcessingResponse:
        promised, self._length = self._length, len(body)
        prompt = read(body) if self._pool.reads_prompt else None
        named = self._named(body, prompt)
        model = named or self._model
        target = self._pool.rules.target(named, self._dice) if named else model
        response = ProcessingResponse.FromString(_PASSING["request_body"])
        response = self._pick(response, model, target, prompt, meets=is_object(body))
        picked = self.picked
        if picked is None:
            return response
        sent = body
        if target != model and (found := locate(body, named)) is not None:
            sent = replace(body, found, target)
        if picked.prefill is not None and self._pool.split is not None:
            address = picked.prefill.decision.picked.address
            sent = arrange(sent, address, self._pool.split.bootstrap_port, draw_room(self._dice))
            _set_header(response, PREFILL_DESTINATION, address.encode())
        if sent is not body:
            response.request_body.response.body_mutation.body = sent
            if promised is not None:
                # Envoy answers 500 when the length it was promised is not the length it gets; a body without one stays
                # chunked, since trailers may follow it.
                _set_header(response, _LENGTH_HEADER, b"%d" % len(sent))
        return response

    def _named(self, body: bytes, prompt: Prompt | None) -> str:
        """Read the body's model, where that can make a difference."""
        if prompt is not None:
            return prompt.model
        return (name(body) or "") if self._pool.rules.names_models else ""

    def _pick(
        self,
        response: ProcessingResponse,
        model: str,
        target: str,
        prompt: Prompt | None = None,
        *,
        meets: bool = False,
    ) -> ProcessingResponse:
        self.done = True
        table = self._pool.table
        if table is None:
            if self._pool.apart:
                return self._refuse(UNKNOWN_POOL, model)
            # Nobody told us yet who there is; Envoy knows, and its fallback serves.
            return response
        rules = self._pool.rules
        if rules.refuses(model):
            return self._refuse(MODEL_NOT_FOUND, model)
        links = chain(prompt, target) if prompt is not None else ()
        request = Request(target, self._subset, links, rules.sheds(model, self._objective))
        decision = self._pool.profile.decide(request, table, self._dice, explain=self._explain)
        if isinstance(decision, Drained):
            return self._refuse(decision.reason, model)
        prefill = None
        if meets and self._pool.split is not None:
            split = self._pool.split
            chosen = split.profile.decide(request, split.table, self._dice, explain=self._explain)
            if isinstance(chosen, Drained):
                return self._refuse(NO_READY_PREFILL if chosen.reason == NO_READY_ENDPOINT else chosen.reason, model)
            prefill = Prefill(chosen, chain=links if split.profile.reads_prompt else ())
        identity = self._identify()
        picked = self.picked = Picked(identity, self._pool.name, model, target, decision, prefill=prefill)
        picked.chain = links if self._pool.profile.reads_prompt else ()
        tokens = table.mean_tokens if self._length is None else self._length / table.bytes_per_token
        for part in (picked,) if prefill is None else (picked, prefill):
            if part.chain:
                part.cached = ENDS[part.decision.picked.prefixes.match(part.chain)] / ENDS[len(part.chain)]
            part.tokens = 0.0 if part is picked and prefill is not None else tokens * (1.0 - part.cached)
        fields = response.dynamic_metadata.fields
        fields["envoy.lb"].struct_value.fields[DESTINATION].string_value = ",".join(
            [endpoint.address for endpoint in decision.endpoints]
        )
        fields[NAMESPACE].struct_value.fields["id"].string_value = identity
        if self.mirrors:
            self._pick_for_copies(response, target)
        return response

    def _pick_for_copies(self, response: ProcessingResponse, target: str) -> None:
        request = Request(target, None, (), sheddable=False)
        addresses = [
            endpoint.address
            for mirror in self.mirrors
            if mirror.table is not None
            and isinstance(decision := mirror.profile.decide(request, mirror.table, self._dice), Decision)
            for endpoint in decision.endpoints
        ]
        if addresses:
            _set_header(response, MIRROR_DESTINATION, ",".join(addresses).encode())

    def _refuse(self, reason: str, model: str) -> ProcessingResponse:
        self.refused = reason
        return refuse(reason, model, self._pool.name, retry_after=1 + int(self._dice() * _RETRY_SPREAD))


def pass_on(request: ProcessingRequest, body: bytes | None) -> ProcessingResponse:
    """Let a message pass, with another body if one is given."""
    response = ProcessingResponse.FromString(_PASSING[request.WhichOneof("request") or "request_headers"])
    if body is not None:
        response.response_body.response.body_mutation.body = body
        _set_header(response, _LENGTH_HEADER, b"%d" % len(body))
    return response


def _set_header(response: ProcessingResponse, key: str, value: bytes) -> None:
    kind = response.WhichOneof("response")
    answer = getattr(response, kind or "request_headers")
    option = answer.response.header_mutation.set_headers.add()
    option.header.key = key
    option.header.raw_value = value
    option.append_action = HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD


def _subset(metadata: Metadata) -> frozenset[str] | None:
    if _SUBSET_NAMESPACE not in metadata.filter_metadata:
        return None
    fields = metadata.filter_metadata[_SUBSET_NAMESPACE].fields
    if _SUBSET_KEY not in fields:
        return None
    value = fields[_SUBSET_KEY]
    if value.WhichOneof("kind") == "string_value":
        return frozenset(part.strip() for part in value.string_value.split(","))
    return frozenset(item.string_value for item in value.list_value.values)
