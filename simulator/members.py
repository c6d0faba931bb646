"""Which pods the world's workloads make, as their controllers would name and label them. Pure."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b

import msgspec

from resources import (
    Container,
    Deployment,
    Key,
    LeaderWorkerSet,
    LeaderWorkerTemplate,
    Pod,
    PodTemplate,
    PodTemplateMeta,
    ReplicaSet,
    Role,
    RoleBasedGroup,
    StatefulSet,
    StatefulSetSpec,
    World,
)
from simulator.rollout import Controller, Numbered, Recreate, Rolling, Scaled

# Kubernetes' alphabet for generated names: no vowels, so no words (apimachinery, util/rand).
_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
_SUFFIX = 5
_HASH = 10
# A pod's name is a DNS label, and what precedes the generated part is cut to fit (apiserver, names/generate.go).
_PREFIX = 63 - _SUFFIX

_LWS = "leaderworkerset.sigs.k8s.io/"
_RBG = "rolebasedgroup.workloads.x-k8s.io/"


@dataclass(frozen=True, slots=True)
class Member:
    """A pod that shall be there: `labels` are all that it bears, `env` what its controller adds for all containers.

    Members of the same `place` come and go together, and are replaced when the `revision` is another. A member that
    does not lead is one of the nodes that a server spreads over, and does not serve by itself.
    """

    workload: Key
    name: str
    template: PodTemplate
    labels: Mapping[str, str] = field(hash=False)
    revision: str
    env: tuple[tuple[str, str], ...] = ()
    leads: bool = True
    place: int = 0


@dataclass(frozen=True, slots=True)
class Workload:
    """A workload, or a role of one, by the words for it: its pods, and what makes and replaces them.

    `name` gives the name of a pod at any place, where names come from places alone.
    """

    title: str
    members: tuple[Member, ...]
    controller: Controller
    name: Callable[[int], str] | None = None


def workloads(world: World) -> Iterator[Workload]:
    """Find the workloads. A Pod that has an address is real and none."""
    for deployment in world.all(Deployment).values():
        spec, strategy = deployment.spec, deployment.spec.strategy
        rolling = Rolling(strategy.rolling_update.max_surge, strategy.rolling_update.max_unavailable)
        controller = Recreate() if strategy.type == "Recreate" else rolling
        yield _hashed(str(deployment.key), deployment.key, spec.template, spec.replicas, {}, controller)
    for leader_worker_set in world.all(LeaderWorkerSet).values():
        key, wide = leader_worker_set.key, leader_worker_set.spec
        members = _groups(key, wide.leader_worker_template, wide.replicas, {})
        unavailable = wide.rollout_strategy.rolling_update_configuration.max_unavailable
        yield Workload(str(key), tuple(members), Numbered(unavailable=unavailable))
    for pod in world.all(Pod).values():
        if not pod.addresses:
            yield Workload(str(pod.key), (_bare(pod),), Numbered())
    for replica_set in world.all(ReplicaSet).values():
        key, template = replica_set.key, replica_set.spec.template
        yield _random(str(key), key, template, replica_set.spec.replicas, key.name, {}, Scaled())
    for group in world.all(RoleBasedGroup).values():
        for role in group.spec.roles:
            yield _role(group, role)
    for stateful_set in world.all(StatefulSet).values():
        key, numbered = stateful_set.key, stateful_set.spec
        ordinals = range(numbered.ordinals.start, numbered.ordinals.start + numbered.replicas)
        yield Workload(str(key), tuple(_numbered(key, numbered.template, ordinals, {})), _in_order(numbered))


def _in_order(spec: StatefulSetSpec) -> Numbered:
    update = spec.update_strategy
    return Numbered(
        spec.ordinals.start,
        spec.pod_management_policy == "OrderedReady",
        update.rolling_update.partition,
        update.rolling_update.max_unavailable,
        replaces=update.type == "RollingUpdate",
    )


def _bare(pod: Pod) -> Member:
    metadata = PodTemplateMeta(labels=pod.metadata.labels, annotations=pod.metadata.annotations)
    template = PodTemplate(metadata=metadata, spec=pod.spec)
    return Member(pod.key, pod.metadata.name, template, metadata.labels, revision(template))


def revision(template: PodTemplate) -> str:
    """Hash a template into letters that Kubernetes uses for it."""
    return _letters(msgspec.json.encode(template, enc_hook=str, order="deterministic"), _HASH)


def _hashed(
    title: str, key: Key, template: PodTemplate, replicas: int, more: Mapping[str, str], controller: Controller
) -> Workload:
    """Make a Deployment's pods: those of a ReplicaSet that is named by the template's hash."""
    digest = revision(template)
    more = {**more, "pod-template-hash": digest}
    return _random(title, key, template, replicas, f"{key.name}-{digest}", more, controller)


def _random(
    title: str,
    key: Key,
    template: PodTemplate,
    replicas: int,
    replica_set: str,
    more: Mapping[str, str],
    controller: Controller,
) -> Workload:
    """Make a ReplicaSet's pods, with names that look random and are always the same."""
    digest = revision(template)
    labels = {**template.metadata.labels, **more}

    def name(place: int) -> str:
        return f"{replica_set}-"[:_PREFIX] + _letters(f"{key}/{digest}/{place}".encode(), _SUFFIX)

    members = (Member(key, name(place), template, labels, digest, place=place) for place in range(replicas))
    return Workload(title, tuple(members), controller, name)


