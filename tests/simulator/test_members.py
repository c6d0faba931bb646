"""The pods of every kind of workload: names, labels, who serves."""

from collections.abc import Mapping

import yaml

from resources import Upsert, World, decode
from simulator import Plan, manifests, plan

POD = """
metadata: {labels: {app: qwen}}
spec: {containers: [{name: serving, command: [vllm, serve, m]}]}
"""
WORKER = """
metadata: {labels: {app: qwen, role: worker}}
spec: {containers: [{name: serving, command: [sh, -c, ray start --block]}]}
"""


def workload(api_version: str, kind: str, **spec: object) -> dict[str, object]:
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": "qwen"}, "spec": spec}


def planned(*documents: Mapping[str, object]) -> Plan:
    objects = [decode(document).object for document in documents]
    return plan(World().apply(Upsert(each) for each in objects if each is not None))


def template(text: str = POD, **labels: str) -> dict[str, object]:
    document: dict[str, dict[str, dict[str, str]]] = yaml.safe_load(text)
    document["metadata"]["labels"].update(labels)
    return dict(document)


def test_a_stateful_set_numbers_its_pods() -> None:
    made = planned(
        workload("apps/v1", "StatefulSet", replicas=2, ordinals={"start": 3}, template=template()),
    )
    assert made.notices == ()
    assert [pod.name for pod in made.pods] == ["qwen-3", "qwen-4"]
    labels = made.pods[1].labels
    assert (labels["app"], labels["statefulset.kubernetes.io/pod-name"]) == ("qwen", "qwen-4")
    assert labels["apps.kubernetes.io/pod-index"] == "4"


def test_the_same_name_with_another_template_is_another_revision() -> None:
    first, second = (
        planned(workload("apps/v1", "StatefulSet", template=template(POD, version=version))).pods[0]
        for version in ("1", "2")
    )
    assert (first.name, first.revision == second.revision) == (second.name, False)


def test_a_replica_set() -> None:
    made = planned(workload("apps/v1", "ReplicaSet", replicas=2, template=template()))
    assert [len(pod.name) for pod in made.pods] == [len("qwen-") + 5] * 2
    assert made.pods[0].labels == {"app": "qwen"}


def test_a_pod_without_an_address_is_simulated_and_one_with_an_address_is_real() -> None:
    document = {"apiVersion": "v1", "kind": "Pod", **template()}
    document["metadata"] = {"name": "bare", "labels": {"app": "qwen"}}
    (pod,) = planned(document).pods
    assert (pod.name, pod.labels) == ("bare", {"app": "qwen"})
    assert planned({**document, "status": {"podIP": "10.0.0.1"}}) == Plan()


def test_of_a_group_only_the_leader_serves() -> None:
    groups = {"size": 3, "leaderTemplate": template(POD, role="leader"), "workerTemplate": template(WORKER)}
    spec = {"replicas": 2, "leaderWorkerTemplate": groups}
    made = planned(workload("leaderworkerset.x-k8s.io/v1", "LeaderWorkerSet", **spec))
    assert made.notices == ()
    assert [(pod.name, pod.spec is not None, pod.labels["role"]) for pod in made.pods] == [
        ("qwen-0", True, "leader"),
        ("qwen-0-1", False, "worker"),
        ("qwen-0-2", False, "worker"),
        ("qwen-1", True, "leader"),
        ("qwen-1-1", False, "worker"),
        ("qwen-1-2", False, "worker"),
    ]
    labels = made.pods[4].labels
    assert labels["leaderworkerset.sigs.k8s.io/name"] == "qwen"
    assert labels["leaderworkerset.sigs.k8s.io/group-index"] == "1"
    assert labels["leaderworkerset.sigs.k8s.io/worker-index"] == "1"
    worker = manifests.pod(made.pods[4], "127.1.2.3", None)
    assert worker["status"]["conditions"][0]["status"] == "True"  # type: ignore[index]


def test_one_template_for_the_whole_group_and_its_variables() -> None:
    text = POD.replace("[vllm, serve, m]", "[vllm, serve, $(LWS_LEADER_ADDRESS)-$(LWS_GROUP_SIZE)-$(LWS_WORKER_INDEX)]")
    spec = {"leaderWorkerTemplate": {"size": 2, "workerTemplate": template(text)}}
    leader, worker = planned(workload("leaderworkerset.x-k8s.io/v1", "LeaderWorkerSet", **spec)).pods
    assert leader.spec is not None
    assert (leader.spec.model, worker.spec) == ("qwen-0.qwen.default-2-0", None)


def test_the_roles_of_a_group() -> None:
    wide = {"size": 2, "patchLeaderTemplate": {"metadata": {"labels": {"role": "leader"}}}}
    patch = {"spec": {"containers": [{"name": "serving", "command": ["sleep"]}, {"name": "more"}]}}
    roles = [
        {"name": "prefill", "replicas": 2, "template": template()},
        {"name": "decode", "workload": {"apiVersion": "apps/v1", "kind": "Deployment"}, "template": template()},
        {
            "name": "wide",
            "workload": {"apiVersion": "leaderworkerset.x-k8s.io/v1", "kind": "LeaderWorkerSet"},
            "template": template(),
            "leaderWorkerSet": {**wide, "patchWorkerTemplate": patch},
        },
        {"name": "router", "template": template(WORKER)},
    ]
    made = planned(workload("workloads.x-k8s.io/v1alpha1", "RoleBasedGroup", roles=roles))
    assert made.notices == ("RoleBasedGroup default/qwen: role router: not simulated: no container serves a model",)
    role = "rolebasedgroup.workloads.x-k8s.io/role"
    assert [pod.labels[role] for pod in made.pods] == ["prefill", "prefill", "decode", "wide", "wide"]
    assert {pod.labels["rolebasedgroup.workloads.x-k8s.io/name"] for pod in made.pods} == {"qwen"}
    assert [pod.name for pod in made.pods if pod.labels[role] != "decode"] == [
        "qwen-prefill-0",
        "qwen-prefill-1",
        "qwen-wide-0",
        "qwen-wide-0-1",
    ]
    assert made.pods[3].labels["role"] == "leader"
    assert [pod.spec is not None for pod in made.pods] == [True, True, True, True, False]


def test_a_command_with_values_from_a_config_map_and_without_those_of_a_secret() -> None:
    container = {
        "name": "serving",
        "command": ["vllm", "serve", "$(MODEL)", "--port", "$(P_PORT)", "--served-model-name", "$(TOKEN)"],
        "env": [
            {"name": "MODEL", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "model"}}},
            {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "s", "key": "t"}}},
        ],
        "envFrom": [{"prefix": "P_", "configMapRef": {"name": "c"}}],
    }
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": [container]}}
    data = {"model": "/models/m", "PORT": "9000"}
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": data}
    (made,) = planned(pod, config).pods
    assert made.spec is not None
    assert (made.spec.model, made.spec.port, made.spec.served_names) == ("/models/m", 9000, ("$(TOKEN)",))
