"""The scenarios' own manifests, applied to a cluster as their texts tell, with their own commands."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import flat_yaml
import pytest
import scenarios
import yaml
from controllers import Controller

pytestmark = pytest.mark.skipif(not scenarios.SEEDS, reason=scenarios.WITHOUT)

# A weight of a tenth, in a hundred draws: a share beyond these bounds comes once in ten thousand runs.
_TENTH = range(1, 24)
_READY = "--timeout=150s"
# What a program installs in that text, and a command makes.
_PREPARED = """
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: kgateway}
spec: {controllerName: kgateway.dev/kgateway}
---
apiVersion: v1
kind: Secret
metadata: {name: hf-token}
stringData: {token: none}
"""


class Stage:
    """A cluster that a scenario is applied to, by kubectl, and taken from again."""

    def __init__(self, controller: Controller) -> None:
        self.controller = controller
        self.cluster = controller.cluster
        self._applied: list[str] = []

    def apply(self, *texts: str) -> None:
        for text in texts:
            self._applied.append(text)
            self.cluster.kubectl("apply", "-f", "-", stdin=text)

    def clear(self) -> None:
        for text in reversed(self._applied):
            options = ("--ignore-not-found", "--timeout=120s", "--grace-period=1")
            self.cluster.kubectl("delete", *options, "-f", "-", stdin=text)

    def ready(self, *labels: str) -> None:
        for label in labels:
            self.cluster.kubectl("wait", "pod", "-l", label, "--for=condition=Ready", _READY)

    def ask(self, address: str, model: str, *options: str) -> dict[str, Any]:
        """Ask as the texts do; the answer's fields, and its status and pod."""
        body = {"model": model, "temperature": 0, "max_tokens": 4, "messages": [{"role": "user", "content": "hi"}]}
        written = "\n%{http_code} %header{x-simulated-pod}"
        command = ["curl", "-s", "-m", "20", "-X", "POST", "-w", written, f"{address}/v1/chat/completions"]
        headers = ["-H", "Content-Type: application/json", "-d", json.dumps(body)]
        said, _, trailer = self.cluster.run([*command, *headers, *options]).rpartition("\n")
        status, _, pod = trailer.partition(" ")
        return {**json.loads(said or "{}"), "status": int(status), "pod": pod}

    def logs(self, target: str, wanted: str) -> list[str]:
        return [line for line in self.cluster.kubectl("logs", target, "--tail=-1").splitlines() if wanted in line]

    def until_served(self, asked: Callable[[], dict[str, Any]]) -> None:
        self.controller.until(lambda: asked()["status"] == 200)


@pytest.fixture
def stage(controller: Controller) -> Iterator[Stage]:
    stage = Stage(controller)
    yield stage
    stage.clear()


def test_both_models_are_routed_right(stage: Stage) -> None:
    stage.apply(*scenarios.blocks(scenarios.text_of(0)))
    address = f"{stage.controller.programmed('inference-gateway', 'default')}:8080"
    stage.ready("app=qwen", "app=deepseek-r1")
    for model, picker in (("qwen", "qwen-ext-proc"), ("deepseek-r1", "deepseek-ext-proc")):
        stage.until_served(lambda model=model: stage.ask(address, model))  # type: ignore[misc]
        answer = stage.ask(address, model)
        assert (answer["status"], answer["model"]) == (200, model)
        assert answer["pod"].startswith(model)

        def told(picker: str = picker, pod: str = answer["pod"]) -> bool:
            lines = map(json.loads, stage.logs(f"deploy/{picker}", "Request Handled"))
            return any(line["pod_served"] == f"default/{pod}" for line in lines)

        stage.controller.until(told)
    assert stage.ask(address, "llama")["error"]["code"] == "model_not_found"


def test_weights_release_a_base_model_and_then_an_adapter(stage: Stage) -> None:
    qwen, first_pool, gateway, deepseek, second_pool, gray_route, adapters = scenarios.blocks(scenarios.text_of(2))
    stage.apply(qwen, first_pool, gateway)
    address = f"{stage.controller.programmed('inference-gateway', 'default')}:8080"
    stage.ready("app=custom-serving,release=qwen")
    stage.until_served(lambda: stage.ask(address, "mymodel"))
    stage.apply(deepseek, second_pool)
    stage.ready("app=custom-serving,release=deepseek-r1")
    stage.apply(gray_route)
    pods = Counter[str]()

    def both() -> bool:
        answer = stage.ask(address, "mymodel")
        assert answer["status"] == 200, answer
        pods[answer["pod"].partition("-")[0]] += 1
        return len(pods) == 2

    stage.controller.until(both)
    pods.clear()
    for _ in range(100):
        both()
    assert pods["deepseek"] in _TENTH, pods
    stage.apply(dict(scenarios.documents(gateway))["httproute-inference-route.yaml"], adapters)
    stage.until_served(lambda: stage.ask(address, "travelhelper"))
    models = Counter(stage.ask(address, "travelhelper")["model"] for _ in range(100))
    assert models["travel-helper-v2"] in _TENTH, models


