"""InferenceTrafficPolicy: how a pool's requests are shared between the roles of its pods.

A vendor's resource without a public schema: names and shapes are those that its examples show. Words that could be one
of several are plain text here, since a word that is not known is to be told apart from an object that is none.
"""

from resources.fields import Fields, Group, Kind, LabelKey, Port, ReferenceName
from resources.meta import Object

TRAFFIC_GROUP = "inferenceextension.alibabacloud.com"


class TrafficPoolReference(Fields, frozen=True, kw_only=True):
    """A pool in the same namespace, of either version of its API unless the group says which."""

    group: Group | None = None
    kind: Kind = "InferencePool"
    name: ReferenceName


class PrefixCachePolicy(Fields, frozen=True, kw_only=True):
    """How it is known what a pod has cached: `estimate`, from what it was sent."""

    mode: str = "estimate"


class RoleTrafficPolicy(Fields, frozen=True, kw_only=True):
    """What the roles' policies can name."""

    prefix_cache: PrefixCachePolicy | None = None


class KvTransfer(Fields, frozen=True, kw_only=True):
    """How a decode server meets a prefill server: at the port that SGLang calls --disaggregation-bootstrap-port."""

    bootstrap_port: Port = 8998


class SplitProfile(Fields, frozen=True, kw_only=True):
    """Prefill and decode apart: the pods' label that says `prefill` or `decode`, and each role's policy by its name."""

    traffic_policy: RoleTrafficPolicy = RoleTrafficPolicy()
    prefill_policy_ref: str | None = None
    decode_policy_ref: str | None = None
    pd_role_label_name: LabelKey
    kv_transfer: KvTransfer = KvTransfer()


class TrafficProfile(Fields, frozen=True, kw_only=True):
    """How the pods serve."""

    pd: SplitProfile | None = None


class InferenceTrafficPolicySpec(Fields, frozen=True, kw_only=True):
    """A pool, what its model servers are and how they serve."""

    pool_ref: TrafficPoolReference
    model_server_runtime: str | None = None
    profile: TrafficProfile = TrafficProfile()


class InferenceTrafficPolicy(Object, frozen=True, kw_only=True):
    """How a pool's requests are shared between the roles of its pods."""

    GROUP = TRAFFIC_GROUP
    KIND = "InferenceTrafficPolicy"
    VERSIONS = ("v1alpha1",)

    spec: InferenceTrafficPolicySpec
