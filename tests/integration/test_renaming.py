"""InferenceModels on the way: the name that clients use becomes one of targetModels, drawn by weight."""

import asyncio
import json
from collections import Counter

import pytest
from shop import LONGEST_NAME, Shop, chat

pytestmark = pytest.mark.asyncio(loop_scope="session")

# Everything but the model must reach the server byte for byte.
AROUND = (
    '{"model":"%s","messages":[{"role":"user","content":"renamed \\u00e9é 🚂"}]}',
    ' {\n\t"metadata" : {"model": "renamed", "x": [1.50, 1e5, -0, 12345678901234567890123]},\r\n "model" : "%s" } \n',
    '{"a":1,"tools":[{"model":"renamed"}],"model":"%s","b":null}',
)
HOSTS = [("models.example", True), ("path.example", False)]


@pytest.mark.parametrize("pattern", AROUND)
@pytest.mark.parametrize(("host", "known"), HOSTS, ids=["by model", "by path"])
async def test_only_the_model_of_the_body_changes(shop: Shop, host: str, pattern: str, *, known: bool) -> None:
    for model, target in (("renamed", LONGEST_NAME), ("shortened", "s")):
        seen = (await shop.send(pattern % model, host=host)).testimony
        expected = (pattern % target).encode()
        assert seen.body == expected.decode("latin-1")
        assert seen.header("content-length") == [str(len(expected))]
        assert seen.header("x-gateway-model-name") == ([model] if known else [])


async def test_what_the_picker_cannot_read_passes_as_it_is(shop: Shop) -> None:
    for body in ("no JSON", '{"model":5}', "", "[]", '{"model":"undeclared"}', '{"model":"renamed"', "\ufeff{}"):
        assert (await shop.send(body, host="path.example")).testimony.saw(body.encode())
    assert (await shop.send(host="path.example", method="GET", path="/v1/x")).testimony.method == "GET"


async def test_targets_are_drawn_by_weight(shop: Shop) -> None:
    body = chat("travel", max_tokens=1)
    room = asyncio.Semaphore(16)

    async def ask() -> str:
        async with room:
            answer = await shop.send(body)
        assert answer.pod == "alpha"
        model: str = json.loads(answer.body)["model"]
        return model

    drawn = Counter(await asyncio.gather(*(ask() for _ in range(600))))
    assert drawn.keys() == {"alpha-v1", "alpha-v2"}
    # 60 are expected; six standard deviations (7.3) on either side.
    assert 16 <= drawn["alpha-v2"] <= 104


async def test_the_answer_names_the_model_as_the_server_does(shop: Shop) -> None:
    answer = await shop.chat("quick")
    assert json.loads(answer.body)["model"] == "slow"
    stream = await shop.chat("quick", stream=True)
    assert b'"model":"slow"' in stream.body
    assert b"quick" not in stream.body