def _numbered(workload: Key, template: PodTemplate, ordinals: range, more: Mapping[str, str]) -> Iterator[Member]:
    """Make a StatefulSet's pods."""
    digest = revision(template)
    for ordinal in ordinals:
        name = f"{workload.name}-{ordinal}"
        labels = {
            **template.metadata.labels,
            **more,
            "apps.kubernetes.io/pod-index": str(ordinal),
            "controller-revision-hash": f"{workload.name}-{digest}",
            "statefulset.kubernetes.io/pod-name": name,
        }
        yield Member(workload, name, template, labels, digest, place=ordinal)


def _groups(
    workload: Key,
    templates: LeaderWorkerTemplate,
    replicas: int,
    more: Mapping[str, str],
) -> Iterator[Member]:
    """Make a LeaderWorkerSet's pods: in each group the leader, named by the group, and its workers."""
    leader = templates.leader_template or templates.worker_template
    digest = _letters((revision(leader) + revision(templates.worker_template)).encode(), _HASH)
    for group in range(replicas):
        for index in range(templates.size):
            template = templates.worker_template if index else leader
            labels = {
                **template.metadata.labels,
                **more,
                _LWS + "name": workload.name,
                _LWS + "group-index": str(group),
                _LWS + "worker-index": str(index),
                _LWS + "template-revision-hash": digest,
            }
            env = (
                ("LWS_LEADER_ADDRESS", f"{workload.name}-{group}.{workload.name}.{workload.namespace}"),
                ("LWS_GROUP_SIZE", str(templates.size)),
                ("LWS_WORKER_INDEX", str(index)),
            )
            name = f"{workload.name}-{group}" + (f"-{index}" if index else "")
            yield Member(workload, name, template, labels, digest, env, leads=index == 0, place=group)


def _role(group: RoleBasedGroup, role: Role) -> Workload:
    """Make the pods of one role: those of the workload that the group's controller makes for it."""
    title = f"{group.key}: role {role.name}"
    labels = {_RBG + "name": group.metadata.name, _RBG + "role": role.name}
    key = Key(group.GROUP, group.KIND, group.key.namespace, f"{group.metadata.name}-{role.name}")
    match role.workload.kind:
        case "Deployment":
            return _hashed(title, key, role.template, role.replicas, labels, Rolling())
        case "LeaderWorkerSet":
            wide = role.leader_worker_set
            templates = LeaderWorkerTemplate(
                leader_template=_patched(role.template, wide.patch_leader_template),
                worker_template=_patched(role.template, wide.patch_worker_template),
                size=wide.size,
            )
            return Workload(title, tuple(_groups(key, templates, role.replicas, labels)), Numbered())
        case _:
            # The group's controller makes StatefulSets whose pods do not wait for each other.
            return Workload(title, tuple(_numbered(key, role.template, range(role.replicas), labels)), Numbered())


def _patched(template: PodTemplate, patch: PodTemplate) -> PodTemplate:
    """Lay a patch over a template: labels and annotations by key, containers by name, those field by field."""
    metadata = PodTemplateMeta(
        labels={**template.metadata.labels, **patch.metadata.labels},
        annotations={**template.metadata.annotations, **patch.metadata.annotations},
    )
    patches = {container.name: container for container in patch.spec.containers}
    containers = [_patched_container(each, patches.pop(each.name, None)) for each in template.spec.containers]
    spec = msgspec.structs.replace(template.spec, containers=(*containers, *patches.values()))
    return PodTemplate(metadata=metadata, spec=spec)


def _patched_container(container: Container, patch: Container | None) -> Container:
    if patch is None:
        return container
    given = {name: value for name, value in msgspec.structs.asdict(patch).items() if value}
    return msgspec.structs.replace(container, **given)


def _letters(data: bytes, length: int) -> str:
    number = int.from_bytes(blake2b(data, digest_size=16).digest())
    letters = []
    for _ in range(length):
        number, place = divmod(number, len(_ALPHABET))
        letters.append(_ALPHABET[place])
    return "".join(letters)
