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
_MADE = "app.kubernetes.io/managed-by=pointsman"
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
        # What was made for these must not be taken for what the next one is made for.
        self.controller.until(lambda: not self.cluster.get("deployments,services", "-l", _MADE)["items"])

    def ready(self, *labels: str) -> None:
        for label in labels:
            self.controller.until(lambda label=label: bool(self.cluster.get("pods", "-l", label)["items"]))  # type: ignore[misc]
            self.cluster.kubectl("wait", "pod", "-l", label, "--for=condition=Ready", _READY)

    def post(self, address: str, body: str, *options: str) -> tuple[str, int, str]:
        """Send a body as the texts do; the answer's body, status and pod, and 0 for a status where there is none."""
        written = "\n%{http_code} %header{x-simulated-pod}"
        command = ["curl", "-s", "-m", "20", "-X", "POST", "-w", written, f"{address}/v1/chat/completions"]
        headers = ["-H", "Content-Type: application/json", "-d", "@-"]
        try:
            said, _, trailer = self.cluster.run([*command, *headers, *options], stdin=body).rpartition("\n")
        except RuntimeError:
            return "", 0, ""
        status, _, pod = trailer.partition(" ")
        return said, int(status), pod

    def ask(self, address: str, model: str, *options: str) -> dict[str, Any]:
        """Ask as the texts do; the answer's fields, and its status and pod."""
        body = {"model": model, "temperature": 0, "max_tokens": 4, "messages": [{"role": "user", "content": "hi"}]}
        said, status, pod = self.post(address, json.dumps(body), *options)
        return {**json.loads(said or "{}"), "status": status, "pod": pod}

    def logs(self, target: str, wanted: str) -> list[str]:
        """The lines with these words in them, none where nobody writes yet."""
        try:
            written = self.cluster.kubectl("logs", target, "--tail=-1")
        except RuntimeError:
            return []
        return [line for line in written.splitlines() if wanted in line]

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


def test_requests_go_where_load_prefixes_and_roles_tell(stage: Stage) -> None:
    text = scenarios.text_of(1)
    found = scenarios.blocks(text)
    by_load, by_prefix, apart, gateway = found[0], found[5], found[9], found[10]
    # The text tells of no workloads.
    stage.apply(yaml.safe_dump_all(_servers()), by_load, gateway)
    address = f"{stage.controller.programmed('inference-gateway', 'default')}:8080"
    stage.ready("app=servers")
    stage.until_served(lambda: stage.ask(address, "/models/Qwen3-32B"))
    stage.apply(by_prefix)
    bodies = scenarios.rounds(text)
    assert len(bodies) == 2

    def is_together() -> bool:
        answers = [stage.post(address, body) for _ in range(4) for body in bodies]
        return {status for _, status, _ in answers} == {200} and len({pod for _, _, pod in answers}) == 1

    stage.controller.until(is_together)
    assert stage.logs("deploy/inference-gateway-ext-proc", "Request Handled")
    stage.apply(apart)

    def is_apart() -> bool:
        answer = stage.ask(address, "/models/Qwen3-32B")
        lines = map(json.loads, stage.logs("deploy/qwen-inference-pool-picker", "Request Handled"))
        prefilled = any(str(line.get("pod_prefill")).startswith("default/prefill-") for line in lines)
        return answer["status"] == 200 and answer["pod"].startswith("decode-") and prefilled

    stage.controller.until(is_apart)


def _servers() -> Iterator[dict[str, Any]]:
    """Two servers for both, and one for each of the roles."""
    vllm = "vllm serve /models/Qwen3-32B --port 8000"
    yield _deployment("both", vllm, {"alibabacloud.com/inference-workload": "vllm-inference"}, replicas=2)
    sglang = "python3 -m sglang.launch_server --model-path /models/Qwen3-32B --port 8000 --enable-metrics"
    for role in ("prefill", "decode"):
        labels = {"alibabacloud.com/inference_backend": "sglang", "rolebasedgroup.workloads.x-k8s.io/role": role}
        yield _deployment(
            role, f"{sglang} --disaggregation-mode {role} --disaggregation-bootstrap-port 34000", labels, replicas=1
        )


def _deployment(name: str, command: str, labels: dict[str, str], *, replicas: int) -> dict[str, Any]:
    labels = {"app": "servers", **labels}
    container = {
        "name": "server",
        "image": "vllm-or-sglang",
        "command": command.split(),
        "readinessProbe": {"httpGet": {"path": "/health", "port": 8000}},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        },
    }


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

    def until_answered_by(model: str) -> None:
        # The text's probes have a second to answer, which its one pod may miss on a busy machine: nobody is ready then.
        stage.controller.until(lambda: {stage.ask(address, "food-review").get("model") for _ in range(5)} == {model})

    until_answered_by("food-review-1")
    stage.apply(both_loaded)
    stage.controller.until(lambda: loaded("food-review-1", "food-review-2"))
    stage.apply(tenth)
    seen = set[str]()

    def both() -> bool:
        seen.add(stage.ask(address, "food-review").get("model", ""))
        return seen >= {"food-review-1", "food-review-2"}

    stage.controller.until(both)
    stage.apply(alone)
    until_answered_by("food-review-2")
    stage.apply(old_unloaded)
    stage.controller.until(lambda: loaded("food-review-2"))
    until_answered_by("food-review-2")
    route_status = stage.cluster.get("httproute", "llm-route")["status"]["parents"][0]["conditions"]
    assert {each["type"]: each["status"] for each in route_status} == {"Accepted": "True", "ResolvedRefs": "True"}
    lines = map(json.loads, stage.logs("deploy/vllm-llama3-8b-instruct-epp", "Request Handled"))
    assert f"default/{pod['metadata']['name']}" in {line["pod_served"] for line in lines}


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
