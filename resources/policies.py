"""Envoy Gateway's ClientTrafficPolicy and BackendTrafficPolicy, as far as they are built."""

from typing import Annotated, ClassVar, Literal

from msgspec import Meta

from resources.durations import Duration
from resources.fields import Fields, Kind, ReferenceName, Rule, Subdomain
from resources.gateway import GATEWAY_GROUP
from resources.meta import Object
from resources.quantities import Quantity

ENVOY_GATEWAY_GROUP = "gateway.envoyproxy.io"


class PolicyTargetReference(Fields, frozen=True, kw_only=True):
    """What a policy applies to, in the policy's namespace."""

    group: Literal["gateway.networking.k8s.io"] = GATEWAY_GROUP
    kind: Kind
    name: ReferenceName
    section_name: Subdomain | None = None


_ONE_WAY = Rule(
    "targetRefs",
    "only one of targetRef and targetRefs may be set",
    "!has(self.targetRef) || !has(self.targetRefs) || size(self.targetRefs) == 0",
)


class PolicySpec(Fields, frozen=True, kw_only=True):
    """The targets of a policy; `targetRef` is the older way to name a single one."""

    RULES = (_ONE_WAY,)

    target_ref: PolicyTargetReference | None = None
    target_refs: Annotated[tuple[PolicyTargetReference, ...], Meta(max_length=16)] = ()

    @property
    def targets(self) -> tuple[PolicyTargetReference, ...]:
        """The targets, however they are written."""
        return self.target_refs or ((self.target_ref,) if self.target_ref else ())

    def __post_init__(self) -> None:
        if self.target_ref is not None and self.target_refs:
            raise _ONE_WAY.broken()


class ClientConnection(Fields, frozen=True, kw_only=True):
    """A client's connection; `bufferLimit` is in bytes."""

    UNBUILT: ClassVar[frozenset[str]] = frozenset(
        {"connectionLimit", "maxAcceptPerSocketEvent", "socketBufferLimit"},
    )

    buffer_limit: Quantity | None = None


class ClientTrafficPolicySpec(PolicySpec, frozen=True, kw_only=True):
    """How a gateway treats its clients."""

    UNBUILT: ClassVar[frozenset[str]] = frozenset(
        {"clientIPDetection", "enableProxyProtocol", "grpc", "headers", "healthCheck", "http1", "http2", "http3",
         "path", "proxyProtocol", "scheme", "targetSelectors", "tcpKeepalive", "timeout", "tls"},
    )  # fmt: skip

    connection: ClientConnection = ClientConnection()


class ClientTrafficPolicy(Object, frozen=True, kw_only=True):
    """A policy on the side of the client."""

    GROUP = ENVOY_GATEWAY_GROUP
    KIND = "ClientTrafficPolicy"
    VERSIONS = ("v1alpha1",)

    spec: ClientTrafficPolicySpec


class BackendHTTPTimeout(Fields, frozen=True, kw_only=True):
    """Time limits of requests."""

    UNBUILT: ClassVar[frozenset[str]] = frozenset(
        {"connectionIdleTimeout", "maxConnectionDuration", "maxStreamDuration", "streamIdleTimeout"},
    )

    request_timeout: Duration | None = None


class BackendTimeout(Fields, frozen=True, kw_only=True):
    """Time limits."""

    UNBUILT: ClassVar[frozenset[str]] = frozenset({"tcp"})

    http: BackendHTTPTimeout = BackendHTTPTimeout()


class BackendTrafficPolicySpec(PolicySpec, frozen=True, kw_only=True):
    """How a gateway treats backends."""

    UNBUILT: ClassVar[frozenset[str]] = frozenset(
        {"admissionControl", "bandwidthLimit", "circuitBreaker", "compression", "compressor", "connection", "dns",
         "faultInjection", "healthCheck", "http2", "httpUpgrade", "loadBalancer", "mergeType", "proxyProtocol",
         "rateLimit", "requestBuffer", "responseOverride", "retry", "targetSelectors", "tcpKeepalive", "telemetry",
         "useClientProtocol"},
    )  # fmt: skip

    timeout: BackendTimeout = BackendTimeout()


class BackendTrafficPolicy(Object, frozen=True, kw_only=True):
    """A policy on the side of the backend."""

    GROUP = ENVOY_GATEWAY_GROUP
    KIND = "BackendTrafficPolicy"
    VERSIONS = ("v1alpha1",)

    spec: BackendTrafficPolicySpec
