"""InferencePool in both of its API groups, and InferenceModel, of the Gateway API Inference Extension."""

from collections.abc import Mapping
from typing import Annotated, Literal

from msgspec import Meta

from resources.fields import Fields, Group, Kind, LabelKey, Labels, LabelValue, Port, ReferenceName, Rule
from resources.meta import Object

INFERENCE_GROUP = "inference.networking.k8s.io"
X_INFERENCE_GROUP = "inference.networking.x-k8s.io"

OWN_PICKER_LABEL = "pointsman.dev/picker"
"""On a Service: "true" says that Pointsman's own picker stands behind it.

A pool that names such a Service is picked for as if it named none.
"""

PICKS_FOR_ANNOTATION = "pointsman.dev/picks-for"
"""On the Service of a picker that was made here: the pools that it knows, "group/name", with spaces in between."""

PLAINTEXT_ANNOTATION = "pointsman.dev/plaintext"
"""On a Pod: "true" says that a picker in it is spoken to without TLS; pickers have TLS unless something says otherwise.

A Service says so for all of its pods by the port's appProtocol kubernetes.io/h2c.
"""

RUNTIME_ANNOTATION = "inference.networking.x-k8s.io/model-server-runtime"
"""On a pool: which model servers it has, as in RUNTIMES; vLLM unless it says otherwise."""

STRATEGY_ANNOTATION = "inference.networking.x-k8s.io/routing-strategy"
"""On a pool: how a pod is chosen, DEFAULT or PREFIX_CACHE."""

SUBSET_ANNOTATION = "pointsman.dev/subset-hint"
"""On a pool: whether another's picker is told, with each request, which endpoints it may choose from."""

UNLISTED_ANNOTATION = "pointsman.dev/unlisted-models"
"""On a pool: what becomes of models that nothing declares for it: "serve", which is the default, or "refuse" (404)."""

METRICS_ANNOTATION = "pointsman.dev/metrics"
"""On a pool: what its servers' metrics are called where not as usual, "waiting=NAME running=NAME{label=value}".

The figures are waiting and running (requests) and kv_usage (0..1).
"""

QUEUE_THRESHOLD_ANNOTATION = "pointsman.dev/queue-threshold"
"""On a pool: with more requests waiting than that a pod is busy, 5 unless it says otherwise."""

KV_THRESHOLD_ANNOTATION = "pointsman.dev/kv-cache-threshold"
"""On a pool: with a greater share of its KV cache in use than that a pod is busy, 0.8 unless it says otherwise."""

ACTIVE_PORTS_ANNOTATIONS = ("llm-d.ai/active-ports", "inference.networking.k8s.io/active-ports")
"""On a Pod: which of its pool's ports are in use, "8000,8001"; the first of the two that is there counts."""

FailureMode = Literal["FailOpen", "FailClose"]
# The port that an extension is expected on when the v1alpha2 pool names none (v1alpha2, Extension.portNumber).
EXTENSION_PORT = 9002


class PoolSelector(Fields, frozen=True, kw_only=True):
    """The labels of the pods of a pool."""

    match_labels: Annotated[Labels, Meta(min_length=1, max_length=64)]

    def __hash__(self) -> int:
        return hash(frozenset(self.match_labels.items()))


class TargetPort(Fields, frozen=True, kw_only=True):
    """A port of each pod of a pool: with several, each is an endpoint of its own."""

    number: Port


class EndpointPickerPort(Fields, frozen=True, kw_only=True):
    """The port of the picker's Service."""

    number: Port


_PICKER_PORT = Rule("port", "is required when kind is Service", "self.kind != 'Service' || has(self.port)")


class EndpointPickerRef(Fields, frozen=True, kw_only=True):
    """The picker that chooses among a pool's endpoints."""

    RULES = (_PICKER_PORT,)

    group: Group = ""
    kind: Kind = "Service"
    name: ReferenceName
    port: EndpointPickerPort | None = None
    failure_mode: FailureMode = "FailClose"

    def __post_init__(self) -> None:
        if self.kind == "Service" and self.port is None:
            raise _PICKER_PORT.broken()


