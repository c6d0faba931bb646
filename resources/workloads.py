"""What makes pods: Deployments and their kin, LeaderWorkerSets, RoleBasedGroups. Lenient, as pods are."""

from collections.abc import Mapping
from typing import Annotated

from msgspec import Meta

from resources.fields import Fields
from resources.meta import LabelSelector, Object
from resources.pods import PodSpec

Replicas = Annotated[int, Meta(ge=0)]
Size = Annotated[int, Meta(ge=1)]


class PodTemplateMeta(Fields, frozen=True, kw_only=True):
    """Metadata of the pods to be made."""

    labels: Mapping[str, str] = {}
    annotations: Mapping[str, str] = {}


class PodTemplate(Fields, frozen=True, kw_only=True):
    """The pods to be made."""

    metadata: PodTemplateMeta = PodTemplateMeta()
    spec: PodSpec = PodSpec()


class DeploymentSpec(Fields, frozen=True, kw_only=True):
    """How many pods of which kind."""

    replicas: Replicas = 1
    selector: LabelSelector = LabelSelector()
    template: PodTemplate = PodTemplate()


class Deployment(Object, frozen=True, kw_only=True):
    """Pods that are kept running."""

    GROUP = "apps"
    KIND = "Deployment"
    VERSIONS = ("v1",)
    LENIENT = True

    spec: DeploymentSpec


class ReplicaSet(Object, frozen=True, kw_only=True):
    """Pods that are kept running, of one template for ever."""

    GROUP = "apps"
    KIND = "ReplicaSet"
    VERSIONS = ("v1",)
    LENIENT = True

    spec: DeploymentSpec = DeploymentSpec()


class StatefulSetOrdinals(Fields, frozen=True, kw_only=True):
    """How the pods are numbered."""

    start: Annotated[int, Meta(ge=0)] = 0


class StatefulSetSpec(DeploymentSpec, frozen=True, kw_only=True):
    """How many pods of which kind, numbered from where."""

    ordinals: StatefulSetOrdinals = StatefulSetOrdinals()
    service_name: str = ""


class StatefulSet(Object, frozen=True, kw_only=True):
    """Pods that are kept running, each with a number for a name."""

    GROUP = "apps"
    KIND = "StatefulSet"
    VERSIONS = ("v1",)
    LENIENT = True

    spec: StatefulSetSpec


class LeaderWorkerTemplate(Fields, frozen=True, kw_only=True):
    """The pods of one group: a leader and `size - 1` workers; without a template of its own, the leader is a worker."""

    leader_template: PodTemplate | None = None
    worker_template: PodTemplate = PodTemplate()
    size: Size = 1


class LeaderWorkerSetSpec(Fields, frozen=True, kw_only=True):
    """How many groups of which kind."""

    replicas: Replicas = 1
    leader_worker_template: LeaderWorkerTemplate = LeaderWorkerTemplate()


class LeaderWorkerSet(Object, frozen=True, kw_only=True):
    """Groups of pods, each of which is one model server on several nodes (leaderworkerset.sigs.k8s.io)."""

    GROUP = "leaderworkerset.x-k8s.io"
    KIND = "LeaderWorkerSet"
    VERSIONS = ("v1",)
    LENIENT = True

    spec: LeaderWorkerSetSpec = LeaderWorkerSetSpec()


class RoleWorkload(Fields, frozen=True, kw_only=True):
    """The kind of workload that a role's pods belong to."""

    api_version: str = "apps/v1"
    kind: str = "StatefulSet"


class RoleLeaderWorkerSet(Fields, frozen=True, kw_only=True):
    """How a role's groups differ from its template, where its workload is a LeaderWorkerSet."""

    size: Size = 1
    patch_leader_template: PodTemplate = PodTemplate()
    patch_worker_template: PodTemplate = PodTemplate()


class Role(Fields, frozen=True, kw_only=True):
    """A role of a group: pods that do one part of the work, prefill for example."""

    name: str
    replicas: Replicas = 1
    workload: RoleWorkload = RoleWorkload()
    template: PodTemplate = PodTemplate()
    leader_worker_set: RoleLeaderWorkerSet = RoleLeaderWorkerSet()


class RoleBasedGroupSpec(Fields, frozen=True, kw_only=True):
    """The roles of a group."""

    roles: tuple[Role, ...] = ()


class RoleBasedGroup(Object, frozen=True, kw_only=True):
    """Pods with roles that are one service together (github.com/sgl-project/rbg)."""

    GROUP = "workloads.x-k8s.io"
    KIND = "RoleBasedGroup"
    VERSIONS = ("v1alpha1",)
    LENIENT = True

    spec: RoleBasedGroupSpec = RoleBasedGroupSpec()
