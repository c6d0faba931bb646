"""What answers took, read from them on their way: tokens, and the times of the first one and of each after it."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import kinds
import pytest
import pytest_asyncio
from aiohttp import web
from picker_metrics import Samples, scrape
from running import FINDERS, Running, Start, until

from pointsman.ports import port_to_keep

pytestmark = pytest.mark.asyncio(loop_scope="module")

USAGE = {
    "prompt_tokens": 21,
    "completion_tokens": 5,
    "total_tokens": 26,
    "prompt_tokens_details": {"cached_tokens": 16},
}
TOKENS = {"prompt_tokens": 21, "cached_tokens": 16, "completion_tokens": 5}
METRICS = "vllm:num_requests_running 0\nvllm:num_requests_waiting 0\nvllm:kv_cache_usage_perc 0\n"
DONE = b"data: [DONE]\n\n"
# Seconds from the headers of a stream to its first token, and from each to the next.
FIRST, NEXT = 0.3, 0.05


@dataclass
class Script:
    """A model server that answers with what it is told: pieces of a body, and pauses in seconds."""

    pieces: list[bytes | float] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)

    async def chat(self, request: web.Request) -> web.StreamResponse:
        await request.read()
        response = web.StreamResponse(headers=self.headers)
        await response.prepare(request)
        for piece in self.pieces:
            if isinstance(piece, bytes):
                await response.write(piece)
            else:
                await asyncio.sleep(piece)
        await response.write_eof()
        return response


@asynccontextmanager
async def served(script: Script) -> AsyncIterator[int]:
    async def healthy(_: web.Request) -> web.Response:
        return web.Response(text=METRICS)

    application = web.Application()
    application.router.add_post("/v1/chat/completions", script.chat)
    for path in ("/metrics", "/health"):
        application.router.add_get(path, healthy)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    port = port_to_keep()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield port
    finally:
        await runner.cleanup()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def script() -> AsyncIterator[tuple[Script, int]]:
    told = Script()
    async with served(told) as port:
        yield told, port


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=FINDERS)
async def running(
    start_shared: Start,
    script: tuple[Script, int],
    tmp_path_factory: pytest.TempPathFactory,
    request: pytest.FixtureRequest,
) -> Running:
    """Pools of simulated vLLM and SGLang servers, and one of the scripted server."""
    folder = tmp_path_factory.mktemp("usage")
    kinds.write(folder / "gateway.yaml", kinds.gateway_class(), kinds.gateway())
    kinds.write(folder / "servers.yaml", kinds.deployment("chat", "--served-model-name base", decode_ms=20))
    kinds.write(folder / "scripted.yaml", *kinds.pods("scripted", ["127.0.0.1"], port=script[1]))
    pools = [
        kinds.pool("plain", "chat"),
        kinds.pool("renaming", "chat"),
        kinds.pool("told", "scripted", port=script[1]),
    ]
    kinds.write(folder / "pools.yaml", *pools)
    kinds.write(folder / "model.yaml", kinds.model("alias", "renaming", {"base": 1}))
    rules = [
        kinds.rule(kinds.to_pool("plain"), model="base"),
        kinds.rule(kinds.to_pool("renaming"), kinds.to_pool("plain", weight=0), model="alias"),
    ]
    kinds.write(folder / "route.yaml", kinds.route("route", *rules))
    # Not by its model: Envoy's AI Protocol Manager writes anew what answers a request that it examined.
    scripted = kinds.route("scripted", kinds.rule(kinds.to_pool("told")), hostnames=["told.example.com"])
    plain = kinds.route("plain", kinds.rule(kinds.to_pool("plain")), hostnames=["plain.example.com"])
    kinds.write(folder / "other-routes.yaml", scripted, plain)
    return await start_shared(folder, finder=request.param)


async def ask(running: Running, model: str, path: str = "chat/completions", **more: object) -> tuple[str, bytes]:
    prompt = {"prompt": "Hello"} if path == "completions" else {"messages": [{"role": "user", "content": "Hello"}]}
    url, body = f"{running.url}/v1/{path}", {"model": model, **prompt, **more}
    headers = {"host": "told.example.com"} if model == "scripted" else {}
    async with running.session.post(url, json=body, headers=headers) as response:
        received = await response.read()
        assert response.status == 200, received
        return response.headers["x-request-id"], received


def events(body: bytes) -> Iterator[dict[str, object]]:
    for line in body.splitlines():
        if line.startswith(b"data: {"):
            yield json.loads(line[6:])


@pytest.mark.parametrize("path", ["chat/completions", "completions"])
@pytest.mark.parametrize("model", ["base", "alias"])
@pytest.mark.parametrize("stream", [False, True])
async def test_the_answer_s_own_figures_are_logged(running: Running, model: str, path: str, stream: bool) -> None:  # noqa: FBT001
    options = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
    request_id, body = await ask(running, model, path, max_tokens=7, **options)
    usage = [event["usage"] for event in events(body) if "usage" in event][-1] if stream else json.loads(body)["usage"]
    line = await running.handled(request_id)
    assert line["prompt_tokens"] == usage["prompt_tokens"]
    assert (line["completion_tokens"], usage["completion_tokens"]) == (7, 7)
    assert line["cached_tokens"] == usage["prompt_tokens_details"]["cached_tokens"]
    assert (line["tpot_ms"] is not None) == stream
    assert (line["model"], line["target_model"]) == (model, "base")


async def test_a_stream_that_is_not_asked_for_its_usage_passes_unchanged(running: Running) -> None:
    request_id, body = await ask(running, "base", stream=True, max_tokens=3)
    assert body.endswith(DONE)
    assert b'"usage"' not in body
    line = await running.handled(request_id)
    assert "prompt_tokens" not in line


def whole(**more: object) -> bytes:
    return json.dumps({"id": "1", "object": "chat.completion", "model": "scripted", **more}).encode()


def chunk(**more: object) -> bytes:
    return b"data: " + json.dumps({"id": "1", "object": "chat.completion.chunk", **more}).encode() + b"\n\n"


def split(body: bytes, size: int) -> list[bytes | float]:
    """Cut a body into pieces that arrive one by one."""
    found: list[bytes | float] = []
    for start in range(0, len(body), size):
        found += [body[start : start + size], 0.001]
    return found


TEXT = 'He said: "usage": {"prompt_tokens": 99, "completion_tokens": 99} and {"usage":{"prompt_tokens":98}}'
JSON, STREAM = "application/json", "text/event-stream; charset=utf-8"
CHOICES = [{"index": 0, "message": {"role": "assistant", "content": TEXT}, "finish_reason": "stop"}]
LAST = chunk(choices=[], usage=USAGE)


@pytest.mark.parametrize(
    ("pieces", "kind", "tokens"),
    [
        ([whole(choices=CHOICES, usage=USAGE)], JSON, TOKENS),
        # Of SGLang's answers and vLLM's there is something behind it.
        (
            [whole(choices=CHOICES, usage=USAGE, prompt_logprobs=None, metadata={"weight_version": "d" * 900})],
            JSON,
            TOKENS,
        ),
        ([whole(choices=CHOICES, padding="x" * 3_000_000, usage=USAGE)], JSON, TOKENS),
        (split(whole(choices=CHOICES, usage=USAGE), 40), JSON, TOKENS),
        ([whole(choices=CHOICES)], JSON, {}),
        ([whole(choices=CHOICES, usage=None)], JSON, {}),
        ([b"not JSON at all"], JSON, {}),
        ([], JSON, {}),
        ([whole(choices=CHOICES, usage=USAGE)], "text/plain", {}),
        ([chunk(choices=CHOICES, usage=None) * 40, LAST, DONE], STREAM, TOKENS),
        ([chunk(choices=CHOICES, usage=None)] * 40 + [LAST + DONE], STREAM, TOKENS),
        ([chunk(choices=CHOICES), *split(LAST + DONE, 60)], STREAM, TOKENS),
        # Usage with every token: the last one counts.
        ([chunk(usage=USAGE | {"completion_tokens": count}) for count in range(1, 6)] + [DONE], STREAM, TOKENS),
        ([chunk(choices=CHOICES, usage=None), DONE], STREAM, {}),
    ],
)
async def test_wherever_the_usage_stands_it_is_found_and_what_passes_stays_as_it_is(
    running: Running,
    script: tuple[Script, int],
    pieces: list[bytes | float],
    kind: str,
    tokens: dict[str, int],
) -> None:
    script[0].pieces, script[0].headers = pieces, {"content-type": kind}
    request_id, body = await ask(running, "scripted")
    assert body == b"".join(piece for piece in pieces if isinstance(piece, bytes))
    line = await running.handled(request_id)
    assert {name: line[name] for name in TOKENS if name in line} == tokens


async def test_the_first_token_is_not_the_headers(running: Running, script: tuple[Script, int]) -> None:
    """A server that streams sends its headers at once."""
    token = chunk(model="scripted", choices=[{"index": 0, "delta": {"content": "x"}}])
    steps: list[bytes | float] = [FIRST, token]
    for _ in range(4):
        steps += [NEXT, token]
    script[0].pieces, script[0].headers = [*steps, LAST, DONE], {"content-type": STREAM}
    # The server names a model that nobody has declared and that it does not list.
    labels = {"pool": "default/told", "gen_ai_request_model": "other", "gen_ai_response_model": "other"}
    first, each = "gen_ai_server_time_to_first_token_seconds", "gen_ai_server_time_per_output_token_seconds"
    before = await scrape(running)
    request_id, _ = await ask(running, "scripted")
    line = await running.handled(request_id)
    assert (line["model"], line["target_model"]) == ("scripted", "scripted")
    assert float(str(line["ttft_ms"])) >= FIRST * 1e3
    assert float(str(line["tpot_ms"])) >= NEXT * 1e3
    spent = float(str(line["duration_ms"]))
    assert spent == pytest.approx(float(str(line["ttft_ms"])) + 4 * float(str(line["tpot_ms"])), abs=0.01)

    def grown(samples: Samples, name: str) -> float:
        return samples.total(name, **labels) - before.total(name, **labels)

    samples = await scrape(running)
    assert (grown(samples, first + "_count"), grown(samples, each + "_count")) == (1, 1)
    assert grown(samples, first + "_sum") * 1e3 == pytest.approx(float(str(line["ttft_ms"])), abs=0.01)
    assert grown(samples, each + "_sum") * 1e3 == pytest.approx(float(str(line["tpot_ms"])), abs=0.01)


async def test_tokens_are_counted_under_all_names(running: Running) -> None:
    gen_ai = {
        "gateway": "default/edge",
        "route": "httproute/default/route/rule/1/match/0",
        "pool": "default/renaming",
        "gen_ai_request_model": "alias",
        "gen_ai_response_model": "base",
    }
    model = {"model_name": "alias", "target_model_name": "base"}

    def count(samples: Samples, kind: str) -> float:
        return samples.total("gen_ai_client_token_usage_sum", **gen_ai, gen_ai_token_type=kind)

    before = await scrape(running)
    _, body = await ask(running, "alias", max_tokens=7)
    usage = json.loads(body)["usage"]

    async def counted() -> bool:
        return count(await scrape(running), "output") == count(before, "output") + 7

    await until(counted, 5)
    after = await scrape(running)
    assert count(after, "input") - count(before, "input") == usage["prompt_tokens"]
    assert (
        count(after, "cached_input") - count(before, "cached_input") == usage["prompt_tokens_details"]["cached_tokens"]
    )
    grown: Callable[[str], float] = lambda name: after.total(name, **model) - before.total(name, **model)  # noqa: E731
    assert grown("inference_model_input_tokens_sum") == usage["prompt_tokens"]
    assert grown("inference_model_output_tokens_sum") == 7
    assert grown("inference_model_normalized_time_per_output_token_seconds_count") == 1
    assert grown("inference_model_request_total") == 1


async def test_the_answer_names_the_model_where_nobody_has_looked_for_it(running: Running) -> None:
    """No rule and no object makes a difference by the model, so that the request's body is not read."""
    labels = {"pool": "default/plain", "gen_ai_request_model": "base", "gen_ai_response_model": "base"}
    body = {"model": "base", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4}
    headers = {"host": "plain.example.com"}

    async def counted() -> float:
        return (await scrape(running)).total("gen_ai_server_request_duration_seconds_count", **labels)

    before = await counted()
    for stream in (False, True):
        request = {**body, "stream": stream}
        async with running.session.post(f"{running.url}/v1/chat/completions", json=request, headers=headers) as answer:
            await answer.read()
            assert answer.status == 200
            line = await running.handled(answer.headers["x-request-id"])
            assert (line["model"], line["target_model"]) == ("base", "base")

    async def both() -> bool:
        return await counted() == before + 2

    await until(both, 10)
