"""The manifests of the scenarios that the examples are modelled on, cut unchanged out of the texts that tell them.

Each text is a sequence of steps; applying one writes a file for each object, over that object's earlier one.
"""

import asyncio
import json
import re
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import flat_yaml
import kinds
import pytest
from load import Answer, Question, ask, load
from picker_metrics import scrape
from running import Running, Start, until
from scenarios import SEEDS, WITHOUT, blocks, documents, rounds, text_of

_REQUEST = re.compile(r"(/v1/[a-z/]+)(?:(?!curl).)*? -d '(\{.*?\n\s*\})'", re.DOTALL)
_LLAMA = "default/vllm-llama3-8b-instruct"
_METHODS = ("vllm", "sglang", "vllm-multi-node", "sglang-multi-node")

pytestmark = pytest.mark.skipif(not SEEDS, reason=WITHOUT)


def apply(folder: Path, *texts: str, port: int | None = None) -> None:
    """Do as kubectl would: an object that is there already is replaced."""
    for block in texts:
        for name, document in documents(block):
            text = document if port is None else document.replace("port: 8080", f"port: {port}")
            draft = folder / f".{name}"
            draft.write_text(text)
            draft.replace(folder / name)


async def settle(running: Running, *texts: str) -> None:
    """Apply while it runs; return when everybody has taken that in."""
    generation = (await running.report())["generation"]
    apply(running.folder, *texts, port=running.port)

    async def read() -> bool:
        return bool((await running.report())["generation"] > generation)

    await until(read, 20)
    assert (await running.installation.ready())["problems"] == []


def requests_of(text: str) -> list[tuple[str, dict[str, Any]]]:
    """The path and the body of each request that the text sends, in its order."""
    return [(path, json.loads(body)) for path, body in _REQUEST.findall(text)]


async def send(running: Running, request: tuple[str, dict[str, Any]], url: str = "", host: str = "") -> dict[str, Any]:
    """Send a request of the text's; its answer, with the name of the pod that gave it as "pod"."""
    path, body = request
    headers = {"host": host} if host else {}
    async with running.session.post((url or running.url) + path, json=body, headers=headers) as response:
        answer: dict[str, Any] = await response.json()
        assert response.status == 200, answer
        assert (
            answer["usage"]["total_tokens"] == answer["usage"]["prompt_tokens"] + answer["usage"]["completion_tokens"]
        )
        return answer | {"pod": f"default/{response.headers['x-simulated-pod']}"}


async def holds(running: Running, kind: str, name: str, *conditions: str) -> None:
    """Check that an object's status says so, of all parents that it has."""
    (found,) = [each for each in (await running.report())["statuses"] if (each["kind"], each["name"]) == (kind, name)]
    status = found["status"]
    parents = status.get("parents", status.get("parent", [status]))
    assert parents
    for parent in parents:
        said = {each["type"]: each["status"] for each in parent["conditions"]}
        assert {name: said[name] for name in conditions} == dict.fromkeys(conditions, "True"), status


async def test_both_models_are_routed_right(start: Start, tmp_path: Path) -> None:
    found = blocks(text_of(0))
    assert len(found) == 4
    apply(tmp_path, *found)
    running = await start(tmp_path)
    report = await running.report()
    assert (report["problems"], report["notices"]) == ([], [])
    for model, pool in (("qwen", "default/qwen-pool"), ("deepseek-r1", "default/deepseek-pool")):
        for question in (Question(model), Question(model, stream=True), Question(model, padding=20_000)):
            answer = await ask(running.session, running.url, question)
            assert answer.good, answer
            assert f"default/{answer.pod}" in await running.pods(pool)
            line = await running.handled(answer.request_id)
            assert (line["pool"], line["model"], line["target_model"]) == (pool, model, model)
    assert (await ask(running.session, running.url, Question("llama"))).code() == "model_not_found"
    sent = requests_of(text_of(0))
    assert [body["model"] for _, body in sent] == ["qwen", "deepseek-r1"]
    for request, pool in zip(sent, ("default/qwen-pool", "default/deepseek-pool"), strict=True):
        answer_ = await send(running, request)
        assert answer_["pod"] in await running.pods(pool)
        assert answer_["model"] == request[1]["model"]
    await holds(running, "Gateway", "inference-gateway", "Accepted", "Programmed")
    await holds(running, "HTTPRoute", "inference-route", "Accepted", "ResolvedRefs")
    for pool in ("qwen-pool", "deepseek-pool"):
        await holds(running, "InferencePool", pool, "Accepted", "ResolvedRefs")
    for model in ("qwen", "deepseek-r1"):
        await holds(running, "InferenceModel", model, "Accepted")