_PORTS_DIFFER = Rule(
    "targetPorts",
    "port numbers must differ",
    "self.targetPorts.all(a, self.targetPorts.exists_one(b, b.number == a.number))",
)


class InferencePoolSpec(Fields, frozen=True, kw_only=True):
    """The pods of a pool, their ports, and who picks."""

    RULES = (_PORTS_DIFFER,)

    selector: PoolSelector
    target_ports: Annotated[tuple[TargetPort, ...], Meta(min_length=1, max_length=8)]
    app_protocol: Literal["http", "kubernetes.io/h2c"] = "http"
    endpoint_picker_ref: EndpointPickerRef | None = None

    def __post_init__(self) -> None:
        if len(set(self.target_ports)) != len(self.target_ports):
            raise _PORTS_DIFFER.broken()


class InferencePool(Object, frozen=True, kw_only=True):
    """Pods that serve the same models (v1)."""

    GROUP = INFERENCE_GROUP
    KIND = "InferencePool"
    VERSIONS = ("v1",)

    spec: InferencePoolSpec


class ExtensionRef(Fields, frozen=True, kw_only=True):
    """The picker that chooses among a v1alpha2 pool's endpoints."""

    group: Group = ""
    kind: Kind = "Service"
    name: ReferenceName
    port_number: Port = EXTENSION_PORT
    failure_mode: FailureMode = "FailClose"


class XInferencePoolSpec(Fields, frozen=True, kw_only=True):
    """The pods of a v1alpha2 pool, their port, and who picks.

    `extensionRef` may be left out, which the schema forbids but products built on v1alpha2 allow.
    """

    selector: Annotated[Mapping[LabelKey, LabelValue], Meta(min_length=1, max_length=64)]
    target_port_number: Port
    extension_ref: ExtensionRef | None = None


class XInferencePool(Object, frozen=True, kw_only=True):
    """Pods that serve the same models (v1alpha2 of the experimental group)."""

    GROUP = X_INFERENCE_GROUP
    KIND = "InferencePool"
    VERSIONS = ("v1alpha2",)

    spec: XInferencePoolSpec


class PoolReference(Fields, frozen=True, kw_only=True):
    """A pool in the same namespace."""

    group: Group = X_INFERENCE_GROUP
    kind: Kind = "InferencePool"
    name: ReferenceName


class TargetModel(Fields, frozen=True, kw_only=True):
    """A model of the server that answers a share of a model's requests."""

    name: Annotated[str, Meta(min_length=1, max_length=253)]
    weight: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None


_WEIGHTS = Rule(
    "targetModels",
    "weights must be set for all target models or for none",
    "!has(self.targetModels)"
    " || self.targetModels.all(each, has(each.weight)) || self.targetModels.all(each, !has(each.weight))",
)


class InferenceModelSpec(Fields, frozen=True, kw_only=True):
    """A model that clients ask for; no `criticality` means Standard, no target models mean the model itself."""

    RULES = (_WEIGHTS,)

    model_name: Annotated[str, Meta(min_length=1, max_length=256)]
    criticality: Literal["Critical", "Standard", "Sheddable"] | None = None
    target_models: Annotated[tuple[TargetModel, ...], Meta(max_length=10)] = ()
    pool_ref: PoolReference

    def __post_init__(self) -> None:
        if len({target.weight is None for target in self.target_models}) > 1:
            raise _WEIGHTS.broken()


class InferenceModel(Object, frozen=True, kw_only=True):
    """A model, its importance and the pool that serves it."""

    GROUP = X_INFERENCE_GROUP
    KIND = "InferenceModel"
    VERSIONS = ("v1alpha2",)

    spec: InferenceModelSpec
