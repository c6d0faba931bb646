"""Namespaces, Services, endpoints and ConfigMaps, as far as a gateway reads them.

All of them are lenient: the fields left out here are passed over without a word.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta
from msgspec.structs import force_setattr

from resources.fields import FieldError, Fields, Port, check_address
from resources.meta import Object

TransportProtocol = Literal["TCP", "UDP", "SCTP"]
TLS_SECRET: Final = "kubernetes.io/tls"  # noqa: S105 - a type's name
"""The type of the Secrets that hold a certificate and its key."""
SERVICE_NAME_LABEL = "kubernetes.io/service-name"


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
    external_ips: tuple[str, ...] = msgspec.field(default=(), name="externalIPs")
    publish_not_ready_addresses: bool = False


class LoadBalancerIngress(Fields, frozen=True, kw_only=True):
    """Where a load balancer takes requests."""

    ip: str | None = None
    hostname: str | None = None


class LoadBalancerStatus(Fields, frozen=True, kw_only=True):
    """The places of a load balancer."""

    ingress: tuple[LoadBalancerIngress, ...] = ()


class ServiceStatus(Fields, frozen=True, kw_only=True):
    """What the cluster says of a Service."""

    load_balancer: LoadBalancerStatus = LoadBalancerStatus()


class Service(Object, frozen=True, kw_only=True):
    """A name for pods."""

    GROUP = ""
    KIND = "Service"
    VERSIONS = ("v1",)
    LENIENT = True

    spec: ServiceSpec = ServiceSpec()
    status: ServiceStatus = ServiceStatus()


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

    def __post_init__(self) -> None:
        if self.address_type == "FQDN":
            return
        for number, endpoint in enumerate(self.endpoints):
            for each, address in enumerate(endpoint.addresses):
                check_address(f"endpoints[{number}].addresses[{each}]", address)


class ConfigMap(Object, frozen=True, kw_only=True):
    """Files and variables for pods."""

    GROUP = ""
    KIND = "ConfigMap"
    VERSIONS = ("v1",)
    LENIENT = True

    data: Mapping[str, str] = {}
    binary_data: Mapping[str, bytes] = {}

    @property
    def files(self) -> Mapping[str, bytes]:
        """The contents of the files that a volume of it has, by name."""
        return {**{name: text.encode() for name, text in self.data.items()}, **self.binary_data}


class Secret(Object, frozen=True, kw_only=True):
    """A certificate chain and its private key, as PEM; of Secrets of other types nothing is kept but their type.

    Its text names it and shows nothing of what it holds.
    """

    GROUP = ""
    KIND = "Secret"
    VERSIONS = ("v1",)
    LENIENT = True

    type: str = "Opaque"
    data: Mapping[str, bytes] = {}
    string_data: Mapping[str, str] = {}

    def __post_init__(self) -> None:
        if self.string_data:
            # What is written as text wins, and is read as data from then on (core/v1, Secret.stringData).
            merged = {**self.data, **{name: text.encode() for name, text in self.string_data.items()}}
            force_setattr(self, "data", merged)
            force_setattr(self, "string_data", {})
        if self.type == TLS_SECRET:
            for name in ("tls.crt", "tls.key"):
                if name not in self.data:
                    raise FieldError("data", f"{name} is required where the type is {TLS_SECRET}")

    @classmethod
    def trimmed(cls, raw: Mapping[str, object]) -> Mapping[str, object]:
        """Leave out what Secrets of other types hold: it is nobody's business here."""
        if raw.get("type") == TLS_SECRET:
            return raw
        return {name: value for name, value in raw.items() if name not in {"data", "stringData"}}

    def __repr__(self) -> str:
        return f"Secret({self.key}, type={self.type!r})"

    # Without these, msgspec's own would be what rich and f-strings show.
    __str__ = __repr__

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("key", str(self.key)), ("type", self.type)]


class UnreadableSecret(Secret, frozen=True, kw_only=True):
    """Stands for a Secret that may be there and cannot be read; no document decodes to one. `reason` is for people."""

    reason: str