@pytest.mark.parametrize("method", _METHODS)
async def test_requests_go_where_load_and_prefixes_tell(start: Start, tmp_path: Path, method: str) -> None:
    """The first step picks by load; the next one, by the annotation, by prefix."""
    found = blocks(text_of(1))
    assert len(found) == 11
    place = _METHODS.index(method)
    by_load, by_prefix, gateway = found[place], found[5 + place], found[10]
    apply(tmp_path, by_load, gateway)
    # The text tells of no workloads.
    kinds.write(tmp_path / "workload.yaml", workload(method))
    running = await start(tmp_path)
    report = await running.report()
    assert (report["problems"], report["notices"]) == ([], [])
    pool, model = "default/qwen-inference-pool", "/models/Qwen3-32B"
    pods = await running.pods(pool)
    assert len(pods) == 3
    assert all(pod.count("-") == 3 or not method.endswith("multi-node") for pod in pods), "leaders alone"
    (request,) = requests_of(text_of(1))
    assert (await send(running, request))["pod"] in pods
    await holds(running, "InferencePool", "qwen-inference-pool", "Accepted", "ResolvedRefs")
    await holds(running, "InferenceModel", "qwen-inference-model", "Accepted")

    loaded, address = next(iter(pods.items()))
    async with busy(running, address, model):
        answers = [await ask(running.session, running.url, Question(model, tokens=1)) for _ in range(6)]
    assert all(answer.good for answer in answers), answers
    served = {f"default/{answer.pod}" for answer in answers}
    assert served <= pods.keys() - {loaded}

    await settle(running, by_prefix)
    bodies = rounds(text_of(1))
    assert len(bodies) == 2
    for _ in range(4):
        # One right after the other, as a shell does it.
        said = [await say(running, body) for body in bodies]
        lines = [await running.handled(request_id) for request_id in said]
        assert len({line["pod_served"] for line in lines}) == 1, [dict(line) for line in lines]


def workload(method: str) -> kinds.Manifest:
    """Three servers with places for two requests each; those on several nodes have a leader and a worker each."""
    label, slow = "alibabacloud.com/inference-workload", {"simulator.pointsman.dev/decode-ms": "50"}
    sglang, wide = method.startswith("sglang"), method.endswith("multi-node")
    name = f"{'sglang' if sglang else 'vllm'}-multi-nodes" if wide else f"{'sgl' if sglang else 'vllm'}-inference"
    program = "python3 -m sglang.launch_server --model-path" if sglang else "vllm serve"
    flags = "--max-running-requests 2 --enable-metrics" if sglang else "--max-num-seqs 2"
    serve = f"{program} /models/Qwen3-32B --port 8000 {flags}"

    def template(command: str, **labels: str) -> dict[str, object]:
        container = {"name": "server", "image": "server", "command": command.split()}
        metadata = {"labels": {label: name, **labels}, "annotations": slow}
        return {"metadata": metadata, "spec": {"containers": [container]}}

    metadata = {"name": name}
    if wide:
        groups = {"leaderTemplate": template(serve, role="leader"), "workerTemplate": template("ray", role="worker")}
        spec = {"replicas": 3, "leaderWorkerTemplate": {"size": 2, **groups}}
        api = {"apiVersion": "leaderworkerset.x-k8s.io/v1", "kind": "LeaderWorkerSet"}
    else:
        spec = {"replicas": 3, "selector": {"matchLabels": {label: name}}, "template": template(serve)}
        api = {"apiVersion": "apps/v1", "kind": "Deployment"}
    return {**api, "metadata": metadata, "spec": spec}


async def test_prefill_and_decode_apart(start: Start, tmp_path: Path) -> None:
    """The text's default form, then the one by prefix."""
    found = blocks(text_of(1))
    by_load, by_prefix, gateway = found[4], found[9], found[10]
    apply(tmp_path, by_load, gateway)
    kinds.write(tmp_path / "workload.yaml", group())
    running = await start(tmp_path)
    report = await running.report()
    assert (report["problems"], report["notices"]) == ([], [])
    (request,) = requests_of(text_of(1))
    assert "-decode-" in (await send(running, request))["pod"]
    await holds(running, "InferenceTrafficPolicy", "inference-policy", "Accepted")
    bodies = rounds(text_of(1))
    for step in (by_load, by_prefix):
        if step is by_prefix:
            await settle(running, step)
        lines = [await running.handled(await say(running, body)) for body in bodies]
        for line in lines:
            assert str(line["pod_prefill"]).startswith("default/sglang-pd-prefill-"), line
            assert str(line["pod_served"]).startswith("default/sglang-pd-decode-"), line
    assert len({(line["pod_prefill"], line["pod_served"]) for line in lines}) == 1, lines


