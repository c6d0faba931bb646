"""Envoy Gateway's EnvoyProxy: how the Envoys of a Gateway, or of all Gateways of a class, are deployed."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta

from resources.durations import Duration
from resources.fields import FieldError, Fields, Rule
from resources.meta import Object
from resources.policies import ENVOY_GATEWAY_GROUP

LogLevel = Literal["trace", "debug", "info", "warn", "error", "critical"]


class KubernetesPatch(Fields, frozen=True, kw_only=True):
    """What to change in an object that is made: a merge patch (RFC 7386), whichever of the two types it names."""

    type: Literal["StrategicMerge", "JSONMerge"] = "StrategicMerge"
    value: Mapping[str, Any]


class KubernetesContainer(Fields, frozen=True, kw_only=True):
    """Envoy's container."""

    image: str | None = None
    image_repository: str | None = None
    resources: Mapping[str, Any] | None = None
    security_context: Mapping[str, Any] | None = None
    env: tuple[Mapping[str, Any], ...] = ()
    volume_mounts: tuple[Mapping[str, Any], ...] = ()


class KubernetesPod(Fields, frozen=True, kw_only=True):
    """Envoy's pods."""

    annotations: Mapping[str, str] = {}
    labels: Mapping[str, str] = {}
    affinity: Mapping[str, Any] | None = None
    node_selector: Mapping[str, str] | None = None
    tolerations: tuple[Mapping[str, Any], ...] = ()
    topology_spread_constraints: tuple[Mapping[str, Any], ...] = ()
    image_pull_secrets: tuple[Mapping[str, Any], ...] = ()
    security_context: Mapping[str, Any] | None = None
    volumes: tuple[Mapping[str, Any], ...] = ()
    priority_class_name: str | None = None


class KubernetesDaemonSet(Fields, frozen=True, kw_only=True):
    """A DaemonSet of Envoys."""

    name: str | None = None
    strategy: Mapping[str, Any] | None = None
    pod: KubernetesPod = KubernetesPod()
    container: KubernetesContainer = KubernetesContainer()
    patch: KubernetesPatch | None = None


class KubernetesDeployment(KubernetesDaemonSet, frozen=True, kw_only=True):
    """A Deployment of Envoys; without `replicas` one, or what an autoscaler says."""

    replicas: Annotated[int, Meta(ge=0)] | None = None


class KubernetesService(Fields, frozen=True, kw_only=True):
    """The Service of Envoys."""

    name: str | None = None
    type: Literal["ClusterIP", "LoadBalancer", "NodePort"] = "LoadBalancer"
    annotations: Mapping[str, str] = {}
    labels: Mapping[str, str] = {}
    load_balancer_class: str | None = None
    allocate_load_balancer_node_ports: bool | None = None
    load_balancer_source_ranges: tuple[str, ...] = ()
    load_balancer_ip: str | None = msgspec.field(default=None, name="loadBalancerIP")
    external_traffic_policy: Literal["Local", "Cluster"] = "Local"
    patch: KubernetesPatch | None = None


_RANGE = Rule(
    "maxReplicas",
    "cannot be lower than minReplicas",
    "!has(self.minReplicas) || self.minReplicas <= self.maxReplicas",
)


class KubernetesHorizontalPodAutoscaler(Fields, frozen=True, kw_only=True):
    """The autoscaler of a Deployment of Envoys."""

    RULES = (_RANGE,)

    min_replicas: Annotated[int, Meta(ge=1)] | None = None
    max_replicas: Annotated[int, Meta(ge=1)]
    metrics: tuple[Mapping[str, Any], ...] = ()
    behavior: Mapping[str, Any] | None = None
    patch: KubernetesPatch | None = None

    def __post_init__(self) -> None:
        if self.min_replicas is not None and self.min_replicas > self.max_replicas:
            raise _RANGE.broken()


_BUDGET = Rule(
    "", "one of minAvailable and maxUnavailable is required", "has(self.minAvailable) != has(self.maxUnavailable)"
)


class KubernetesPodDisruptionBudget(Fields, frozen=True, kw_only=True):
    """How many Envoys may be evicted at once."""

    RULES = (_BUDGET,)

    min_available: int | str | None = None
    max_unavailable: int | str | None = None
    patch: KubernetesPatch | None = None

    def __post_init__(self) -> None:
        if (self.min_available is None) == (self.max_unavailable is None):
            raise _BUDGET.broken()


_ONE_WORKLOAD = Rule(
    "envoyDaemonSet",
    "only one of envoyDeployment and envoyDaemonSet may be set",
    "!has(self.envoyDeployment) || !has(self.envoyDaemonSet)",
)
_NOT_SCALED = Rule("envoyHpa", "a DaemonSet is not scaled", "!has(self.envoyHpa) || !has(self.envoyDaemonSet)")


