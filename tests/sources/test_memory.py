"""How much memory a large cluster takes."""

import subprocess
import sys

PODS, LIMIT_MIB = 10_000, 200

_SCRIPT = """
import sys
from pathlib import Path

import orjson

import pointsman.controller  # all that the process loads
from resources import Pod, World
from sources.kubernetes.follower import Follower, Page

PODS, PAGE = int(sys.argv[1]), 500


def pod(number: int) -> dict[str, object]:
    address = f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"
    env = [{"name": f"VARIABLE_{each}", "value": "x" * 30} for each in range(20)]
    container = {"name": "server", "image": "vllm/vllm-openai:v1", "args": ["--flag"] * 20, "env": env}
    kinds = ("Initialized", "Ready", "ContainersReady", "PodScheduled")
    return {
        "metadata": {
            "name": f"model-server-{number // 10}-7d9c5b6f4d-{number:05d}",
            "namespace": f"team-{number % 50}",
            "uid": f"{number:032x}",
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "labels": {"app": f"model-{number // 100}", "pod-template-hash": "7d9c5b6f4d", "role": "leader"},
            "annotations": {"checksum/config": "x" * 64},
            "managedFields": [{"manager": "kubelet", "fieldsV1": {f"f:{each}": {} for each in range(40)}}],
        },
        "spec": {"nodeName": f"node-{number % 200}", "containers": [{**container, "ports": [{"containerPort": 8000}]}]},
        "status": {
            "phase": "Running",
            "podIP": address,
            "podIPs": [{"ip": address}],
            "conditions": [{"type": each, "status": "True"} for each in kinds],
            "containerStatuses": [{"name": "server", "imageID": "x" * 70}],
        },
    }


follower, world = Follower(Pod), World()
for start in range(0, PODS, PAGE):
    items = [pod(number) for number in range(start, start + PAGE)]
    metadata = {"resourceVersion": "1", "continue": "more" if start + PAGE < PODS else ""}
    changes = follower.page(Page.read(orjson.dumps({"apiVersion": "v1", "metadata": metadata, "items": items})))
    world = world.apply(changes)
assert len(world.all(Pod)) == PODS and not follower.problems
print(int(Path("/proc/self/statm").read_text().split()[1]) * 4096)
"""


def test_ten_thousand_pods_fit() -> None:
    command = [sys.executable, "-c", _SCRIPT, str(PODS)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    assert int(done.stdout) / 2**20 <= LIMIT_MIB