def group() -> kinds.Manifest:
    """Two pods of either role."""
    label = {"alibabacloud.com/inference_backend": "sglang"}

    def role(name: str) -> dict[str, object]:
        serve = "python3 -m sglang.launch_server --model-path /models/Qwen3-32B --port 8000 --enable-metrics"
        command = f"{serve} --disaggregation-mode {name} --disaggregation-bootstrap-port 34000".split()
        containers = [{"name": "server", "image": "server", "command": command}]
        return {
            "name": name,
            "replicas": 2,
            "template": {"metadata": {"labels": label}, "spec": {"containers": containers}},
        }

    kind = {"apiVersion": "workloads.x-k8s.io/v1alpha1", "kind": "RoleBasedGroup", "metadata": {"name": "sglang-pd"}}
    return {**kind, "spec": {"roles": [role("prefill"), role("decode")]}}


@asynccontextmanager
async def busy(running: Running, address: str, model: str) -> AsyncIterator[None]:
    """Have requests wait at a pod that somebody else asked, until they are given up."""
    question = Question(model, tokens=2000)
    tasks = [asyncio.create_task(ask(running.session, f"http://{address}", question)) for _ in range(8)]

    async def queued() -> bool:
        return (await scrape(running)).total("pointsman_picker_endpoint_waiting_requests", endpoint=address) == 6

    await until(queued, 20)
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def say(running: Running, body: str) -> str:
    """Send a body of the text's as it is; return the request's id."""
    headers = {"content-type": "application/json"}
    async with running.session.post(f"{running.url}/v1/chat/completions", data=body, headers=headers) as response:
        received = await response.read()
        assert response.status == 200, received
        assert received.rstrip().endswith(b"data: [DONE]")
        return response.headers["x-request-id"]


async def test_weights_release_a_base_model_and_then_an_adapter(start: Start, tmp_path: Path) -> None:
    qwen, first_pool, gateway, deepseek, second_pool, gray_route, adapters = blocks(text_of(2))
    apply(tmp_path, qwen, first_pool, gateway)
    running = await start(tmp_path)
    report = await running.report()
    assert (report["problems"], report["notices"]) == ([], [])
    old = await running.pods("default/mymodel-pool-v1")
    async with load(running, *[Question("mymodel", tokens=1)] * 3) as clients:
        answers = await clients.more(10)
        assert {f"default/{answer.pod}" for answer in answers} == old.keys()
        await settle(running, deepseek)
        await settle(running, second_pool)
        await settle(running, gray_route)
        new = await running.pods("default/mymodel-pool-v2")
        answers = await clients.more(200)
    assert not clients.bad
    before, after, travel = requests_of(text_of(2))
    assert before == after
    assert (await send(running, before))["pod"] in {*old, *new}
    shares = Counter(f"default/{answer.pod}" in new for answer in answers)
    assert 0.02 < shares[True] / len(answers) < 0.2, shares

    # The second scenario starts from the same preparations as the first.
    async with load(running, *[Question("mymodel", tokens=1)] * 3) as clients:
        await settle(running, dict(documents(gateway))["httproute-inference-route.yaml"])
        await settle(running, adapters)
        await clients.more(20)
        async with load(running, *[Question("travelhelper", tokens=1)] * 3) as travellers:
            answers = await travellers.more(200)
    assert not clients.bad
    assert (await send(running, travel))["model"] in {"travel-helper-v1", "travel-helper-v2"}
    assert not travellers.bad
    shares = Counter(json.loads(answer.body)["model"] == "travel-helper-v2" for answer in answers)
    assert 0.02 < shares[True] / len(answers) < 0.2, shares


