"""The objects that the control plane is measured with: one Gateway, and many HTTPRoutes to one Service.

Beside them is a route to a Service of its own, whose one endpoint comes and goes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

Json = Mapping[str, object]
Hosts = Literal["own", "one"]
"""Whether each route has a hostname of its own, or all have the same."""

NAMESPACE = "default"
GATEWAY = "bench"
VERSION = "x-version"
"""The header of answers by which one form of a route is told from another."""

POD_PATH, POD_HOST = "/pod", "pod.example.com"
_GATEWAY_API = "gateway.networking.k8s.io/v1"


@dataclass(frozen=True, slots=True)
class Routes:
    """So many routes."""

    count: int
    hosts: Hosts

    def host(self, number: int) -> str:
        """Return the host at which a route is asked for."""
        return f"r{number}.example.com" if self.hosts == "own" else "one.example.com"

    def path(self, number: int) -> str:
        """Return the path of a route."""
        return f"/r{number}"

    def route(self, number: int, version: int = 0) -> Json:
        """Return one of the routes, in one of its forms."""
        return _route(f"r{number}", self.host(number), self.path(number), "server", version)

    def all(self) -> Iterator[Json]:
        """Yield every route."""
        for number in range(self.count):
            yield self.route(number)


def frame(controller: str, port: int, backend_port: int) -> Iterator[Json]:
    """Yield the Gateway, its class, the route to the pod that comes and goes, and Services without selectors."""
    listeners = [{"name": "http", "port": port, "protocol": "HTTP"}]
    yield _object(_GATEWAY_API, "GatewayClass", GATEWAY, spec={"controllerName": controller})
    yield _object(_GATEWAY_API, "Gateway", GATEWAY, spec={"gatewayClassName": GATEWAY, "listeners": listeners})
    for name in ("server", "pod"):
        yield _object("v1", "Service", name, spec={"ports": [{"name": "http", "port": 80, "targetPort": backend_port}]})
    yield _route("pod", POD_HOST, POD_PATH, "pod", 0)


def endpoints(service: str, address: str, port: int, *, ready: bool = True) -> Json:
    """Return the endpoint of a Service."""
    return _object(
        "discovery.k8s.io/v1",
        "EndpointSlice",
        f"{service}-1",
        labels={"kubernetes.io/service-name": service},
        addressType="IPv4",
        ports=[{"name": "http", "port": port, "protocol": "TCP"}],
        endpoints=[{"addresses": [address], "conditions": {"ready": ready}}],
    )


def _route(name: str, host: str, path: str, service: str, version: int) -> Json:
    changes = {"set": [{"name": VERSION, "value": str(version)}]}
    rule = {
        "matches": [{"path": {"type": "PathPrefix", "value": path}}],
        "filters": [{"type": "ResponseHeaderModifier", "responseHeaderModifier": changes}],
        "backendRefs": [{"name": service, "port": 80}],
    }
    spec = {"parentRefs": [{"name": GATEWAY}], "hostnames": [host], "rules": [rule]}
    return _object(_GATEWAY_API, "HTTPRoute", name, spec=spec)


def _object(api: str, kind: str, name: str, *, labels: Mapping[str, str] | None = None, **fields: object) -> Json:
    metadata: dict[str, object] = {"name": name, **({"labels": dict(labels)} if labels else {})}
    if kind != "GatewayClass":
        metadata["namespace"] = NAMESPACE
    return {"apiVersion": api, "kind": kind, "metadata": metadata, **fields}
