"""The manifests of the scenario that the example is modelled on, cut unchanged out of the text that tells it."""

import os
import re
import textwrap
from pathlib import Path

import pytest
from load import Question, ask
from running import Start

SEEDS = os.environ.get("POINTSMAN_SEEDS", "")
_START = re.compile(r"^\s*apiVersion: ")

pytestmark = pytest.mark.skipif(not SEEDS, reason="POINTSMAN_SEEDS does not name the folder of the scenarios' texts")


def blocks(text: str) -> list[str]:
    """The YAML blocks of a text: from a line with `apiVersion` on, as long as lines are indented as that one is."""
    found: list[str] = []
    block: list[str] = []
    depth = 0
    for line in [*text.splitlines(), "end"]:
        indent = len(line) - len(line.lstrip())
        if block and line.strip() and indent < depth:
            found.append(textwrap.dedent("\n".join(block)) + "\n")
            block = []
        if not block and _START.match(line):
            depth = indent
        if block or _START.match(line):
            block.append(line)
    return found


async def test_both_models_are_routed_right(start: Start, tmp_path: Path) -> None:
    (text,) = Path(SEEDS).glob("000_*.txt")
    found = blocks(text.read_text())
    assert len(found) == 4
    for index, block in enumerate(found):
        (tmp_path / f"{index}.yaml").write_text(block)
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