async def test_an_adapter_is_rolled_out(start: Start, tmp_path: Path) -> None:
    """The pool's picker is a Deployment of the text's own, the adapters are loaded by the sidecar."""
    steps = flat_yaml.blocks(text_of(3))
    assert len(steps) == 11
    servers, model, pool, gateway, route, both_loaded, tenth, alone, old_unloaded = steps[2:]
    # The class and the Secret are the cluster's.
    kinds.write(tmp_path / "class.yaml", kinds.gateway_class("kgateway"))
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "hf-token"}, "stringData": {"token": "none"}}
    kinds.write(tmp_path / "secret.yaml", secret)
    apply(tmp_path, servers, model, pool, gateway, route)
    running = await start(tmp_path)
    report = await running.report()
    assert report["problems"] == []
    (address,) = (await running.pods(_LLAMA)).values()
    (listener,) = report["gateways"][0]["listeners"]
    running.port = listener["port"]
    assert listener["address"] == "127.0.0.1"

    async def loaded(*adapters: str) -> bool:
        async with running.session.get(f"http://{address}/v1/models") as response:
            models = [each["id"] for each in (await response.json())["data"]]
            return set(models) == {"meta-llama/Llama-3.1-8B-Instruct", *adapters}

    def share(answers: list[Answer]) -> float:
        return sum(json.loads(answer.body)["model"] == "food-review-2" for answer in answers) / len(answers)

    await holds(running, "Gateway", "inference-gateway", "Accepted", "Programmed")
    await holds(running, "HTTPRoute", "llm-route", "Accepted", "ResolvedRefs")
    await until(lambda: loaded("food-review-1"), 20)
    request, *others = requests_of(text_of(3))
    assert others == [request, request]
    answer_ = await send(running, request)
    assert (answer_["model"], answer_["object"]) == ("food-review-1", "text_completion")
    assert 0 < answer_["usage"]["completion_tokens"] <= 100
    async with running.session.get(f"{running.url}/v1/models") as response:
        assert "food-review" in [each["id"] for each in (await response.json())["data"]]
    async with load(running, *[Question("food-review", tokens=1)] * 3) as clients:
        assert share(await clients.more(20)) == 0
        await settle(running, both_loaded)
        await until(lambda: loaded("food-review-1", "food-review-2"), 20)
        await settle(running, tenth)
        assert 0.02 < share((await clients.more(200))[:200]) < 0.2
        await settle(running, alone)
        assert share(await clients.more(20)) == 1
        await settle(running, old_unloaded)
        await until(lambda: loaded("food-review-2"), 20)
        assert share(await clients.more(20)) == 1
    assert not clients.bad
    # The syncer's own words for each step.
    told = [(line.event, line.fields.get("adapter")) for line in running.lines if "adapter" in line.fields]
    assert told == [
        ("Adapter loaded", "food-review-1"),
        ("Adapter loaded", "food-review-2"),
        ("Adapter unloaded", "food-review-1"),
    ]


async def test_requests_are_mirrored(start: Start, tmp_path: Path) -> None:
    workloads, rules, gateway, sleep = blocks(text_of(4))
    apply(tmp_path, workloads, rules, gateway, sleep)
    # The second Deployment is left to the reader.
    flags = "--served-model-name /model/llama2"
    kinds.write(tmp_path / "second.yaml", kinds.deployment("vllm-llama2-7b-pool-1", flags))
    running = await start(tmp_path)
    report = await running.report()
    assert report["problems"] == []
    told = [f"{line.event} {line.fields}" for line in running.lines if line.process == "simulator"]
    assert any("Deployment default/sleep: not simulated" in line for line in told), told
    (listener,) = report["gateways"][0]["listeners"]
    url = f"http://{listener['address']}:{listener['port']}"
    question = partial(Question, "/model/llama2", "introduce yourself")
    for _ in range(2):
        answer: Answer = await ask(running.session, url, question(headers={"host": "example.com"}))
        assert answer.good, answer
        assert f"default/{answer.pod}" in await running.pods("default/vllm-llama2-7b-pool")
    (request,) = requests_of(text_of(4))
    answer_ = await send(running, request, url, "example.com")
    assert answer_["pod"] in await running.pods("default/vllm-llama2-7b-pool")
    assert 0 < answer_["usage"]["completion_tokens"] <= 100
    await holds(running, "HTTPRoute", "mirror-route", "Accepted", "ResolvedRefs")
    refused = await ask(running.session, url, question(headers={"host": "example.org"}))
    assert refused.status == 404
    mirrored = servers(running)["vllm-llama2-7b-pool-1"]

    async def counted() -> bool:
        async with running.session.get(f"http://{mirrored}/metrics") as response:
            found = re.findall(r"^vllm:request_success_total\{.*\} (\S+)$", await response.text(), re.MULTILINE)
            return sum(map(float, found)) == 3

    await until(counted, 20)


def servers(running: Running) -> Mapping[str, str]:
    """The addresses of the simulated servers, of one pod of each app."""
    return {pod["metadata"]["labels"]["app"]: f"{pod['status']['podIP']}:8000" for pod in running.simulated()}
