"""Loads an adapter, gives it a share and then all requests, and unloads the one before, while clients ask."""

import asyncio
import re
from collections.abc import Callable
from functools import partial

from pointsman.example import Answer, Example, Findings, chat, show

_MODEL, _OLD, _NEW = "legal-summary", "legal-summary-v1", "legal-summary-v2"
_ALL = {_OLD, _NEW}
_CLIENTS = 4
# Answers to count after each edit.  A share of 10 % is between 2 and 20 % of them, but for once in some 30,000 times.
_COUNTED = 200
# Seconds within which a syncer has seen an edit, on a busy machine.
_SYNCED = 30.0


async def main(example: Example, findings: Findings) -> None:
    """Go from the first version to the second."""
    await _await_adapters(example, {_OLD})
    findings.add("the syncers loaded what the ConfigMap names", await _shown(example), ok=True)
    async with example.asking(chat(_MODEL, "Sum it up.", tokens=1), clients=_CLIENTS) as answers:
        await _count(example, findings, "the first version alone", answers, (0.0, 0.0))
        await _find_picker(example, findings, answers[-1])
        await example.edit("adapters.yaml", _sources(_OLD, _NEW))
        await _await_adapters(example, {_OLD, _NEW})
        findings.add("a second one is loaded by an edit", await _shown(example), ok=True)
        await example.edit("model.yaml", _weights({_OLD: 90, _NEW: 10}))
        await _count(example, findings, "weights 90 and 10", answers, (0.02, 0.2))
        # A target model's weight is at least 1: what shall get nothing is taken out.
        await example.edit("model.yaml", _weights({_NEW: 100}))
        await _count(example, findings, "the second version alone", answers, (1.0, 1.0))
        await example.edit("adapters.yaml", lambda text: _sources(_NEW)(text) + _unwanted(_OLD))
        await _await_adapters(example, {_NEW})
        findings.add("the first one is unloaded by an edit", await _shown(example), ok=True)
        await _count(example, findings, "the second version serves on", answers, (1.0, 1.0))
    bad = sum(not answer.good for answer in answers)
    findings.add("no request failed", f"{bad} of {len(answers)}", ok=not bad)


async def _find_picker(example: Example, findings: Findings, answer: Answer) -> None:
    """See that the pool's own picker writes the line about a request, and that the gateway's own is not asked."""
    line = await example.handled(answer)
    seen = f"{line['pod_picked']}, to serve {line['target_model']}"
    asked = await example.picker_metric("decisions_total", pool="default/mistral")
    ok = line["pod_served"] == f"default/{answer.pod}" and line["target_model"] == answer.model and not asked
    findings.add("the pool's own picker chooses the pod and draws the adapter", seen, ok=ok)


def _sources(*names: str) -> Callable[[str], str]:
    """Return what makes these the ConfigMap's adapters."""
    items = "".join(f"          - id: {name}\n            source: /adapters/{name}\n" for name in names)
    return lambda text: re.sub(r"(ensureExist:\n +models:\n).*", rf"\g<1>{items}", text, flags=re.DOTALL)


def _unwanted(name: str) -> str:
    return f"      ensureNotExist:\n        models:\n          - id: {name}\n"


def _weights(targets: dict[str, int]) -> Callable[[str], str]:
    """Return what makes these the InferenceModel's targets."""
    items = "".join(f"    - name: {name}\n      weight: {weight}\n" for name, weight in targets.items())
    return lambda text: re.sub(r"(targetModels:\n).*", rf"\g<1>{items}", text, flags=re.DOTALL)


async def _adapters(example: Example) -> dict[str, set[str]]:
    """Ask the servers themselves, passing the gateway by, which adapters answer."""
    found: dict[str, set[str]] = {}
    for pod, address in (await example.pods("mistral")).items():
        asked = {name: await example.ask(chat(name, "Hello?", tokens=1), at=address) for name in sorted(_ALL)}
        found[pod] = {name for name, answer in asked.items() if answer.good}
    return found


async def _await_adapters(example: Example, wanted: set[str]) -> None:
    async def synced() -> bool:
        found = await _adapters(example)
        return bool(found) and all(names == wanted for names in found.values())

    await example.until(synced, _SYNCED)


async def _shown(example: Example) -> str:
    found = await _adapters(example)
    return "\n".join(f"{pod}: {' '.join(sorted(names))}" for pod, names in found.items())


async def _count(
    example: Example, findings: Findings, claim: str, answers: list[Answer], expected: tuple[float, float]
) -> None:
    """Work out the share of the second version in what is asked from now on."""
    now = asyncio.get_running_loop().time()
    await example.until(partial(_enough, answers, now), seconds=30)
    found = _since(answers, now)[:_COUNTED]
    share = sum(answer.model == _NEW for answer in found) / len(found)
    low, high = expected
    findings.add(claim, f"{share:.0%} of {len(found)} requests got the second version", ok=low <= share <= high)


async def _enough(answers: list[Answer], now: float) -> bool:
    return len(_since(answers, now)) >= _COUNTED


def _since(answers: list[Answer], now: float) -> list[Answer]:
    return [answer for answer in answers if answer.good and answer.began >= now]


show(__file__, main)
