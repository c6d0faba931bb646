"""The meaning of a World: what each Gateway serves, users' mistakes included.

Everything here is immutable, hashable and free of Kubernetes and of Envoy. A node carries no reference to the node
that contains it. Endpoints stand apart from routes and clusters, so that a change of pods touches nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from translators.settings import Placement

Runtime = Literal["vllm", "sglang", "tensorrt-llm", "triton", "tgi"]
Strategy = Literal["default", "prefix cache"]
Unlisted = Literal["sheddable", "standard", "refused"]

ADVICE = ""
"""The condition of a problem that turns none False: what it is about works, but not as written."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A user's mistake, as a value.

    condition: the status condition that it turns False, or ADVICE. where: the field, from the object's root
    ("spec.rules[0]"), or "" for the object as a whole.
    """

    condition: str
    reason: str
    message: str
    where: str = ""

    def __str__(self) -> str:
        return f"{self.where}: {self.message}" if self.where else self.message


@dataclass(frozen=True, slots=True)
class StringMatch:
    """A header or query parameter, by exact value or by regular expression (RE2, the whole value)."""

    name: str
    kind: Literal["Exact", "RegularExpression"]
    value: str


@dataclass(frozen=True, slots=True)
class PathMatch:
    """HTTPPathMatch of Gateway API; a PathPrefix matches whole path elements."""

    kind: Literal["Exact", "PathPrefix", "RegularExpression"]
    value: str

    def covers(self, path: str) -> bool:
        """Whether a request for `path` matches. Not for regular expressions, which only Envoy can judge: False."""
        if self.kind == "Exact":
            return path == self.value
        if self.kind == "PathPrefix":
            prefix = self.value.rstrip("/")
            return path == prefix or path.startswith(prefix + "/")
        return False


@dataclass(frozen=True, slots=True)
class Match:
    """One HTTPRouteMatch without its condition on the model."""

    path: PathMatch
    headers: tuple[StringMatch, ...] = ()
    query: tuple[StringMatch, ...] = ()
    method: str | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """A name under which model servers know a model, and its share of the requests."""

    name: str
    weight: int


@dataclass(frozen=True, slots=True)
class Model:
    """An InferenceModel that was accepted for its pool. `created` is in seconds since the epoch, 0 when unknown."""

    name: str
    criticality: Literal["Critical", "Standard", "Sheddable"]
    targets: tuple[Target, ...]
    created: int = 0

    @property
    def renames(self) -> bool:
        """Whether the model's name in the body may have to change on its way to the model server."""
        return any(target.name != self.name for target in self.targets)


@dataclass(frozen=True, slots=True)
class Rewrite:
    """A rule of an InferenceModelRewrite, for these models or, with none, for all. `created` is as in Model."""

    models: tuple[str, ...]
    targets: tuple[Target, ...]
    created: int = 0

    def renames(self, model: str) -> bool:
        """Whether a request for this model may have to be renamed, if the rule is the one that applies."""
        return any(target.name != model for target in self.targets)


@dataclass(frozen=True, slots=True)
class Objective:
    """An InferenceObjective: what a request may ask for by its name. A negative priority may be shed."""

    name: str
    priority: int


@dataclass(frozen=True, slots=True)
class Picker:
    """An endpoint picker behind a port of a Service. It has TLS unless it is `plaintext`."""

    namespace: str
    service: str
    port: int
    origin: str
    plaintext: bool = False

    @property
    def cluster(self) -> str:
        """The cluster of the picker."""
        return f"picker/{self.namespace}/{self.service}/{self.port}"

    @property
    def authority(self) -> str:
        """The host that the picker is asked as."""
        return f"{self.service}.{self.namespace}.svc:{self.port}"


@dataclass(frozen=True, slots=True)
class Split:
    """Prefill and decode apart: where SGLang's servers meet, and how a pod of each role is chosen."""

    bootstrap_port: int
    prefill: Strategy = "default"
    decode: Strategy = "default"


@dataclass(frozen=True, slots=True)
class Pool:
    """An InferencePool. `name` is "namespace/name".

    picker: who picks, None for our own picker. seat: where ours is asked, None where there is but one. picker_away:
    whether it has no ready endpoint and may be passed over.
    runtime: the model servers' dialect. unlisted: what becomes of a request for a model that is not declared.
    rewrites: in order of precedence. split: None where every pod does both prefill and decode.
    """

    name: str
    cluster: str
    origin: str
    fail_open: bool
    picker: Picker | None = None
    seat: Picker | None = None
    picker_away: bool = False
    h2c: bool = False
    runtime: Runtime = "vllm"
    strategy: Strategy = "default"
    unlisted: Unlisted = "standard"
    models: tuple[Model, ...] = ()
    objectives: tuple[Objective, ...] = ()
    rewrites: tuple[Rewrite, ...] = ()
    split: Split | None = None

    @property
    def prefill_cluster(self) -> str:
        """The cluster of the pods that prefill, where roles are split; the pool's own is that of those that decode."""
        return f"{self.cluster}/prefill"

    @property
    def declared(self) -> dict[str, int]:
        """The models that objects declare for the pool, with the time of their declaration (0: unknown)."""
        rewritten = {name: rewrite.created for rewrite in reversed(self.rewrites) for name in rewrite.models}
        return rewritten | {model.name: model.created for model in self.models}

    def wants_body(self, model: StringMatch | None) -> bool:
        """Whether the picker must see the bodies of a route that matches on `model`, or on no model at all (None).

        It must in order to compare prompts, to rename a model, to say where prefill and decode servers meet, and to
        learn the name of a model where that matters and routing has not found it. A picker that is not ours always
        sees them.
        """
        if self.picker is not None:
            return not self.picker_away
        if self.strategy == "prefix cache" or self.split is not None:
            return True
        if model is None:
            return bool(self.models or self.rewrites) or self.unlisted == "refused"
        if model.kind == "Exact":
            return self._renames(model.value)
        return bool(self.rewrites) or any(known.renames for known in self.models)

    def _renames(self, model: str) -> bool:
        first = next((each for each in self.rewrites if not each.models or model in each.models), None)
        if first is not None and first.renames(model):
            return True
        return any(known.renames for known in self.models if known.name == model)


