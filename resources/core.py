"""Namespaces, Services, endpoints, Pods and Deployments, as far as a gateway reads them.

All of them are lenient: the fields left out here are passed over without a word.
"""

from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec
from msgspec import Meta
from msgspec.structs import force_setattr

from resources.fields import Fields, Port
from resources.meta import LabelSelector, Object

TransportProtocol = Literal["TCP", "UDP", "SCTP"]
SERVICE_NAME_LABEL = "kubernetes.io/service-name"
PORTS_ANNOTATION = "pointsman.dev/listening-ports"
"""On a Pod: where its ports really are, "8000=53211,9000=53212".

Only for pods that share an address with others, as simulated ones do on a machine with a single loopback address.
"""


class Namespace(Object, frozen=True, kw_only=True):
    """A namespace; its labels decide which routes a listener takes."""

    GROUP = ""
    KIND = "Namespace"
    VERSIONS = ("v1",)
    NAMESPACED = False
    LENIENT = True


class ServicePort(Fields, frozen=True, kw_only=True):
    """A port of a Service; `target_port` is a number or the name of a container's port."""

    name: str = ""
    port: Port
    protocol: TransportProtocol = "TCP"
    target_port: Port | str = 0
    app_protocol: str | None = None
    node_port: int | None = None

    def __post_init__(self) -> None:
        # The API server's own default (core/v1, ServicePort.targetPort).
        if self.target_port in {0, ""}:
            force_setattr(self, "target_port", self.port)


class ServiceSpec(Fields, frozen=True, kw_only=True):
    """Ports and pods of a Service."""

    ports: tuple[ServicePort, ...] = ()
    selector: Mapping[str, str] = {}
    type: Literal["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"] = "ClusterIP"
    cluster_ip: str | None = msgspec.field(default=None, name="clusterIP")
    external_name: str | None = None
    publish_not_ready_addresses: bool = False


class Service(Object, frozen=True, kw_only=True):
    """A name for pods."""

    GROUP = ""
    KIND = "Service"
    VERSIONS = ("v1",)
    LENIENT = True

    spec: ServiceSpec = ServiceSpec()


class ObjectReference(Fields, frozen=True, kw_only=True):
    """A reference to any object."""

    kind: str = ""
    namespace: str = ""
    name: str = ""


class EndpointConditions(Fields, frozen=True, kw_only=True):
    """The state of an endpoint; None means unknown, which counts as ready and as serving."""

    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None


class Endpoint(Fields, frozen=True, kw_only=True):
    """An endpoint: one pod, mostly. Only the first address counts (discovery/v1, Endpoint.addresses)."""

    addresses: Annotated[tuple[str, ...], Meta(min_length=1, max_length=100)]
    conditions: EndpointConditions = EndpointConditions()
    hostname: str | None = None
    node_name: str | None = None
    zone: str | None = None
    target_ref: ObjectReference | None = None


class EndpointPort(Fields, frozen=True, kw_only=True):
    """A port of every endpoint of a slice; `name` is the Service port's."""

    name: str = ""
    port: Port | None = None
    protocol: TransportProtocol = "TCP"
    app_protocol: str | None = None


class EndpointSlice(Object, frozen=True, kw_only=True):
    """Endpoints of a Service, named by the label `kubernetes.io/service-name`."""

    GROUP = "discovery.k8s.io"
    KIND = "EndpointSlice"
    VERSIONS = ("v1",)
    LENIENT = True

    address_type: Literal["IPv4", "IPv6", "FQDN"]
    endpoints: tuple[Endpoint, ...] = ()
    ports: tuple[EndpointPort, ...] = ()


class ContainerPort(Fields, frozen=True, kw_only=True):
    """A port of a container."""

    container_port: Port
    name: str = ""
    protocol: TransportProtocol = "TCP"


class EnvVar(Fields, frozen=True, kw_only=True):
    """A variable of a container's environment; values taken from elsewhere are not resolved."""

    name: str
    value: str = ""


