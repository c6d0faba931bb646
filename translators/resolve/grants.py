"""ReferenceGrants: which objects elsewhere an object of the Gateway API may refer to."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from resources import GATEWAY_GROUP, ReferenceGrant, World

Grants = Mapping[str, tuple[ReferenceGrant, ...]]
"""All of them, by namespace."""


def grants_of(world: World) -> Grants:
    """Arrange those of a World."""
    grants: dict[str, list[ReferenceGrant]] = defaultdict(list)
    for grant in world.all(ReferenceGrant).values():
        grants[grant.key.namespace].append(grant)
    return {key: tuple(items) for key, items in grants.items()}


def permits(
    grants: Grants, *, kind: str, namespace: str, to_group: str, to_kind: str, to_namespace: str, to_name: str
) -> bool:
    """Whether a Gateway API object of this kind and namespace may refer to an object elsewhere (ReferenceGrant)."""
    return any(
        any(
            each.group == GATEWAY_GROUP and each.kind == kind and each.namespace == namespace
            for each in grant.spec.from_
        )
        and any(
            each.group == to_group and each.kind == to_kind and each.name in {None, "", to_name}
            for each in grant.spec.to
        )
        for grant in grants.get(to_namespace, ())
    )
