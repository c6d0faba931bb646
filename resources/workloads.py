"""What makes pods: Deployments and their kin, LeaderWorkerSets, RoleBasedGroups. Lenient, as pods are."""

from collections.abc import Mapping
from typing import Annotated, Literal

from msgspec import Meta

from resources.fields import Fields
from resources.meta import LabelSelector, Object
from resources.pods import PodSpec

Replicas = Annotated[int, Meta(ge=0)]
Size = Annotated[int, Meta(ge=1)]
Amount = Annotated[int, Meta(ge=0)] | Annotated[str, Meta(pattern=r"^[0-9]+%\Z")]
"""A number, or a percentage of another one."""


class PodTemplateMeta(Fields, frozen=True, kw_only=True):
    """Metadata of the pods to be made."""

    labels: Mapping[str, str] = {}
    annotations: Mapping[str, str] = {}


class PodTemplate(Fields, frozen=True, kw_only=True):
    """The pods to be made."""

    metadata: PodTemplateMeta = PodTemplateMeta()
    spec: PodSpec = PodSpec()


class RollingUpdateDeployment(Fields, frozen=True, kw_only=True):
    """How many pods there may be beyond the wanted number while they are replaced, and how many may be missing of it.

    Percentages of the wanted number are rounded up and down.
    """

    max_surge: Amount = "25%"
    max_unavailable: Amount = "25%"


class DeploymentStrategy(Fields, frozen=True, kw_only=True):
    """How pods are replaced by those of another template."""

    type: Literal["RollingUpdate", "Recreate"] = "RollingUpdate"
    rolling_update: RollingUpdateDeployment = RollingUpdateDeployment()


class ReplicaSetSpec(Fields, frozen=True, kw_only=True):
    """How many pods of which kind."""

    replicas: Replicas = 1
    selector: LabelSelector = LabelSelector()
    template: PodTemplate = PodTemplate()


class DeploymentSpec(ReplicaSetSpec, frozen=True, kw_only=True):
    """How many pods of which kind, and how they are replaced."""

    strategy: DeploymentStrategy = DeploymentStrategy()


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

    spec: ReplicaSetSpec = ReplicaSetSpec()


class StatefulSetOrdinals(Fields, frozen=True, kw_only=True):
    """How the pods are numbered."""

    start: Annotated[int, Meta(ge=0)] = 0


class RollingUpdateStatefulSet(Fields, frozen=True, kw_only=True):
    """Which ordinals are replaced, and how many may be missing meanwhile."""

    partition: Annotated[int, Meta(ge=0)] = 0
    max_unavailable: Amount = 1


class StatefulSetUpdateStrategy(Fields, frozen=True, kw_only=True):
    """How pods are replaced by those of another template."""

    type: Literal["RollingUpdate", "OnDelete"] = "RollingUpdate"
    rolling_update: RollingUpdateStatefulSet = RollingUpdateStatefulSet()


class StatefulSetSpec(ReplicaSetSpec, frozen=True, kw_only=True):
    """How many pods of which kind, numbered from where, and whether one waits for another."""

    ordinals: StatefulSetOrdinals = StatefulSetOrdinals()
    service_name: str = ""
    pod_management_policy: Literal["OrderedReady", "Parallel"] = "OrderedReady"
    update_strategy: StatefulSetUpdateStrategy = StatefulSetUpdateStrategy()


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


class RollingUpdateLeaderWorkerSet(Fields, frozen=True, kw_only=True):
    """How many groups may be missing while they are replaced."""

    max_unavailable: Amount = 1


class RolloutStrategy(Fields, frozen=True, kw_only=True):
    """How groups are replaced by those of other templates."""

    rolling_update_configuration: RollingUpdateLeaderWorkerSet = RollingUpdateLeaderWorkerSet()


class LeaderWorkerSetSpec(Fields, frozen=True, kw_only=True):
    """How many groups of which kind."""

    replicas: Replicas = 1
    leader_worker_template: LeaderWorkerTemplate = LeaderWorkerTemplate()
    rollout_strategy: RolloutStrategy = RolloutStrategy()


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
