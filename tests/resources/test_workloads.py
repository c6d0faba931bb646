"""What makes pods, and what pods are made of."""

from typing import Any, TypeVar

import pytest

from resources import (
    ConfigMap,
    DecodeError,
    LeaderWorkerSet,
    Object,
    Pod,
    ReplicaSet,
    RoleBasedGroup,
    StatefulSet,
    decode,
)

T = TypeVar("T", bound=Object)


def decoded(kind: type[T], api_version: str, **fields: Any) -> T:
    found = decode({"apiVersion": api_version, "kind": kind.__name__, "metadata": {"name": "it"}, **fields})
    assert isinstance(found.object, kind)
    assert found.ignored == ()
    return found.object


TEMPLATE = {"metadata": {"labels": {"app": "x"}}, "spec": {"containers": [{"name": "server"}]}}


def test_a_pod_with_a_sidecar_and_volumes() -> None:
    spec: dict[str, object] = {
        "containers": [{"name": "server", "volumeMounts": [{"name": "config", "mountPath": "/etc/it"}]}],
        "initContainers": [
            {"name": "first"},
            {
                "name": "beside",
                "restartPolicy": "Always",
                "volumeMounts": [{"name": "config", "mountPath": "/config", "subPath": "a", "readOnly": True}],
            },
        ],
        "volumes": [
            {"name": "config", "configMap": {"name": "c", "items": [{"key": "a", "path": "b"}], "optional": True}},
            {"name": "shm", "emptyDir": {"medium": "Memory"}},
            {"name": "token", "secret": {"secretName": "s"}},
        ],
    }
    pod = decoded(Pod, "v1", spec=spec).spec
    assert [container.name for container in pod.lasting] == ["beside", "server"]
    (mount,) = pod.init_containers[1].volume_mounts
    assert (mount.name, mount.mount_path, mount.sub_path, mount.read_only) == ("config", "/config", "a", True)
    config_map = pod.volumes[0].config_map
    assert config_map is not None
    assert (config_map.name, config_map.optional) == ("c", True)
    assert [(item.key, item.path) for item in config_map.items] == [("a", "b")]
    assert [volume.config_map for volume in pod.volumes[1:]] == [None, None]


def test_variables_from_elsewhere() -> None:
    env = [
        {"name": "A", "value": "a"},
        {"name": "B", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "b"}}},
        {"name": "C", "valueFrom": {"secretKeyRef": {"name": "s", "key": "c"}}},
        {"name": "D", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
    ]
    container = {"name": "server", "env": env, "envFrom": [{"prefix": "P_", "configMapRef": {"name": "c"}}]}
    (found,) = decoded(Pod, "v1", spec={"containers": [container]}).spec.containers
    assert [variable.value_from is None for variable in found.env] == [True, False, False, False]
    source = found.env[1].value_from
    assert source is not None
    assert source.config_map_key_ref is not None
    assert (source.config_map_key_ref.name, source.config_map_key_ref.key) == ("c", "b")
    assert found.env_from[0].prefix == "P_"


def test_a_config_map() -> None:
    found = decoded(ConfigMap, "v1", data={"a": "é"}, binaryData={"b": "AAE="})
    assert found.files == {"a": "é".encode(), "b": b"\x00\x01"}
    with pytest.raises(DecodeError, match=r"ConfigMap default/it: data.a: expected str, got int"):
        decode({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "it"}, "data": {"a": 1}})


def test_sets_of_pods() -> None:
    assert decoded(ReplicaSet, "apps/v1", spec={"replicas": 3, "template": TEMPLATE}).spec.replicas == 3
    spec = decoded(StatefulSet, "apps/v1", spec={"template": TEMPLATE, "ordinals": {"start": 2}}).spec
    assert (spec.replicas, spec.ordinals.start, spec.template.metadata.labels) == (1, 2, {"app": "x"})


def test_a_leader_worker_set() -> None:
    groups = {"size": 2, "leaderTemplate": TEMPLATE, "workerTemplate": {"spec": {"containers": [{"name": "worker"}]}}}
    spec = {"replicas": 3, "leaderWorkerTemplate": groups, "startupPolicy": "LeaderCreated"}
    found = decoded(LeaderWorkerSet, "leaderworkerset.x-k8s.io/v1", spec=spec).spec
    assert (found.replicas, found.leader_worker_template.size) == (3, 2)
    leader = found.leader_worker_template.leader_template
    assert leader is not None
    assert leader.metadata.labels == {"app": "x"}


def test_a_role_based_group() -> None:
    roles = [
        {"name": "prefill", "replicas": 2, "template": TEMPLATE},
        {"name": "decode", "workload": {"apiVersion": "apps/v1", "kind": "Deployment"}, "dependencies": ["prefill"]},
        {
            "name": "wide",
            "workload": {"apiVersion": "leaderworkerset.x-k8s.io/v1", "kind": "LeaderWorkerSet"},
            "leaderWorkerSet": {"size": 2, "patchLeaderTemplate": {"metadata": {"labels": {"role": "leader"}}}},
        },
    ]
    prefill, decode_, wide = decoded(RoleBasedGroup, "workloads.x-k8s.io/v1alpha1", spec={"roles": roles}).spec.roles
    assert (prefill.replicas, prefill.workload.kind) == (2, "StatefulSet")
    assert decode_.workload.kind == "Deployment"
    assert wide.leader_worker_set.size == 2
    assert wide.leader_worker_set.patch_leader_template.metadata.labels == {"role": "leader"}
