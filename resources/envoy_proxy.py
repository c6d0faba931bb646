"""Envoy Gateway's EnvoyProxy, as far as it says something to a gateway that is not run by Envoy Gateway."""

from typing import Any, ClassVar, Literal

from resources.fields import Fields
from resources.meta import Object
from resources.policies import ENVOY_GATEWAY_GROUP


class EnvoyProxyProvider(Fields, frozen=True, kw_only=True):
    """What Envoy runs on, and what is made for it there."""

    type: Literal["Kubernetes", "Host", "Custom"]
    kubernetes: Any = None
    host: Any = None


class EnvoyProxySpec(Fields, frozen=True, kw_only=True):
    """How Envoy is run.

    The fields here say how Envoy Gateway deploys and watches Envoy; whoever runs Pointsman decides on these otherwise.
    """

    UNBUILT: ClassVar[frozenset[str]] = frozenset(
        {"backendTLS", "bootstrap", "dynamicModules", "filterOrder", "geoIP", "ipFamily", "luaValidation",
         "mergeBackends", "mergeGateways", "preserveRouteOrder", "routingType"},
    )  # fmt: skip

    provider: EnvoyProxyProvider | None = None
    logging: Any = None
    telemetry: Any = None
    concurrency: Any = None
    extra_args: Any = None
    shutdown: Any = None

    @property
    def elsewhere(self) -> tuple[str, ...]:
        """The paths of the fields that are set and decided on elsewhere."""
        values = {
            "provider": self.provider,
            "logging": self.logging,
            "telemetry": self.telemetry,
            "concurrency": self.concurrency,
            "extraArgs": self.extra_args,
            "shutdown": self.shutdown,
        }
        return tuple(f"spec.{name}" for name, value in values.items() if value is not None)


class EnvoyProxy(Object, frozen=True, kw_only=True):
    """Parameters of a Gateway or of a GatewayClass."""

    GROUP = ENVOY_GATEWAY_GROUP
    KIND = "EnvoyProxy"
    VERSIONS = ("v1alpha1",)

    spec: EnvoyProxySpec = EnvoyProxySpec()
