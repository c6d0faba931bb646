"""GatewayClass, Gateway and ReferenceGrant of the Gateway API."""

from collections import Counter
from collections.abc import Mapping
from typing import Annotated, ClassVar, Final, Literal

from msgspec import Meta

from resources.fields import (
    ControllerName,
    DnsLabel,
    FieldError,
    Fields,
    Group,
    Hostname,
    Kind,
    Port,
    Protocol,
    ReferenceName,
    Subdomain,
)
from resources.meta import LabelSelector, Object

GATEWAY_GROUP: Final = "gateway.networking.k8s.io"
WARNINGS: Final = frozenset({"Conflicted", "OverlappingTLSConfig", "PartiallyInvalid"})
"""The conditions of Gateways and routes that are True where something is wrong; elsewhere they may be left out."""


class LocalParametersReference(Fields, frozen=True, kw_only=True):
    """A reference to an implementation's own configuration in the gateway's namespace."""

    group: Group
    kind: Kind
    name: ReferenceName


class ParametersReference(LocalParametersReference, frozen=True, kw_only=True):
    """A reference to an implementation's own configuration anywhere."""

    namespace: DnsLabel | None = None


class GatewayClassSpec(Fields, frozen=True, kw_only=True):
    """Who serves the gateways of a class."""

    SILENT: ClassVar[frozenset[str]] = frozenset({"description"})

    controller_name: ControllerName
    parameters_ref: ParametersReference | None = None


class GatewayClass(Object, frozen=True, kw_only=True):
    """A class of gateways."""

    GROUP = GATEWAY_GROUP
    KIND = "GatewayClass"
    VERSIONS = ("v1", "v1beta1")
    NAMESPACED = False

    spec: GatewayClassSpec


class RouteNamespaces(Fields, frozen=True, kw_only=True):
    """The namespaces whose routes may attach; `from_` is the API's `from`."""

    from_: Literal["All", "Same", "Selector"] = "Same"
    selector: LabelSelector | None = None


class RouteGroupKind(Fields, frozen=True, kw_only=True):
    """A kind of route."""

    group: Group = GATEWAY_GROUP
    kind: Kind


class AllowedRoutes(Fields, frozen=True, kw_only=True):
    """The routes that may attach to a listener; no `kinds` means those of its protocol."""

    namespaces: RouteNamespaces = RouteNamespaces()
    kinds: Annotated[tuple[RouteGroupKind, ...], Meta(max_length=8)] = ()


class SecretObjectReference(Fields, frozen=True, kw_only=True):
    """A certificate and its key; no `namespace` means the gateway's own."""

    group: Group = ""
    kind: Kind = "Secret"
    name: ReferenceName
    namespace: DnsLabel | None = None


class ListenerTLSConfig(Fields, frozen=True, kw_only=True):
    """What becomes of the clients' TLS."""

    UNBUILT: ClassVar[frozenset[str]] = frozenset({"options"})

    mode: Literal["Terminate", "Passthrough"] = "Terminate"
    certificate_refs: Annotated[tuple[SecretObjectReference, ...], Meta(max_length=64)] = ()


class Listener(Fields, frozen=True, kw_only=True):
    """A port of a gateway."""

    name: Subdomain
    hostname: Hostname | None = None
    port: Port
    protocol: Protocol
    tls: ListenerTLSConfig | None = None
    allowed_routes: AllowedRoutes = AllowedRoutes()

    def __post_init__(self) -> None:
        if self.hostname is not None and self.protocol in {"TCP", "UDP"}:
            raise FieldError("hostname", f"protocol {self.protocol} has no hostnames")
        if self.tls is not None and self.protocol in {"HTTP", "TCP", "UDP"}:
            raise FieldError("tls", f"protocol {self.protocol} has no TLS")
        if self.tls is None and self.protocol == "TLS":
            raise FieldError("tls", "is required where the protocol is TLS")
        if self.tls is not None and self.tls.mode != "Terminate" and self.protocol == "HTTPS":
            raise FieldError("tls.mode", "must be Terminate where the protocol is HTTPS")


class GatewayAddress(Fields, frozen=True, kw_only=True):
    """An address that a gateway asks for; no `value` leaves the choice to us."""

    type: Annotated[str, Meta(min_length=1, max_length=253)] = "IPAddress"
    value: Annotated[str, Meta(max_length=253)] | None = None


class GatewayInfrastructure(Fields, frozen=True, kw_only=True):
    """What to give to the things made for a gateway."""

    labels: Annotated[Mapping[str, str], Meta(max_length=8)] = {}
    annotations: Annotated[Mapping[str, str], Meta(max_length=8)] = {}
    parameters_ref: LocalParametersReference | None = None


class GatewaySpec(Fields, frozen=True, kw_only=True):
    """The listeners of a gateway."""

    UNBUILT: ClassVar[frozenset[str]] = frozenset({"allowedListeners", "backendTLS", "defaultScope", "tls"})

    gateway_class_name: ReferenceName
    listeners: Annotated[tuple[Listener, ...], Meta(min_length=1, max_length=64)]
    addresses: Annotated[tuple[GatewayAddress, ...], Meta(max_length=16)] = ()
    infrastructure: GatewayInfrastructure | None = None

    def __post_init__(self) -> None:
        names = Counter(listener.name for listener in self.listeners)
        places = Counter((listener.port, listener.protocol, listener.hostname or "") for listener in self.listeners)
        for index, listener in enumerate(self.listeners):
            if names[listener.name] > 1:
                raise FieldError(f"listeners[{index}].name", f"listener name {listener.name!r} is used twice")
            if places[listener.port, listener.protocol, listener.hostname or ""] > 1:
                raise FieldError(f"listeners[{index}]", "another listener has the same port, protocol and hostname")


class Gateway(Object, frozen=True, kw_only=True):
    """A place where traffic enters."""

    GROUP = GATEWAY_GROUP
    KIND = "Gateway"
    VERSIONS = ("v1", "v1beta1")

    spec: GatewaySpec


class ReferenceGrantFrom(Fields, frozen=True, kw_only=True):
    """Who may refer."""

    group: Group
    kind: Kind
    namespace: DnsLabel


class ReferenceGrantTo(Fields, frozen=True, kw_only=True):
    """What may be referred to; no `name` means every object of the kind."""

    group: Group
    kind: Kind
    name: ReferenceName | None = None


class ReferenceGrantSpec(Fields, frozen=True, kw_only=True):
    """References from other namespaces that this namespace allows."""

    from_: Annotated[tuple[ReferenceGrantFrom, ...], Meta(min_length=1, max_length=16)]
    to: Annotated[tuple[ReferenceGrantTo, ...], Meta(min_length=1, max_length=16)]


class ReferenceGrant(Object, frozen=True, kw_only=True):
    """Leave for references from other namespaces."""

    GROUP = GATEWAY_GROUP
    KIND = "ReferenceGrant"
    VERSIONS = ("v1", "v1beta1")

    spec: ReferenceGrantSpec
