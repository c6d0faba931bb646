"""Whether the Gateway API's definitions in a cluster are of a version that is known here."""

from __future__ import annotations

import re

from resources import GATEWAY_GROUP, CustomResourceDefinition, World
from translators import ir

BUNDLE_VERSION = "gateway.networking.k8s.io/bundle-version"
"""The annotation of a definition that has its version."""

DEFINITIONS = tuple(
    f"{plural}.{GATEWAY_GROUP}" for plural in ("gatewayclasses", "gateways", "httproutes", "referencegrants")
)
"""The definitions of the Gateway API's kinds that are read."""

_NEWEST_MINOR = 6
_VERSION = re.compile(r"v1\.(?P<minor>\d{1,4})\.\d{1,4}(-[0-9A-Za-z.-]+)?")


def is_told(world: World) -> bool:
    """Whether anything is known of the definitions: in a folder there may be none."""
    return any(world.get(CustomResourceDefinition, "", name) is not None for name in DEFINITIONS)


def version_problem(world: World) -> ir.Problem | None:
    """Return what is wrong with the versions of the definitions (GatewayClassConditionStatusSupportedVersion)."""
    wrong = []
    for name in DEFINITIONS:
        definition = world.get(CustomResourceDefinition, "", name)
        if definition is None:
            continue
        version = definition.metadata.annotations.get(BUNDLE_VERSION, "")
        known = _VERSION.fullmatch(version)
        if known is None or int(known["minor"]) > _NEWEST_MINOR:
            wrong.append(f"{name} is of version {version}" if version else f"{name} does not say its version")
    if not wrong:
        return None
    text = f"{'; '.join(wrong)}; known are versions up to v1.{_NEWEST_MINOR}, others are served as well as possible"
    return ir.Problem("SupportedVersion", "UnsupportedVersion", text)