class EnvoyProxyKubernetes(Fields, frozen=True, kw_only=True):
    """What is made for Envoy in a cluster."""

    UNBUILT: ClassVar[frozenset[str]] = frozenset({"useListenerPortAsContainerPort", "envoyServiceAccount"})

    RULES = (_ONE_WORKLOAD, _NOT_SCALED)

    envoy_deployment: KubernetesDeployment | None = None
    envoy_daemon_set: KubernetesDaemonSet | None = None
    envoy_service: KubernetesService | None = None
    envoy_hpa: KubernetesHorizontalPodAutoscaler | None = None
    envoy_pdb: KubernetesPodDisruptionBudget | None = msgspec.field(default=None, name="envoyPDB")

    def __post_init__(self) -> None:
        if self.envoy_deployment is not None and self.envoy_daemon_set is not None:
            raise _ONE_WORKLOAD.broken()
        if self.envoy_hpa is not None and self.envoy_daemon_set is not None:
            raise _NOT_SCALED.broken()


class EnvoyProxyProvider(Fields, frozen=True, kw_only=True):
    """What Envoy runs on, and what is made for it there."""

    type: Literal["Kubernetes", "Host", "Custom"]
    kubernetes: EnvoyProxyKubernetes = EnvoyProxyKubernetes()
    host: Any = None


class JSONPatchOperation(Fields, frozen=True, kw_only=True):
    """One change of a document (RFC 6902)."""

    UNBUILT: ClassVar[frozenset[str]] = frozenset({"jsonPath"})

    op: Literal["add", "remove", "replace", "move", "copy", "test"]
    path: str | None = None
    from_: str | None = None
    value: Any = None

    def __post_init__(self) -> None:
        if self.op in {"move", "copy"} and self.from_ is None:
            raise FieldError("from", f"is required where op is {self.op}")


_AS_TYPED = Rule(
    "",
    "a bootstrap of type JSONPatch has jsonPatches, and one of another type has a value",
    "has(self.type) && self.type == 'JSONPatch' ? has(self.jsonPatches) && size(self.jsonPatches) > 0"
    " : has(self.value)",
)


class ProxyBootstrap(Fields, frozen=True, kw_only=True):
    """Another bootstrap in place of ours (YAML; without a type too), more of it (YAML), or changes of it."""

    RULES = (_AS_TYPED,)

    type: Literal["Merge", "Replace", "JSONPatch"] | None = None
    value: str | None = None
    json_patches: tuple[JSONPatchOperation, ...] = ()

    def __post_init__(self) -> None:
        if not self.json_patches if self.type == "JSONPatch" else self.value is None:
            raise _AS_TYPED.broken()


class ProxyLogging(Fields, frozen=True, kw_only=True):
    """Envoy's log levels by component; `default` is that of all others."""

    level: Mapping[str, LogLevel] = {}


class ShutdownConfig(Fields, frozen=True, kw_only=True):
    """How an Envoy that is told to end lets its requests end."""

    drain_timeout: Duration | None = None
    min_drain_duration: Duration | None = None


class EnvoyProxySpec(Fields, frozen=True, kw_only=True):
    """How Envoy is run.

    In a folder whoever runs Pointsman decides on that: there the fields say nothing.
    """

    UNBUILT: ClassVar[frozenset[str]] = frozenset(
        {"backendTLS", "dynamicModules", "filterOrder", "geoIP", "ipFamily", "luaValidation",
         "mergeBackends", "preserveRouteOrder", "routingType"},
    )  # fmt: skip

    provider: EnvoyProxyProvider | None = None
    logging: ProxyLogging | None = None
    telemetry: Any = None
    bootstrap: ProxyBootstrap | None = None
    concurrency: Annotated[int, Meta(ge=1)] | None = None
    extra_args: tuple[str, ...] | None = None
    shutdown: ShutdownConfig | None = None
    merge_gateways: bool | None = None

    @property
    def elsewhere(self) -> tuple[str, ...]:
        """The paths of the fields that are set and that say nothing where no Envoy is deployed."""
        values = {
            "provider": self.provider,
            "logging": self.logging,
            "telemetry": self.telemetry,
            "bootstrap": self.bootstrap,
            "concurrency": self.concurrency,
            "extraArgs": self.extra_args,
            "shutdown": self.shutdown,
            "mergeGateways": self.merge_gateways,
        }
        return tuple(f"spec.{name}" for name, value in values.items() if value is not None)


class EnvoyProxy(Object, frozen=True, kw_only=True):
    """Parameters of a Gateway or of a GatewayClass."""

    GROUP = ENVOY_GATEWAY_GROUP
    KIND = "EnvoyProxy"
    VERSIONS = ("v1alpha1",)

    spec: EnvoyProxySpec = EnvoyProxySpec()

    @property
    def kubernetes(self) -> EnvoyProxyKubernetes:
        """What is made for Envoy in a cluster."""
        provider = self.spec.provider
        return provider.kubernetes if provider is not None else EnvoyProxyKubernetes()
