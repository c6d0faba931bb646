"""The World, arranged for look-ups that run against the direction of its references."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from resources import (
    OWN_PICKER_LABEL,
    PICKS_FOR_ANNOTATION,
    SERVICE_NAME_LABEL,
    BackendTrafficPolicy,
    ClientTrafficPolicy,
    EndpointSlice,
    InferenceModel,
    InferenceModelRewrite,
    InferenceObjective,
    InferenceTrafficPolicy,
    Object,
    Pod,
    Service,
    World,
    XInferenceModelRewrite,
    XInferenceObjective,
)
from translators.controllers import gateways_of_others, is_of_another
from translators.resolve.grants import Grants, grants_of
from translators.resolve.pool_kinds import all_pools, labels_of

P = TypeVar("P", ClientTrafficPolicy, BackendTrafficPolicy)
AnyObjective = InferenceObjective | XInferenceObjective
AnyRewrite = InferenceModelRewrite | XInferenceModelRewrite
D = TypeVar("D", InferenceModel, AnyObjective, AnyRewrite)

PoolKey = tuple[str, str, str]
"""How a declaration names its pool: group, namespace and name."""

Label = tuple[str, str, str]
"""A label of pods: their namespace, its name and its value."""

Age = tuple[dt.datetime, str, str]
"""How old an object is, as `age` says."""

TargetKey = tuple[str, str, str, str | None]
"""What a policy is attached to: kind, namespace, name and section."""

_NEVER = dt.datetime.max.replace(tzinfo=dt.UTC)


def age(item: Object) -> Age:
    """Order objects as Gateway API resolves conflicts: the oldest first, then by namespace and name.

    An object of a folder has no creation time; it counts as younger than any that has one.
    """
    created = item.metadata.creation_timestamp
    if created is not None and created.tzinfo is None:
        created = created.replace(tzinfo=dt.UTC)
    return (created or _NEVER, item.key.namespace, item.key.name)


@dataclass(frozen=True, slots=True)
class Index:
    """One World and its look-up tables.

    picker_services: whether our pickers have Services; controllers: our names (both of Settings). others: the Gateways
    of other controllers, namespace and name. labelled: by the labels that pools select by, whose names are `selecting`;
    pods that are the same ones as in the index before are the very same tuple.
    known_at: the Services of our pickers that know a pool, by name.
    """

    world: World
    picker_services: bool
    controllers: frozenset[str] | None
    others: frozenset[tuple[str, str]]
    selecting: frozenset[str]
    models: Mapping[PoolKey, tuple[InferenceModel, ...]]
    objectives: Mapping[PoolKey, tuple[AnyObjective, ...]]
    rewrites: Mapping[PoolKey, tuple[AnyRewrite, ...]]
    traffic_policies: Mapping[tuple[str, str], tuple[InferenceTrafficPolicy, ...]]
    slices: Mapping[tuple[str, str], tuple[EndpointSlice, ...]]
    pods: Mapping[str, tuple[Pod, ...]]
    labelled: Mapping[Label, tuple[Pod, ...]]
    grants: Grants
    known_at: Mapping[PoolKey, tuple[Service, ...]]
    client_policies: Mapping[TargetKey, tuple[ClientTrafficPolicy, ...]]
    backend_policies: Mapping[TargetKey, tuple[BackendTrafficPolicy, ...]]

    @classmethod
    def of(cls, world: World, *, picker_services: bool = False, controllers: frozenset[str] | None = None) -> Index:
        """Arrange a World."""
        objectives: list[AnyObjective] = [
            *world.all(InferenceObjective).values(),
            *world.all(XInferenceObjective).values(),
        ]
        rewrites: list[AnyRewrite] = [
            *world.all(InferenceModelRewrite).values(),
            *world.all(XInferenceModelRewrite).values(),
        ]
        traffic: dict[tuple[str, str], list[InferenceTrafficPolicy]] = defaultdict(list)
        for policy in sorted(world.all(InferenceTrafficPolicy).values(), key=age):
            traffic[policy.key.namespace, policy.spec.pool_ref.name].append(policy)
        selecting = frozenset(name for pool in all_pools(world) for name in labels_of(pool))
        labelled: dict[Label, list[Pod]] = defaultdict(list)
        for pod in world.all(Pod).values():
            for label in _labels(pod, selecting):
                labelled[label].append(pod)
        return cls(
            world=world,
            picker_services=picker_services,
            controllers=controllers,
            others=gateways_of_others(world, controllers),
            selecting=selecting,
            models=_by_pool(world.all(InferenceModel).values()),
            objectives=_by_pool(objectives),
            rewrites=_by_pool(rewrites),
            traffic_policies={key: tuple(items) for key, items in traffic.items()},
            slices=_by_service(world),
            pods=_by_namespace(world),
            labelled={key: tuple(items) for key, items in labelled.items()},
            grants=grants_of(world),
            known_at=_known_at(world, controllers) if picker_services else {},
            client_policies=_by_target(world.all(ClientTrafficPolicy).values()),
            backend_policies=_by_target(world.all(BackendTrafficPolicy).values()),
        )

    def with_routes_of(self, world: World) -> Index:
        """Return the index of a World that differs in nothing but HTTPRoutes: none of the tables has any."""
        return replace(self, world=world)

    def with_pods_of(self, world: World) -> Index:
        """Return the index of a World that differs in nothing but Pods, EndpointSlices and HTTPRoutes."""
        before, now = self.world.all(Pod), world.all(Pod)
        changed = world.changed(Pod, self.world)
        versions = [pod for name in changed for pod in (before.get(name), now.get(name)) if pod is not None]
        labelled = dict(self.labelled)
        for label in {label for pod in versions for label in _labels(pod, self.selecting)}:
            others = [pod for pod in labelled.pop(label, ()) if _name(pod) not in changed]
            fresh = [pod for name in changed if (pod := now.get(name)) and label in _labels(pod, self.selecting)]
            if others or fresh:
                labelled[label] = tuple(sorted([*others, *fresh], key=_name))
        pods = _by_namespace(world) if changed else self.pods
        return replace(self, world=world, pods=pods, labelled=labelled, slices=_by_service(world))

    def pods_with(self, namespace: str, labels: Mapping[str, str]) -> Sequence[Pod]:
        """Return the pods of a namespace that have one of the labels of a pool, that which the fewest have."""
        found = (self.labelled.get((namespace, name, value), ()) for name, value in labels.items())
        return min(found, key=len) if labels else self.pods.get(namespace, ())


def _known_at(world: World, controllers: frozenset[str] | None) -> Mapping[PoolKey, tuple[Service, ...]]:
    found: dict[PoolKey, list[Service]] = defaultdict(list)
    for (namespace, _), service in world.all(Service).items():
        labels = service.metadata.labels
        if labels.get(OWN_PICKER_LABEL) == "true" and not is_of_another(labels, controllers):
            for pool in service.metadata.annotations.get(PICKS_FOR_ANNOTATION, "").split():
                group, _, name = pool.partition("/")
                found[group, namespace, name].append(service)
    return {key: tuple(sorted(items, key=lambda item: item.key)) for key, items in found.items()}


def _name(pod: Pod) -> tuple[str, str]:
    return pod.metadata.namespace or "", pod.metadata.name


def _labels(pod: Pod, selecting: frozenset[str]) -> list[Label]:
    labels, namespace = pod.metadata.labels, pod.metadata.namespace or ""
    return [(namespace, name, labels[name]) for name in selecting & labels.keys()]


def _by_namespace(world: World) -> Mapping[str, tuple[Pod, ...]]:
    pods: dict[str, list[Pod]] = defaultdict(list)
    for (namespace, _), pod in world.all(Pod).items():
        pods[namespace].append(pod)
    return {namespace: tuple(items) for namespace, items in pods.items()}


def _by_service(world: World) -> Mapping[tuple[str, str], tuple[EndpointSlice, ...]]:
    slices: dict[tuple[str, str], list[EndpointSlice]] = defaultdict(list)
    for each in world.all(EndpointSlice).values():
        if service := each.metadata.labels.get(SERVICE_NAME_LABEL):
            slices[each.key.namespace, service].append(each)
    return {service: tuple(items) for service, items in slices.items()}


def _by_pool(declared: Iterable[D]) -> Mapping[PoolKey, tuple[D, ...]]:
    found: dict[PoolKey, list[D]] = defaultdict(list)
    for each in sorted(declared, key=age):
        pool = each.spec.pool_ref
        found[pool.group, each.key.namespace, pool.name].append(each)
    return {key: tuple(items) for key, items in found.items()}


def _by_target(policies: Iterable[P]) -> Mapping[TargetKey, tuple[P, ...]]:
    found: dict[TargetKey, list[P]] = defaultdict(list)
    for policy in sorted(policies, key=age):
        for target in policy.spec.targets:
            # Policies apply to objects of their own namespace (Envoy Gateway, LocalPolicyTargetReference).
            found[target.kind, policy.key.namespace, target.name, target.section_name].append(policy)
    return {key: tuple(items) for key, items in found.items()}
