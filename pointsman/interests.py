"""Which kinds of objects the controller follows in a cluster, and how much of each."""

from collections.abc import Iterator
from functools import partial

from pointsman import provisioning
from pointsman.provisioning import MADE
from resources import (
    TLS_SECRET,
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
    ObjectMeta,
    ReplicaSet,
    RoleBasedGroup,
    Secret,
    Service,
    StatefulSet,
    UnreadableSecret,
    XInferenceModelRewrite,
    XInferenceObjective,
    XInferencePool,
)
from resources.decoding import KINDS
from sources.kubernetes import ByName, Interest
from translators import DEFINITIONS, SECRETS_WANTED_BY, secrets_wanted

# What makes pods matters where nobody else makes them, as in a folder; of what is made, only that it is there.
_LEFT_OUT: frozenset[type[Object]] = frozenset(
    (
        CustomResourceDefinition,
        LeaderWorkerSet,
        ReplicaSet,
        RoleBasedGroup,
        # Those that are read are read by name.
        Secret,
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


def interests(controllers: frozenset[str]) -> tuple[Interest, ...]:
    """Return what to follow; `controllers` are the controllerNames of the GatewayClasses that are ours."""
    return (*_read(), _secrets(controllers), *_definitions(), *provisioning.interests())


def _secrets(controllers: frozenset[str]) -> Interest:
    """Return those Secrets that hold the certificates of listeners of ours."""

    def stand_in(namespace: str, name: str, reason: str) -> Object:
        return UnreadableSecret(metadata=ObjectMeta(name=name, namespace=namespace), reason=reason)

    chosen = ByName(SECRETS_WANTED_BY, partial(secrets_wanted, controllers=controllers), stand_in)
    return Interest(Secret, field_selector=f"type={TLS_SECRET}", by_name=chosen)


def _definitions() -> Iterator[Interest]:
    """Yield those of the Gateway API's definitions, of which the version is read."""
    for name in DEFINITIONS:
        yield Interest(CustomResourceDefinition, field_selector=f"metadata.name={name}", bare=True)


def _read() -> tuple[Interest, ...]:
    return tuple(Interest(kind, keeps_status=kind in _WITH_STATUS) for kind in KINDS.values() if kind not in _LEFT_OUT)
