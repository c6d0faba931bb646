"""Which pods the world's workloads make, as their controllers would name and label them. Pure."""

from collections.abc import Iterator, Mapping
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
    World,
)

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

    `revision` changes when a pod of the same name has to be replaced. A member that does not lead is one of the nodes
    that a server spreads over, and does not serve by itself.
    """

    workload: Key
    name: str
    template: PodTemplate
    labels: Mapping[str, str] = field(hash=False)
    revision: str
    env: tuple[tuple[str, str], ...] = ()
    leads: bool = True


def workloads(world: World) -> Iterator[tuple[str, tuple[Member, ...]]]:
    """Pair the words for each workload, or role of one, with its pods.

    A Pod that has an address is real and no workload.
    """
    for deployment in world.all(Deployment).values():
        members = _hashed(deployment.key, deployment.spec.template, deployment.spec.replicas, {})
        yield str(deployment.key), tuple(members)
    for leader_worker_set in world.all(LeaderWorkerSet).values():
        templates = leader_worker_set.spec.leader_worker_template
        members = _groups(leader_worker_set.key, templates, leader_worker_set.spec.replicas, {})
        yield str(leader_worker_set.key), tuple(members)
    for pod in world.all(Pod).values():
        if not pod.addresses:
            yield str(pod.key), (_bare(pod),)
    for replica_set in world.all(ReplicaSet).values():
        name = replica_set.metadata.name
        members = _random(replica_set.key, replica_set.spec.template, replica_set.spec.replicas, name)
        yield str(replica_set.key), tuple(members)
    for group in world.all(RoleBasedGroup).values():
        for role in group.spec.roles:
            yield f"{group.key}: role {role.name}", tuple(_role(group, role))
    for stateful_set in world.all(StatefulSet).values():
        start, replicas = stateful_set.spec.ordinals.start, stateful_set.spec.replicas
        ordinals = range(start, start + replicas)
        yield str(stateful_set.key), tuple(_numbered(stateful_set.key, stateful_set.spec.template, ordinals, {}))


def _bare(pod: Pod) -> Member:
    metadata = PodTemplateMeta(labels=pod.metadata.labels, annotations=pod.metadata.annotations)
    template = PodTemplate(metadata=metadata, spec=pod.spec)
    return Member(pod.key, pod.metadata.name, template, metadata.labels, revision(template))


def revision(template: PodTemplate) -> str:
    """Hash a template into letters that Kubernetes uses for it."""
    return _letters(msgspec.json.encode(template, enc_hook=str, order="deterministic"), _HASH)


def _hashed(workload: Key, template: PodTemplate, replicas: int, more: Mapping[str, str]) -> Iterator[Member]:
    """Make a Deployment's pods: those of a ReplicaSet that is named by the template's hash."""
    digest = revision(template)
    more = {**more, "pod-template-hash": digest}
    return _random(workload, template, replicas, f"{workload.name}-{digest}", more)


def _random(
    workload: Key,
    template: PodTemplate,
    replicas: int,
    replica_set: str,
    more: Mapping[str, str] | None = None,
) -> Iterator[Member]:
    """Make a ReplicaSet's pods, with names that look random and are always the same."""
    digest = revision(template)
    labels = {**template.metadata.labels, **(more or {})}
    for place in range(replicas):
        suffix = _letters(f"{workload}/{digest}/{place}".encode(), _SUFFIX)
        yield Member(workload, f"{replica_set}-"[:_PREFIX] + suffix, template, labels, digest)


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
        yield Member(workload, name, template, labels, digest)


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
            yield Member(workload, name, template, labels, digest, env, leads=index == 0)


def _role(group: RoleBasedGroup, role: Role) -> Iterator[Member]:
    """Make the pods of one role: those of the workload that the group's controller makes for it."""
    labels = {_RBG + "name": group.metadata.name, _RBG + "role": role.name}
    workload = Key(group.GROUP, group.KIND, group.key.namespace, f"{group.metadata.name}-{role.name}")
    match role.workload.kind:
        case "Deployment":
            return _hashed(workload, role.template, role.replicas, labels)
        case "LeaderWorkerSet":
            wide = role.leader_worker_set
            templates = LeaderWorkerTemplate(
                leader_template=_patched(role.template, wide.patch_leader_template),
                worker_template=_patched(role.template, wide.patch_worker_template),
                size=wide.size,
            )
            return _groups(workload, templates, role.replicas, labels)
        case _:
            return _numbered(workload, role.template, range(role.replicas), labels)


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
