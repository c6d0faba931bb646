"""What is wrong with a manifest is said with file, line, object and field, and costs nothing that it need not cost."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

import kinds
import pytest
import pytest_asyncio
import yaml
from load import Question, ask, load
from running import Running, Start, until

pytestmark = pytest.mark.asyncio(loop_scope="module")

SOON = 1.0
STEADY = (Question("base"), Question("base", stream=True, tokens=40), Question("other", headers={"case": "edited"}))
EDITED = kinds.route("edited", kinds.rule(kinds.to_pool("chat"), headers={"case": "edited"}))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(start_shared: Start, tmp_path_factory: pytest.TempPathFactory) -> Running:
    folder = tmp_path_factory.mktemp("mistakes")
    kinds.write(folder / "gateway.yaml", kinds.gateway_class(), kinds.gateway())
    kinds.write(folder / "servers.yaml", kinds.deployment("chat", "--served-model-name base other"))
    kinds.write(folder / "pool.yaml", kinds.pool("chat", "chat"))
    kinds.write(folder / "base.yaml", kinds.route("base", kinds.rule(kinds.to_pool("chat"), model="base")))
    kinds.write(folder / "edited.yaml", EDITED)
    return await start_shared(folder)


@pytest_asyncio.fixture(loop_scope="module", autouse=True)
async def folder(running: Running) -> AsyncIterator[Path]:
    """The folder, mended after each test; whatever is in it, the other rules and the last good version serve on."""
    async with load(running, *STEADY) as clients:
        await clients.more(5)
        yield running.folder
        await clients.more(5)
        for file in running.folder.glob("extra*"):
            file.unlink()
        kinds.write(running.folder / "edited.yaml", EDITED)
        await until(partial(says, running, lambda report: not report["problems"] and not report["notices"]), 10)
    assert not clients.bad, clients.bad[:3]


async def says(running: Running, condition: Callable[[Any], bool]) -> bool:
    """Whether /status meets a condition."""
    return condition(await running.report())


def has(kind: str, *words: str) -> Callable[[Any], bool]:
    """Whether there is just one problem (or notice), and it has all these words."""

    def check(report: Any) -> bool:
        return len(report[kind]) == 1 and all(word in report[kind][0] for word in words)

    return check


async def has_status(running: Running, case: str, status: int) -> bool:
    return (await ask(running.session, running.url, Question("other", headers={"case": case}))).status == status


async def test_a_file_that_cannot_be_parsed_changes_nothing(running: Running, folder: Path) -> None:
    kinds.replace(folder / "edited.yaml", "kind: HTTPRoute\nspec: {rules: [\n")
    await until(partial(says, running, has("problems", f"{folder / 'edited.yaml'}:3: ")), SOON)


async def test_a_document_that_cannot_be_decoded_changes_nothing(running: Running, folder: Path) -> None:
    wrong = kinds.route("edited", kinds.rule({**kinds.to_pool("chat"), "port": "many"}))
    text = yaml.safe_dump_all([kinds.service("unrelated"), wrong])
    kinds.replace(folder / "edited.yaml", text)
    line = text[: text.index("---")].count("\n") + 2
    words = (f"{folder / 'edited.yaml'}:", "HTTPRoute default/edited: spec.rules[0].backendRefs[0].port", "got str")
    await until(partial(says, running, has("problems", *words)), SOON)
    found = int((await running.report())["problems"][0].removeprefix(words[0]).partition(":")[0])
    assert line <= found <= text.count("\n")


async def test_a_file_caught_half_written_is_read_again(running: Running, folder: Path) -> None:
    rule = kinds.rule(kinds.to_pool("chat"), headers={"case": "half"})
    whole = yaml.safe_dump_all([EDITED, kinds.route("half", rule)])
    generation = (await running.report())["generation"]
    clock = asyncio.get_running_loop().time
    for _ in range(5):
        # What a pause has left is mended once the file is whole.
        await until(partial(says, running, lambda report: not report["problems"]), SOON)
        slowest = 0.0
        with (folder / "edited.yaml").open("w") as file:
            for start in range(0, len(whole), 100):
                began = clock()
                file.write(whole[start : start + 100])
                file.flush()
                await asyncio.sleep(0.02)
                problems = (await running.report())["problems"]
                slowest = max(slowest, clock() - began)
                # A pause in an earlier step can show in this one.
                assert not problems or slowest > 0.15
        if slowest < 0.15:
            break
    await until(partial(has_status, running, "half", 200), SOON)
    assert (await running.report())["generation"] > generation


async def test_a_missing_backend_fails_only_its_share(running: Running, folder: Path) -> None:
    backends = [kinds.to_pool("chat", weight=1), kinds.to_service("missing", weight=1)]
    route = kinds.route("extra", kinds.rule(*backends, headers={"case": "share"}))
    kinds.write(folder / "extra.yaml", route)
    await until(partial(has_status, running, "share", 500), SOON)
    question = Question("other", headers={"case": "share"})
    answers = [await ask(running.session, running.url, question) for _ in range(80)]
    shares = Counter(answer.status for answer in answers)
    assert shares.keys() == {200, 500}
    assert 20 <= shares[500] <= 60, shares
    assert {answer.code() for answer in answers if answer.status == 500} == {"internal_error"}
    report = await running.report()
    assert has("problems", "HTTPRoute default/extra", "spec.rules[0].backendRefs[1]", "Service default/missing")(report)
    (resolved,) = [each for each in conditions(report, "HTTPRoute", "extra") if each["type"] == "ResolvedRefs"]
    assert (resolved["status"], resolved["reason"]) == ("False", "BackendNotFound")


def conditions(report: Any, kind: str, name: str) -> list[Any]:
    (status,) = [each["status"] for each in report["statuses"] if (each["kind"], each["name"]) == (kind, name)]
    return [each for parent in status["parents"] for each in parent["conditions"]]


async def test_a_filter_that_is_not_built_is_never_ignored(running: Running, folder: Path) -> None:
    rewrite = {"type": "ExternalAuth", "externalAuth": {"protocol": "HTTP"}}
    plain = kinds.rule(kinds.to_pool("chat"), headers={"case": "plain"})
    filtered = kinds.rule(kinds.to_pool("chat"), headers={"case": "filtered"}, filters=[rewrite])
    kinds.write(folder / "extra.yaml", kinds.route("extra", plain, filtered))
    await until(partial(has_status, running, "filtered", 500), SOON)
    assert await has_status(running, "plain", 200)
    report = await running.report()
    assert has("problems", "HTTPRoute default/extra", "spec.rules[1].filters[0]")(report), report["problems"]
    partly = [each for each in conditions(report, "HTTPRoute", "extra") if each["type"] == "PartiallyInvalid"]
    messages = [each["message"] for each in partly if each["status"] == "True"]
    assert any("spec.rules[1].filters[0]" in message for message in messages), messages


async def test_only_deleting_an_object_removes_it(running: Running, folder: Path) -> None:
    route = kinds.route("extra", kinds.rule(kinds.to_pool("chat"), headers={"case": "extra"}))
    kinds.write(folder / "extra.yaml", route)
    await until(partial(has_status, running, "extra", 200), SOON)
    kinds.write(folder / "extra.yaml", {**route, "spec": "nonsense"})
    await until(partial(says, running, has("problems", "HTTPRoute default/extra: spec")), SOON)
    assert await has_status(running, "extra", 200)
    kinds.write(folder / "extra.yaml")
    await until(partial(has_status, running, "extra", 404), SOON)


async def test_the_same_object_twice_names_both_places_and_the_first_stays(running: Running, folder: Path) -> None:
    kinds.write(folder / "extra.yaml", kinds.route("edited", kinds.rule(headers={"case": "edited"})))
    places = (f"{folder / 'extra.yaml'}:1: ", f"{folder / 'edited.yaml'}:1 ", "HTTPRoute default/edited")
    await until(partial(says, running, has("problems", *places)), SOON)


async def test_what_is_unknown_is_named_once(running: Running, folder: Path) -> None:
    stranger = {"apiVersion": "example.com/v1", "kind": "Stranger", "metadata": {"name": "a"}, "spec": {}}
    route = kinds.route("extra", kinds.rule(kinds.to_pool("chat"), headers={"case": "extra"}))
    odd = {**route, "spec": {**route["spec"], "colour": "red"}}
    kinds.write(folder / "extra.yaml", stranger, {**stranger, "metadata": {"name": "b"}}, odd)
    await until(partial(says, running, lambda report: len(report["notices"]) == 2), SOON)
    kind, field = sorted((await running.report())["notices"], key=lambda line: "spec" in line)
    assert kind.startswith(f"{folder / 'extra.yaml'}:1: ")
    assert "Stranger" in kind
    assert "HTTPRoute default/extra" in field
    assert "spec.colour" in field
    assert not (await running.report())["problems"]
