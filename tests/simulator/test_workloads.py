from datetime import UTC, datetime
from pathlib import Path

import msgspec
import yaml

from resources import PORTS_ANNOTATION, Pod, Upsert, World, decode
from simulator import WRITTEN, Plan, PodPlan, ServerSpec, Timing, manifests, plan

SERVING = """
apiVersion: apps/v1
kind: Deployment
metadata:
  name: qwen
spec:
  replicas: 2
  template:
    metadata:
      labels:
        app: qwen
    spec:
      containers:
      - name: serving
        image: vllm:1
        command: [sh, -c, vllm serve /m --port 8000]
        ports:
        - containerPort: 8000
          name: http
        - containerPort: 5557
"""


def world(*texts: str) -> World:
    objects = [decode(yaml.safe_load(text)).object for text in texts]
    return World().apply(Upsert(each) for each in objects if each is not None)


def spec(pod: PodPlan) -> ServerSpec:
    assert pod.spec is not None
    return pod.spec


def names(planned: Plan) -> list[str]:
    return [pod.name for pod in planned.pods]


def test_a_pod_for_each_replica() -> None:
    planned = plan(world(SERVING))
    assert planned.notices == ()
    assert len(set(names(planned))) == 2
    for pod in planned.pods:
        deployment, digest, suffix = pod.name.split("-")
        assert (deployment, len(digest), len(suffix)) == ("qwen", 10, 5)
        assert pod.labels == {"app": "qwen", "pod-template-hash": digest}
        assert (pod.namespace, pod.container, spec(pod).port) == ("default", "serving", 8000)


def test_names_are_stable_across_replicas_and_change_with_the_template() -> None:
    two = names(plan(world(SERVING)))
    three = names(plan(world(SERVING.replace("replicas: 2", "replicas: 3"))))
    one = names(plan(world(SERVING.replace("  replicas: 2\n", ""))))
    assert (three[:2], one) == (two, two[:1])
    assert names(plan(world(SERVING.replace("replicas: 2", "replicas: 0")))) == []
    assert not set(two) & set(names(plan(world(SERVING.replace("vllm:1", "vllm:2")))))
    assert not set(two) & set(names(plan(world(SERVING.replace("name: qwen", "name: other")))))


def test_long_names_stay_names() -> None:
    planned = plan(world(SERVING.replace("name: qwen", f"name: {'q' * 60}")))
    assert {len(name) for name in names(planned)} == {63}
    assert len(set(names(planned))) == 2


def test_what_is_not_simulated_is_named() -> None:
    planned = plan(
        world(
            SERVING.replace("name: qwen", "name: web").replace("vllm serve /m --port 8000", "sleep 1"),
            SERVING.replace("name: qwen", "name: broken").replace("--port 8000", "--port x"),
            SERVING + "      - {name: second, command: [vllm, serve, n]}\n      - {name: sidecar}\n",
        ),
    )
    assert len(planned.pods) == 2
    assert planned.notices == (
        (
            "Deployment default/broken: not simulated: container serving: --port: expected a positive whole number, "
            "got 'x'"
        ),
        "Deployment default/qwen: container second is not simulated: serving stands for the pod",
        "Deployment default/web: not simulated: no container serves a model",
    )


def annotated(annotations: str) -> Plan:
    return plan(world(SERVING.replace("      labels:", f"      annotations: {annotations}\n      labels:")))


def test_timing_by_annotation() -> None:
    assert plan(world(SERVING), Timing(decode=1.0)).pods[0].timing == Timing(decode=1.0)
    planned = annotated("{simulator.pointsman.dev/decode-ms: '20', simulator.pointsman.dev/prefill-us: '1.5'}")
    assert planned.pods[0].timing == Timing(decode=0.02, prefill=1.5e-6)


def test_absent_adapters_by_annotation() -> None:
    planned = annotated("{simulator.pointsman.dev/absent-adapters: /lora/a org/b}")
    assert spec(planned.pods[0]).absent_adapters == ("/lora/a", "org/b")


def test_a_wrong_annotation_is_named() -> None:
    for name, value in (("decode-ms", "-1"), ("prefill-us", "nan"), ("answer-tokens", "0"), ("decode-growth", "x")):
        notices = annotated(f"{{simulator.pointsman.dev/{name}: '{value}'}}").notices
        assert len(notices) == 1
        assert f"annotation simulator.pointsman.dev/{name}: expected" in notices[0]


def test_manifests_decode_as_ready_pods() -> None:
    (first, _) = plan(world(SERVING)).pods
    decoded = decode(manifests.pod(first, "127.1.2.3", 8000))
    pod = decoded.object
    assert isinstance(pod, Pod)
    assert decoded.ignored == ()
    assert (pod.metadata.name, pod.metadata.namespace, pod.addresses) == (first.name, "default", ("127.1.2.3",))
    assert pod.ready
    assert [(port.container_port, port.name) for port in pod.spec.containers[0].ports] == [(8000, "http"), (5557, "")]
    assert PORTS_ANNOTATION not in pod.metadata.annotations


def test_a_port_of_its_own_is_annotated_and_a_pod_that_does_not_listen_is_not_ready() -> None:
    (first, _) = plan(world(SERVING)).pods
    moved = decode(manifests.pod(first, "127.0.0.1", 53211)).object
    silent = decode(manifests.pod(first, "127.0.0.1", None)).object
    assert isinstance(moved, Pod)
    assert isinstance(silent, Pod)
    assert moved.metadata.annotations == {"pointsman.dev/listening-ports": "8000=53211"}
    assert not silent.ready


def test_each_pod_has_a_file_that_is_left_alone_while_it_stays_the_same(tmp_path: Path) -> None:
    (first, second) = plan(world(SERVING)).pods
    (tmp_path / "default.earlier.json").write_text("{}")
    files = manifests.Manifests(tmp_path)
    for pods in ([first, second], [first]):
        files.write(manifests.pod(pod, "127.1.2.3", 8000) for pod in pods)
        written = [msgspec.json.decode(path.read_bytes()) for path in sorted(tmp_path.glob("[!.]*"))]
        assert [each["metadata"]["name"] for each in written] == sorted(pod.name for pod in pods)
    before = (tmp_path / f"default.{first.name}.json").stat().st_ino
    files.write(manifests.pod(pod, "127.1.2.3", 8000) for pod in (first, second))
    assert (tmp_path / f"default.{first.name}.json").stat().st_ino == before
    files.write([manifests.pod(first, "127.1.2.3", 8000, deleted=datetime(2026, 1, 2, tzinfo=UTC))])
    (left,) = (decode(msgspec.json.decode(path.read_bytes())).object for path in tmp_path.glob("*.json"))
    assert isinstance(left, Pod)
    assert not left.ready
    assert left.metadata.deletion_timestamp == datetime(2026, 1, 2, 0, 0, 30, tzinfo=UTC)


def test_a_folder_without_pods_says_so(tmp_path: Path) -> None:
    manifests.Manifests(tmp_path).write([])
    assert [path.name for path in tmp_path.iterdir()] == [WRITTEN]