@dataclass(frozen=True, slots=True)
class Service:
    """One port of a Service. `name` is "namespace/name:port"."""

    name: str
    cluster: str
    origin: str
    h2c: bool = False


Backend = Pool | Service


WHOLE = 1_000_000
"""The share of a mirror that copies every request."""


@dataclass(frozen=True, slots=True)
class Mirror:
    """Where copies of a rule's requests go, and of how many in a million."""

    backend: Backend
    millionths: int = WHOLE

    @property
    def cluster(self) -> str:
        """The cluster of the copies, which has the endpoints of the backend's own."""
        return f"mirror/{self.backend.cluster}"


@dataclass(frozen=True, slots=True)
class Weighted:
    """A backend's share of a rule. A broken backend keeps its share, and answers 500 for it (HTTPBackendRef).

    to_pool: whether an InferencePool is meant, be it there or not.
    """

    weight: int
    backend: Backend | None
    to_pool: bool


@dataclass(frozen=True, slots=True)
class Route:
    """One match of one rule of one HTTPRoute.

    name: "httproute/namespace/name/rule/0/match/0". model: its condition on X-Gateway-Model-Name.
    timeout: milliseconds for the whole request, 0 for none; attempt_timeout: for one attempt, None for none.
    refusal: why the whole rule answers 500, or "".
    """

    name: str
    origin: str
    match: Match
    model: StringMatch | None
    backends: tuple[Weighted, ...]
    timeout: int = 0
    attempt_timeout: int | None = None
    refusal: str = ""
    mirrors: tuple[Mirror, ...] = ()

    @property
    def pools(self) -> tuple[Pool, ...]:
        """The pools that the rule leads to, by weight 0 too: their share may grow without a change of shape."""
        return tuple(share.backend for share in self.backends if isinstance(share.backend, Pool))

    @property
    def mirrored_pools(self) -> tuple[str, ...]:
        """The names of the pools of our own picker that copies go to."""
        pools = (each.backend for each in self.mirrors if isinstance(each.backend, Pool))
        return tuple(dict.fromkeys(pool.name for pool in pools if pool.picker is None))

    @property
    def served(self) -> bool:
        """Whether a request can reach a backend at all; otherwise the rule answers 500."""
        return not self.refusal and any(share.backend is not None and share.weight > 0 for share in self.backends)

    @property
    def inference(self) -> bool:
        """Whether the rule is an inference route: it chooses by model, or is meant to lead to a pool."""
        return self.model is not None or any(share.to_pool for share in self.backends)


@dataclass(frozen=True, slots=True)
class VirtualHost:
    """What a port serves for one hostname ("*", "*.example.com", "a.example.com"), in order of precedence."""

    hostname: str
    routes: tuple[Route, ...]


@dataclass(frozen=True, slots=True)
class Port:
    """The listeners of a Gateway that share a port.

    buffer_limit: bytes, None when no policy sets it. seats: where our pickers of the pools behind the port are asked.
    """

    number: int
    placement: Placement
    origin: str
    buffer_limit: int | None
    hosts: tuple[VirtualHost, ...]
    seats: tuple[Picker, ...] = ()


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A pod's address and port.

    pod: "namespace/name", or "" when no Pod is known to stand behind it. plaintext: whether a picker there has no TLS.
    """

    address: str
    port: int
    pod: str = ""
    plaintext: bool = False

    def __str__(self) -> str:
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


@dataclass(frozen=True, slots=True)
class Assignment:
    """The ready endpoints of one cluster, sorted."""

    cluster: str
    origin: str
    endpoints: tuple[Endpoint, ...]


@dataclass(frozen=True, slots=True)
class Gateway:
    """What one Gateway serves. `name` is "namespace/name".

    mirrored: those of the backends that copies go to. pickers: those of its pools that are not our own.
    """

    name: str
    origin: str
    ports: tuple[Port, ...]
    backends: tuple[Backend, ...]
    mirrored: tuple[Backend, ...]
    pickers: tuple[Picker, ...]
    assignments: tuple[Assignment, ...]
