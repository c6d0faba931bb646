"""Prefill and decode apart: Envoy sends each request to one pod of either role, which meet at what the body names."""

import asyncio
import json
import re
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sized
from contextlib import suppress
from functools import partial

import aiohttp
import pytest
import pytest_asyncio
from picker_metrics import scrape
from prometheus_client.parser import text_string_to_metric_families
from running import EXAMPLE, Running, Start, until

pytestmark = pytest.mark.asyncio(loop_scope="module")

FORMS = ("balanced", "cached")
TOKENS = 5


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(start_shared: Start, tmp_path_factory: pytest.TempPathFactory) -> Running:
    folder = tmp_path_factory.mktemp("prefill-decode") / "folder"
    shutil.copytree(EXAMPLE.parent / "prefill-decode", folder)
    running = await start_shared(folder)
    report = await running.report()
    assert (report["problems"], report["notices"]) == ([], [])
    return running


@pytest_asyncio.fixture(loop_scope="module", autouse=True)
async def mended(running: Running) -> AsyncIterator[None]:
    """After each test the manifests are as before, and no pod fails or is avoided."""
    path = running.folder / "balanced.yaml"
    before = path.read_text()
    yield
    if path.read_text() != before:
        await edit(running, path.name, lambda _: before)
    pods = await running.pods("default/balanced")
    # One that refuses cannot be told itself; of these two at most one does.
    asked = [pods["default/balanced-prefill-1"], pods["default/balanced-decode-1"]]
    for pod in pods:
        for address in asked:
            with suppress(aiohttp.ClientConnectorError):
                await running.fault(address, "none", pod=pod)
                break

    async def none_is_avoided() -> bool:
        return (await scrape(running)).total("pointsman_picker_endpoint_avoided") == 0

    await until(none_is_avoided, 20)


async def ask(
    running: Running, form: str, text: str = "hello", *, headers: dict[str, str] | None = None, **more: object
) -> tuple[aiohttp.ClientResponse, bytes]:
    body = {"model": "qwen3", "messages": [{"role": "user", "content": text}], "max_tokens": TOKENS, **more}
    headers = {"host": f"{form}.example.com", **(headers or {})}
    async with running.session.post(f"{running.url}/v1/chat/completions", json=body, headers=headers) as response:
        return response, await response.read()


async def roles(running: Running, response: aiohttp.ClientResponse) -> tuple[str, str]:
    line = await running.handled(response.headers["x-request-id"])
    assert str(line["pod_served"]).endswith(response.headers["x-simulated-pod"])
    return str(line["pod_prefill"]), str(line["pod_served"])


async def written(running: Running, pool: str, role: str) -> float:
    """How many tokens the pods of a role have written."""
    found = 0.0
    for pod, address in (await running.pods(f"default/{pool}")).items():
        if f"-{role}-" in pod:
            async with running.session.get(f"http://{address}/metrics") as response:
                text = await response.text()
            samples = (each for family in text_string_to_metric_families(text) for each in family.samples)
            found += sum(each.value for each in samples if each.name == "sglang:generation_tokens_total")
    return found


async def edit(running: Running, file: str, change: Callable[[str], str]) -> None:
    generation = (await running.report())["generation"]
    path = running.folder / file
    text = change(path.read_text())
    assert text != path.read_text()
    draft = path.with_name(f".{file}")
    draft.write_text(text)
    draft.replace(path)

    async def read() -> bool:
        return bool((await running.report())["generation"] > generation)

    await until(read, 20)
    assert (await running.installation.ready())["problems"] == []


async def test_one_pod_prefills_and_another_decodes(running: Running) -> None:
    for form in FORMS:
        before = await written(running, form, "decode"), await written(running, form, "prefill")
        # What a client says of pods and of meetings does not count.
        bogus = {"bootstrap_host": "10.9.9.9", "bootstrap_port": 1, "bootstrap_room": 7}
        lies = {"x-pointsman-prefill-endpoint": "10.9.9.9:80"}
        for more in ({}, bogus, {"padding": "x" * 300_000}):
            response, body = await ask(running, form, headers=lies, **more)
            assert response.status == 200, body
            prefill, decode = await roles(running, response)
            assert (f"{form}-prefill-" in prefill, f"{form}-decode-" in decode) == (True, True)
        events = 0
        response, body = await ask(running, form, stream=True)
        for line in body.splitlines():
            if line.startswith(b"data: {") and json.loads(line[6:])["choices"][0]["delta"].get("content"):
                events += 1
        assert (response.status, events, body.rstrip().endswith(b"[DONE]")) == (200, TOKENS, True)
        assert await written(running, form, "decode") - before[0] == 4 * TOKENS
        assert await written(running, form, "prefill") - before[1] == 4


