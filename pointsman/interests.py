"""Which kinds of objects the controller follows in a cluster, and how much of each."""

from resources import (
    BackendTrafficPolicy,
    ClientTrafficPolicy,
    ConfigMap,
    Deployment,
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
    StatefulSet,
    XInferenceModelRewrite,
    XInferenceObjective,
    XInferencePool,
)
from resources.decoding import KINDS
from sources.kubernetes import Interest

# What makes pods matters where nobody else makes them, as in a folder.
_OF_FOLDERS: frozenset[type[Object]] = frozenset(
    {ConfigMap, Deployment, LeaderWorkerSet, ReplicaSet, RoleBasedGroup, StatefulSet}
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
        XInferenceModelRewrite,
        XInferenceObjective,
        XInferencePool,
    }
)
_SELECTORS: dict[type[Object], str] = {Secret: "type=kubernetes.io/tls"}


def interests() -> tuple[Interest, ...]:
    """Return what to follow."""
    return tuple(
        Interest(kind, field_selector=_SELECTORS.get(kind, ""), keeps_status=kind in _WITH_STATUS)
        for kind in KINDS.values()
        if kind not in _OF_FOLDERS
    )
