"""Edits weights while clients ask, and counts who answers."""

import asyncio
import re
from collections.abc import Callable
from functools import partial

from pointsman.example import Answer, Example, Findings, chat, show

_OLD, _NEW = "travel-guide-v1", "travel-guide-v2"
_CLIENTS = 4
# Answers to count after each edit.  A share of 10 % is between 2 and 20 % of them, but for once in some 30,000 times.
_COUNTED = 200
_TENTH, _HALF, _ALL = (0.02, 0.2), (0.35, 0.65), (1.0, 1.0)


async def main(example: Example, findings: Findings) -> None:
    """Release a base model, then an adapter."""
    new = example.simulated(release="new").keys()
    await _release(example, findings, "assistant", "route.yaml", lambda answer: answer.pod in new, _weights(0, 100))
    # A target model's weight is at least 1: what shall get nothing is taken out.
    await _release(
        example, findings, "travel-guide", "adapters.yaml", lambda answer: answer.model == _NEW, _without(_OLD)
    )


async def _release(
    example: Example,
    findings: Findings,
    model: str,
    file: str,
    is_new: Callable[[Answer], bool],
    finish: Callable[[str], str],
) -> None:
    """Go from 90/10 over 50/50 to the new one alone, under load."""
    async with example.asking(chat(model, "Where to?", tokens=1), clients=_CLIENTS) as answers:
        await _count(example, findings, f"{model}: weights 90 and 10", answers, is_new, _TENTH)
        await example.edit(file, _weights(50, 50))
        await _count(example, findings, f"{model}: weights 50 and 50", answers, is_new, _HALF)
        await example.edit(file, finish)
        await _count(example, findings, f"{model}: the new one alone", answers, is_new, _ALL)
    bad = sum(not answer.good for answer in answers)
    findings.add(f"{model}: no request failed", f"{bad} of {len(answers)}", ok=not bad)


def _weights(*weights: int) -> Callable[[str], str]:
    """Return what writes these weights into a manifest, in the order in which it has some."""

    def change(text: str) -> str:
        values = iter(weights)
        return re.sub(r"weight: \d+", lambda _: f"weight: {next(values)}", text)

    return change


def _without(target: str) -> Callable[[str], str]:
    """Return what takes a target model out of a manifest."""
    return lambda text: re.sub(rf" *- name: {target}\n *weight: \d+\n", "", text)


async def _count(
    example: Example,
    findings: Findings,
    claim: str,
    answers: list[Answer],
    is_new: Callable[[Answer], bool],
    expected: tuple[float, float],
) -> None:
    """Work out the share of the new model in what is asked from now on."""
    now = asyncio.get_running_loop().time()
    await example.until(partial(_enough, answers, now), seconds=30)
    found = _since(answers, now)[:_COUNTED]
    share = sum(is_new(answer) for answer in found) / len(found)
    low, high = expected
    findings.add(claim, f"{share:.0%} of {len(found)} requests got the new one", ok=low <= share <= high)


async def _enough(answers: list[Answer], now: float) -> bool:
    return len(_since(answers, now)) >= _COUNTED


def _since(answers: list[Answer], now: float) -> list[Answer]:
    return [answer for answer in answers if answer.good and answer.began >= now]


show(__file__, main)
