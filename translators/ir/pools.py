"""What stands behind a gateway: pools of model servers, with the models that they serve, and plain Services."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from translators.ir.matches import StringMatch

Runtime = Literal["vllm", "sglang", "tensorrt-llm", "triton", "tgi"]
Strategy = Literal["default", "prefix cache"]
Unlisted = Literal["sheddable", "standard", "refused"]


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
    """An endpoint picker behind a port of a Service, with TLS unless it is `plaintext`. ours: whether it is our own."""

    namespace: str
    service: str
    port: int
    origin: str
    plaintext: bool = False
    ours: bool = False

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
class Thresholds:
    """Beyond these a pod is busy: requests that wait there, and the share of its KV cache in use (0..1)."""

    queue: int = 5
    kv_cache: float = 0.8


@dataclass(frozen=True, slots=True)
class Pool:
    """An InferencePool. `name` is "namespace/name".

    picker: who picks, None for our own picker. seat: where ours is asked, None where there is but
    one. next_seat: where it is to be asked once it is ready there.
    picker_away: whether another picker has no ready endpoint and may be passed over. stand_in: whether ours picks
    where it cannot.
    subset: the endpoints, "ip:port", that another picker is told to choose from; None where it is not told.
    runtime: the model servers' dialect. unlisted: what becomes of a request for a model that is not declared.
    metric_names: what metrics are called where that is not the runtime's way, by figure (`pool.proto`).
    rewrites: in order of precedence. split: None where every pod does both prefill and decode.
    """

    name: str
    cluster: str
    origin: str
    fail_open: bool
    picker: Picker | None = None
    seat: Picker | None = None
    next_seat: Picker | None = None
    picker_away: bool = False
    stand_in: bool = False
    subset: tuple[str, ...] | None = None
    h2c: bool = False
    runtime: Runtime = "vllm"
    strategy: Strategy = "default"
    unlisted: Unlisted = "standard"
    thresholds: Thresholds = Thresholds()
    metric_names: tuple[tuple[str, str], ...] = ()
    models: tuple[Model, ...] = ()
    objectives: tuple[Objective, ...] = ()
    rewrites: tuple[Rewrite, ...] = ()
    split: Split | None = None

    def __hash__(self) -> int:
        # Two pools of a World differ in this; the whole of each of a thousand would be hashed for every change.
        return hash(self.cluster)

    @property
    def seats(self) -> tuple[Picker, ...]:
        """Everywhere that our picker has to know the pool."""
        return tuple(each for each in (self.seat, self.next_seat) if each is not None)

    @property
    def asks_ours(self) -> bool:
        """Whether our own picker is the one to ask at present."""
        return self.picker is None or (self.picker_away and self.stand_in)

    @property
    def asks_other(self) -> Picker | None:
        """The other picker to ask at present."""
        return None if self.picker_away else self.picker

    @property
    def with_stand_in(self) -> str:
        """The cluster of another picker before our own, which stands in for it."""
        behind = f"/{self.seat.cluster}" if self.seat else ""
        return f"{self.picker.cluster}/with-stand-in{behind}" if self.picker else ""

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
        if not self.asks_ours:
            return self.asks_other is not None
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
    """One port of a Service."""

    namespace: str
    service: str
    port: int
    origin: str
    h2c: bool = False

    @property
    def name(self) -> str:
        """The port for people: "namespace/name:port"."""
        return f"{self.namespace}/{self.service}:{self.port}"

    @property
    def cluster(self) -> str:
        """The cluster of the port's endpoints."""
        return f"service/{self.namespace}/{self.service}/{self.port}"


Backend = Pool | Service
