"""What Envoys ask for: that of their Gateway, "namespace/name", or of a GatewayClass whose Gateways share them."""

from __future__ import annotations


def part_of_class(name: str) -> str:
    """Return the name of what the Envoys serve that the Gateways of a class share: it is no Gateway's."""
    return f"gatewayclass:{name}"
