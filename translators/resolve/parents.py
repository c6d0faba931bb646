"""What a route's references to parents mean."""

from __future__ import annotations

from resources import GATEWAY_GROUP, HTTPRoute, ParentReference

Name = tuple[str, str]
"""A Gateway's namespace and name."""


def parent_of(route: HTTPRoute, ref: ParentReference) -> Name | None:
    """Return the Gateway that a reference means, or None when it means no Gateway."""
    if (ref.group, ref.kind) != (GATEWAY_GROUP, "Gateway"):
        return None
    return (ref.namespace or route.key.namespace, ref.name)