async def test_only_the_drawn_pool_prefills(running: Running) -> None:
    backend = "          name: balanced\n"
    other = "        - {group: inference.networking.x-k8s.io, kind: InferencePool, name: cached}\n"

    def split(text: str) -> str:
        head, found, tail = text.partition("      backendRefs:")
        return head + found + tail.replace(backend, backend + other, 1)

    before = {form: await written(running, form, "prefill") for form in FORMS}
    await edit(running, "balanced.yaml", split)
    answers = await asyncio.gather(*(ask(running, "balanced", f"number {number}") for number in range(40)))
    assert {response.status for response, _ in answers} == {200}
    drawn = {form: sum(form in response.headers["x-simulated-pod"] for response, _ in answers) for form in FORMS}
    assert all(drawn.values())
    for form in FORMS:
        assert await written(running, form, "prefill") - before[form] == drawn[form]


async def test_a_prefill_pod_that_hangs_is_an_error_in_time_and_then_avoided(running: Running) -> None:
    rule = "    - matches:\n"
    await edit(
        running, "balanced.yaml", lambda text: text.replace(rule, "    - timeouts: {request: 1s}\n      matches:\n")
    )
    lost = "default/balanced-prefill-0"
    await running.fault((await running.pods("default/balanced"))[lost], "hang")
    seen = set()

    async def avoided() -> bool:
        response, body = await ask(running, "balanced")
        seen.add(response.status)
        if response.status == 200:
            return (await roles(running, response))[0] != lost and running_lines(running, "Endpoint avoided", lost)
        assert json.loads(body)["error"]["type"], body
        return False

    await until(avoided, 15)
    assert seen <= {200, 504}
    for _ in range(8):
        response, body = await ask(running, "balanced")
        assert response.status == 200, body
        assert (await roles(running, response))[0] != lost


def running_lines(running: Running, event: str, pod: str) -> bool:
    return any(line.event == event and line.fields.get("pod") == pod for line in running.lines)


@pytest.mark.parametrize(("role", "code"), [("prefill", "no_ready_prefill_endpoint"), ("decode", "no_ready_endpoint")])
async def test_pods_of_a_role_go_and_come_back(running: Running, role: str, code: str) -> None:
    """Whoever asks meanwhile is served, or told that nobody is there: no decode pod waits for a prefill in vain."""
    answers: list[tuple[int, bytes]] = []
    stop = asyncio.Event()

    async def client() -> None:
        while not stop.is_set():
            response, body = await ask(running, "balanced")
            answers.append((response.status, body))

    def is_refused(answer: tuple[int, bytes]) -> bool:
        return answer[0] == 503 and json.loads(answer[1])["error"]["code"] == code

    async def is_last(*, refused: bool) -> bool:
        seen = len(answers)
        await until(partial(has_more, answers, seen + 8), 20)
        return all(is_refused(answer) == refused for answer in answers[seen + 4 :])

    clients = [asyncio.create_task(client()) for _ in range(4)]
    for replicas in (1, 0, 2):
        await edit(running, "balanced.yaml", partial(scaled, role=role, replicas=replicas))
        await until(partial(is_last, refused=replicas == 0), 20)
        response, body = await ask(running, "cached")
        assert response.status == 200, body
    stop.set()
    await asyncio.gather(*clients)
    assert all(status == 200 or is_refused((status, body)) for status, body in answers), Counter(answers)


def scaled(text: str, role: str, replicas: int) -> str:
    return re.sub(rf"(    - name: {role}\n      replicas: )\d", rf"\g<1>{replicas}", text)


async def has_more(answers: Sized, than: int) -> bool:
    return len(answers) > than


async def test_a_decode_pod_that_refuses_costs_no_request(running: Running) -> None:
    lost = "default/balanced-decode-0"
    await running.fault((await running.pods("default/balanced"))[lost], "refuse")
    answers = await asyncio.gather(*(ask(running, "balanced", f"number {number}") for number in range(8)))
    assert [response.status for response, _ in answers] == [200] * 8, answers