def test_an_adapter_is_rolled_out(stage: Stage) -> None:
    """The pool's picker is a Deployment of the text's own, which may read what the text lets it."""
    steps = flat_yaml.blocks(scenarios.text_of(3))
    servers, model, pool, gateway, route, both_loaded, tenth, alone, old_unloaded = steps[2:]
    stage.apply(_PREPARED, servers, model, pool, gateway, route)
    address = f"{stage.controller.programmed('inference-gateway', 'default')}:80"
    stage.ready("app=vllm-llama3-8b-instruct", "app=vllm-llama3-8b-instruct-epp")
    (pod,) = stage.cluster.get("pods", "-l", "app=vllm-llama3-8b-instruct")["items"]

    def loaded(*adapters: str) -> bool:
        said = stage.cluster.run(["curl", "-s", "-m", "20", f"{pod['status']['podIP']}:8000/v1/models"])
        return {each["id"] for each in json.loads(said)["data"]} == {"meta-llama/Llama-3.1-8B-Instruct", *adapters}

    def models(asked: int) -> Counter[str]:
        return Counter(stage.ask(address, "food-review")["model"] for _ in range(asked))

    stage.until_served(lambda: stage.ask(address, "food-review"))
    assert models(5).keys() == {"food-review-1"}
    stage.apply(both_loaded)
    stage.controller.until(lambda: loaded("food-review-1", "food-review-2"))
    stage.apply(tenth)
    stage.controller.until(lambda: len(models(10)) == 2)
    stage.apply(alone)
    stage.controller.until(lambda: models(10).keys() == {"food-review-2"})
    stage.apply(old_unloaded)
    stage.controller.until(lambda: loaded("food-review-2"))
    assert models(5).keys() == {"food-review-2"}
    route_status = stage.cluster.get("httproute", "llm-route")["status"]["parents"][0]["conditions"]
    assert {each["type"]: each["status"] for each in route_status} == {"Accepted": "True", "ResolvedRefs": "True"}
    lines = map(json.loads, stage.logs("deploy/vllm-llama3-8b-instruct-epp", "Request Handled"))
    assert {line["pod_served"] for line in lines} == {f"default/{pod['metadata']['name']}"}


def test_requests_are_mirrored(stage: Stage) -> None:
    workloads, rules, gateway, sleep = scenarios.blocks(scenarios.text_of(4))
    stage.apply(workloads, rules, gateway, sleep, _second(workloads))
    address = stage.controller.programmed("example-gateway", "default")
    service = stage.cluster.get("service", "example-gateway-example-gateway-class")
    assert (service["spec"]["type"], service["spec"]["clusterIP"]) == ("ClusterIP", address)
    stage.ready("app=vllm-llama2-7b-pool", "app=vllm-llama2-7b-pool-1", "app=sleep")
    (pod,) = stage.cluster.get("pods", "-l", "app=sleep")["items"]
    body = json.dumps({"model": "/model/llama2", "max_tokens": 4, "messages": [{"role": "user", "content": "hi"}]})
    command = ("curl", "-s", "-X", "POST", f"{address}/v1/chat/completions", "-H", "Content-Type: application/json")

    def served() -> bool:
        host = ("-H", "host: example.com", "-d", body)
        return "chatcmpl" in stage.cluster.exec(pod["metadata"]["name"], *command, *host)

    stage.controller.until(served)
    for name in ("vllm-llama2-7b-pool", "vllm-llama2-7b-pool-1"):
        stage.controller.until(lambda name=name: bool(_successes(stage, name)))  # type: ignore[misc]


def _successes(stage: Stage, deployment: str) -> list[str]:
    return [line for line in stage.logs(f"deployments/{deployment}", "/v1/chat/completions") if "OK" in line]


def _second(workloads: str) -> str:
    """The Deployment that the text leaves to the reader: like the first, under the name of the second Service."""
    first = next(each for each in yaml.safe_load_all(workloads) if each["kind"] == "Deployment")
    name = f"{first['metadata']['name']}-1"
    first["metadata"]["name"] = name
    first["spec"]["selector"]["matchLabels"]["app"] = name
    first["spec"]["template"]["metadata"]["labels"]["app"] = name
    return str(yaml.safe_dump(first))
