"""Which kinds of objects the controller follows in a cluster, and how much of each."""

from collections.abc import Iterator

from pointsman import provisioning
from pointsman.provisioning import MADE
from resources import (
    BackendTrafficPolicy,
    ClientTrafficPolicy,
    CustomResourceDefinition,
    Gateway,
    GatewayClass,
    HTTPRoute,
    InferenceModel,
    InferenceModelRewrite,
    InferenceObjective,
    InferencePool,
    InferenceTrafficPolicy,
    LeaderWorkerSet,
    Object,
    ReplicaSet,
    RoleBasedGroup,
    Secret,
    Service,
    StatefulSet,
    XInferenceModelRewrite,
    XInferenceObjective,
    XInferencePool,
)
from resources.decoding import KINDS
from sources.kubernetes import Interest
from translators import DEFINITIONS

# What makes pods matters where nobody else makes them, as in a folder; of what is made, only that it is there.
_LEFT_OUT: frozenset[type[Object]] = frozenset(
    (
        CustomResourceDefinition,
        LeaderWorkerSet,
        ReplicaSet,
        RoleBasedGroup,
        StatefulSet,
        *(kind for kind in MADE if kind is not Service),
    )
)
_WITH_STATUS: frozenset[type[Object]] = frozenset(
    {
        BackendTrafficPolicy,
        ClientTrafficPolicy,
        Gateway,
        GatewayClass,
        HTTPRoute,
        InferenceModel,
        InferenceModelRewrite,
        InferenceObjective,
        InferencePool,
        InferenceTrafficPolicy,
        # Not to be written, but to see changes of those that were made.
        Service,
        XInferenceModelRewrite,
        XInferenceObjective,
        XInferencePool,
    }
)
_SELECTORS: dict[type[Object], str] = {Secret: "type=kubernetes.io/tls"}


def interests() -> tuple[Interest, ...]:
    """Return what to follow."""
    return (*_read(), *_definitions(), *provisioning.interests())


def _definitions() -> Iterator[Interest]:
    """Yield those of the Gateway API's definitions, of which the version is read."""
    for name in DEFINITIONS:
        yield Interest(CustomResourceDefinition, field_selector=f"metadata.name={name}", bare=True)


def _read() -> tuple[Interest, ...]:
    return tuple(
        Interest(kind, field_selector=_SELECTORS.get(kind, ""), keeps_status=kind in _WITH_STATUS)
        for kind in KINDS.values()
        if kind not in _LEFT_OUT
    )
