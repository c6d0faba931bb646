"""Sidecars: which containers run, what they see, and the LoRA syncer really at work."""

import asyncio
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml
from aiohttp import ClientSession
from hypothesis import given
from hypothesis import strategies as st

from resources import Upsert, World, decode
from simulator import Fleet, Plan, RunningPod, plan
from simulator.sidecars import Mount, SidecarPlan
from simulator.volumes import VolumeFolder

MANIFESTS = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: vllm}
spec:
  template:
    metadata: {labels: {app: vllm}}
    spec:
      containers:
      - name: vllm
        command: [python3, -m, vllm.entrypoints.openai.api_server]
        args: [--model, m, --port, "8000", --enable-lora, --max-loras, "2"]
        env:
        - {name: VLLM_ALLOW_RUNTIME_LORA_UPDATING, value: "true"}
        - {name: TOKEN, valueFrom: {secretKeyRef: {name: none, key: token}}}
        volumeMounts:
        - {name: data, mountPath: /data}
      initContainers:
      - name: first
        image: example.com/lora-syncer:main
      - name: syncer
        image: example.com/inference/lora-syncer:main
        restartPolicy: Always
        env:
        - {name: DYNAMIC_LORA_ROLLOUT_CONFIG, value: /config/configmap.yaml}
        volumeMounts:
        - {name: adapters, mountPath: /config}
      volumes:
      - {name: data, emptyDir: {}}
      - {name: adapters, configMap: {name: adapters}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: adapters}
data:
  configmap.yaml: |
    vLLMLoRAConfig:
      name: adapters
      port: 8000
      defaultBaseModel: m
      ensureExist:
        models:
        - id: review-1
          source: org/review
"""


def planned(text: str) -> Plan:
    objects = [decode(document).object for document in yaml.safe_load_all(text)]
    return plan(World().apply(Upsert(each) for each in objects if each is not None))


def test_a_native_sidecar_that_is_a_syncer_runs() -> None:
    made = planned(MANIFESTS)
    assert made.notices == ()
    (pod,) = made.pods
    (sidecar,) = pod.sidecars
    assert (sidecar.container, sidecar.module, sidecar.flags) == ("syncer", "lora_syncer", ())
    assert sidecar.mounts == (Mount("/config", "adapters"),)
    (volume,) = pod.volumes
    assert (volume.name, list(volume.files)) == ("adapters", ["configmap.yaml"])


@pytest.mark.parametrize(
    ("command", "flags"),
    [
        ("image: x/lora-syncer:v1, args: [--metrics-port, '9']", ("--metrics-port", "9")),
        ("image: python, command: [python, sidecar.py, --config, /config/a]", ("--config", "/config/a")),
        ("image: python, command: [python, -m, lora_syncer]", ()),
        ("image: x, command: [sh, -c, 'sleep 1; exec pointsman lora-syncer --config=/a']", ("--config=/a",)),
    ],
)
def test_ways_to_start_a_syncer(command: str, flags: tuple[str, ...]) -> None:
    text = MANIFESTS.replace("image: example.com/inference/lora-syncer:main", command.replace(", ", "\n        ", 1))
    assert planned(text).pods[0].sidecars[0].flags == flags


def test_without_a_word_the_syncer_looks_where_it_always_does() -> None:
    text = MANIFESTS.replace("        - {name: DYNAMIC_LORA_ROLLOUT_CONFIG, value: /config/configmap.yaml}\n", "")
    sidecar = planned(text.replace("        env:\n        volumeMounts", "        volumeMounts")).pods[0].sidecars[0]
    assert dict(sidecar.env) == {"DYNAMIC_LORA_ROLLOUT_CONFIG": "/config/configmap.yaml"}


def test_a_config_map_that_is_not_there_is_told_of() -> None:
    made = planned(MANIFESTS.split("---", maxsplit=1)[0])
    assert made.notices == ("Deployment default/vllm: volume adapters: there is no ConfigMap default/adapters",)
    assert made.pods[0].volumes[0].files == {}


def test_paths_of_the_container_are_found_in_the_volumes() -> None:
    sidecar = SidecarPlan(
        "c", "m", mounts=(Mount("/config", "a"), Mount("/config/deep", "b", "sub"), Mount("/x/", "c"))
    )
    for text, found in {
        "/config": "/pod/a",
        "/config/configmap.yaml": "/pod/a/configmap.yaml",
        "/config/deep/file": "/pod/b/sub/file",
        "--config=/config/f": "--config=/pod/a/f",
        "/x/y": "/pod/c/y",
        "/configuration": "/configuration",
        "8000": "8000",
    }.items():
        assert sidecar.located(text, "/pod") == found


def files_in(folder: Path) -> dict[str, bytes]:
    """Read the files that a container sees."""
    paths = [
        path for entry in folder.iterdir() if not entry.name.startswith("..") for path in (entry, *entry.rglob("*"))
    ]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths if path.is_file()}


NAMES = st.sampled_from(["a", "b", "deep/a", "deep/b"])


@given(st.lists(st.dictionaries(NAMES, st.binary(max_size=3)), max_size=4))
def test_a_volume_has_the_files_of_its_last_version(
    tmp_path_factory: pytest.TempPathFactory,
    versions: list[Mapping[str, bytes]],
) -> None:
    path = tmp_path_factory.mktemp("volume")
    folder = VolumeFolder(path)
    for files in versions:
        folder.write(files)
        assert files_in(path) == files


def test_a_volume_changes_at_once_and_nothing_leaves_it(tmp_path: Path) -> None:
    folder = VolumeFolder(tmp_path / "v")
    folder.write({"a": b"1", "../out": b"x", "/abs": b"x", "..data": b"x"})
    data = tmp_path / "v" / "..data"
    first = data.readlink()
    folder.write({"a": b"1"})
    assert data.readlink() == first
    folder.write({"a": b"2"})
    assert data.readlink() != first
    assert (tmp_path / "v" / "a").read_bytes() == b"2"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["v"]
    assert len(list((tmp_path / "v").iterdir())) == 3  # the file, the link to the version, the version


async def adapters(client: ClientSession, pod: RunningPod) -> list[str]:
    assert pod.server is not None
    async with client.get(pod.server.site.url + "/v1/models") as response:
        return [card["id"] for card in (await response.json())["data"] if card["parent"]]


async def reach(client: ClientSession, pod: RunningPod, wanted: list[str]) -> None:
    async with asyncio.timeout(20):
        while sorted(await adapters(client, pod)) != wanted:
            await asyncio.sleep(0.02)


async def test_the_syncer_follows_the_config_map(client: ClientSession) -> None:
    fleet = Fleet(reaction=0.0)
    text = MANIFESTS.replace("template:", "replicas: 2\n  template:", 1)
    try:
        assert await fleet.apply(planned(text)) == ()
        first, second = pods = fleet.pods
        for pod in pods:
            await reach(client, pod, ["review-1"])
        edited = text.replace("review-1", "review-2") + (
            "      ensureNotExist:\n        models:\n        - id: review-1\n          source: org/review\n"
        )
        assert await fleet.apply(planned(edited)) == ()
        assert fleet.pods == (first, second)
        for pod in pods:
            await reach(client, pod, ["review-2"])
    finally:
        await fleet.stop()
