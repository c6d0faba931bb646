from __future__ import annotations

import orjson
import pytest
from picker_worlds import Pod, pods

from picker.probe import Prober, ProbeTimes
from picker.table import Endpoint

TIMES = ProbeTimes(answer=0.2, idle_completion=0.1, completion=0.1, retry=0.01, pause=0.01)
COMPLETIONS, CHAT = "/v1/completions", "/v1/chat/completions"


async def probe(pod: Pod, path: str = "", **figures: float) -> str:
    endpoint = Endpoint(pod.address, pod.name, reported=True)
    for figure, value in figures.items():
        setattr(endpoint, figure, value)
    prober = Prober(lambda _endpoint, _reason: None, TIMES)
    return await prober.probe(endpoint, path)


async def test_a_pod_that_serves_passes_with_one_token() -> None:
    async with pods(Pod("a")) as (a,):
        assert await probe(a) == ""
        assert a.asked == ["/health", "/metrics", "/v1/models", COMPLETIONS]
        assert orjson.loads(a.bodies[0]) == {"model": "m", "max_tokens": 1, "prompt": "1"}


async def test_the_api_that_failed_is_the_one_tried() -> None:
    async with pods(Pod("a")) as (a,):
        assert await probe(a, CHAT) == ""
        assert a.asked[-1] == CHAT


@pytest.mark.parametrize(
    ("statuses", "failure"),
    [
        ({"/health": 503}, "/health answers 503"),
        ({"/health": 500}, "/health answers 500"),
        ({"/metrics": 503}, "/metrics answers 503"),
        ({"/v1/models": 503}, "/v1/models answers 503"),
        ({COMPLETIONS: 503}, "/v1/completions answers 503"),
        ({COMPLETIONS: 502}, "/v1/completions answers 502"),
        ({"*": None}, "no answer to /health within 0.2 s"),
        ({COMPLETIONS: None}, "no completion within 0.1 s"),
        # Somebody is serving there, whatever it thinks of our questions.
        ({"/health": 404, "/metrics": 404}, ""),
        ({"/v1/models": 404}, ""),
        ({COMPLETIONS: 400, CHAT: 400}, ""),
        ({COMPLETIONS: 500}, ""),
        ({COMPLETIONS: 404}, ""),
    ],
)
async def test_what_makes_a_probe_fail(statuses: dict[str, int | None], failure: str) -> None:
    async with pods(Pod("a", statuses=statuses)) as (a,):
        assert await probe(a) == failure


async def test_a_busy_pod_may_let_the_probe_wait() -> None:
    async with pods(Pod("a", statuses={COMPLETIONS: None})) as (a,):
        assert await probe(a, running=3.0) == ""


async def test_nobody_there_fails() -> None:
    async with pods(Pod("a")) as (a,):
        pass
    assert (await probe(a)).startswith("/health: ")