class HTTPGetAction(Fields, frozen=True, kw_only=True):
    """A probe by HTTP."""

    path: str = "/"
    port: Port | str
    scheme: Literal["HTTP", "HTTPS"] = "HTTP"


class TCPSocketAction(Fields, frozen=True, kw_only=True):
    """A probe by connecting."""

    port: Port | str


class Probe(Fields, frozen=True, kw_only=True):
    """How to see that a container is ready; periods in seconds."""

    http_get: HTTPGetAction | None = None
    tcp_socket: TCPSocketAction | None = None
    initial_delay_seconds: int = 0
    period_seconds: int = 10
    timeout_seconds: int = 1
    success_threshold: int = 1
    failure_threshold: int = 3


class Container(Fields, frozen=True, kw_only=True):
    """A container of a pod."""

    name: str
    image: str = ""
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    env: tuple[EnvVar, ...] = ()
    ports: tuple[ContainerPort, ...] = ()
    readiness_probe: Probe | None = None


class PodSpec(Fields, frozen=True, kw_only=True):
    """The containers of a pod."""

    containers: tuple[Container, ...] = ()
    init_containers: tuple[Container, ...] = ()
    node_name: str | None = None
    hostname: str | None = None


class PodCondition(Fields, frozen=True, kw_only=True):
    """A condition of a pod."""

    type: str
    status: str
    reason: str = ""
    message: str = ""


class PodIP(Fields, frozen=True, kw_only=True):
    """An address of a pod."""

    ip: str


class PodStatus(Fields, frozen=True, kw_only=True):
    """What the cluster says of a pod."""

    phase: str = ""
    pod_ip: str | None = msgspec.field(default=None, name="podIP")
    pod_ips: tuple[PodIP, ...] = msgspec.field(default=(), name="podIPs")
    conditions: tuple[PodCondition, ...] = ()


class Pod(Object, frozen=True, kw_only=True):
    """A pod."""

    GROUP = ""
    KIND = "Pod"
    VERSIONS = ("v1",)
    LENIENT = True

    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()

    @property
    def addresses(self) -> tuple[str, ...]:
        """The pod's addresses, the main one first."""
        rest = tuple(each.ip for each in self.status.pod_ips if each.ip != self.status.pod_ip)
        return (self.status.pod_ip, *rest) if self.status.pod_ip else rest

    def listening(self, port: int) -> int:
        """Return the port on which the pod really serves one of its ports: the same, unless an annotation says so."""
        for pair in self.metadata.annotations.get(PORTS_ANNOTATION, "").split(","):
            declared, _, real = pair.partition("=")
            if declared.strip() == str(port) and real.strip().isdecimal():
                return int(real)
        return port

    @property
    def ready(self) -> bool:
        """Whether the pod may be sent requests: it says Ready and is not being deleted."""
        return self.metadata.deletion_timestamp is None and any(
            condition.type == "Ready" and condition.status == "True" for condition in self.status.conditions
        )


class PodTemplateMeta(Fields, frozen=True, kw_only=True):
    """Metadata of the pods to be made."""

    labels: Mapping[str, str] = {}
    annotations: Mapping[str, str] = {}


class PodTemplate(Fields, frozen=True, kw_only=True):
    """The pods to be made."""

    metadata: PodTemplateMeta = PodTemplateMeta()
    spec: PodSpec = PodSpec()


class DeploymentSpec(Fields, frozen=True, kw_only=True):
    """How many pods of which kind."""

    replicas: Annotated[int, Meta(ge=0)] = 1
    selector: LabelSelector = LabelSelector()
    template: PodTemplate = PodTemplate()


class Deployment(Object, frozen=True, kw_only=True):
    """Pods that are kept running."""

    GROUP = "apps"
    KIND = "Deployment"
    VERSIONS = ("v1",)
    LENIENT = True

    spec: DeploymentSpec
