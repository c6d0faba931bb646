"""Loads one pod directly, past the gateway, and sees how many of the gateway's requests it still gets."""

from collections import Counter
from collections.abc import Mapping
from contextlib import AsyncExitStack
from functools import partial

from pointsman.example import Answer, Example, Findings, chat, show

# A pod runs four requests at once; the rest wait.
_BUSY_WITH = 10
_REQUESTS = 8
# About 3,500 tokens: most of the 4,096 tokens that the cache holds.
_LONG = "the points are set and the signal shows clear " * 310


async def main(example: Example, findings: Findings) -> None:
    """Show both measures on both runtimes, then that leaders alone are asked."""
    for pool in ("vllm", "sglang"):
        await _queue(example, findings, pool)
        await _cache(example, findings, pool)
    for pool in ("vllm-multi-node", "sglang-multi-node"):
        nodes, leaders = example.simulated(app=pool), await example.pods(pool)
        chosen = example.simulated(app=pool, role="leader").keys()
        seen = f"{', '.join(leaders)} of {', '.join(nodes)}"
        ok = leaders.keys() == chosen and len(leaders) < len(nodes)
        findings.add(f"{pool}: only leaders are in the pool", seen, ok=ok)
        await _queue(example, findings, pool)


async def _queue(example: Example, findings: Findings, pool: str) -> None:
    loaded, address, others = await _choose(example, pool)
    async with example.asking(chat("qwen3", "Hello", tokens=2000), clients=_BUSY_WITH, at=address):
        await example.until(partial(_reports, example, "waiting_requests", address, 5))
        answers = await _ask(example, pool)
    _find(findings, f"{pool}: {loaded} has a long queue", answers, loaded, others)
    await example.until(partial(_idle, example, address))


async def _cache(example: Example, findings: Findings, pool: str) -> None:
    """All pods run one request, so that nothing but the cache tells them apart."""
    loaded, address, others = await _choose(example, pool)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(example.asking(chat("qwen3", _LONG, tokens=400), clients=1, at=address))
        for other in others.values():
            await stack.enter_async_context(example.asking(chat("qwen3", "Hello", tokens=2000), clients=1, at=other))
            await example.until(partial(_reports, example, "running_requests", other, 1))
        await example.until(partial(_reports, example, "kv_cache_usage_ratio", address, 0.6))
        answers = await _ask(example, pool)
    _find(findings, f"{pool}: {loaded}'s cache is nearly full", answers, loaded, others)
    await example.until(partial(_idle, example, address))


async def _choose(example: Example, pool: str) -> tuple[str, str, Mapping[str, str]]:
    (loaded, address), *others = (await example.pods(pool)).items()
    return loaded, address, dict(others)


async def _ask(example: Example, pool: str) -> list[Answer]:
    question = chat("qwen3", "Hello", tokens=1)
    return [await example.ask(question, host=f"{pool}.example.com") for _ in range(_REQUESTS)]


async def _reports(example: Example, name: str, address: str, least: float) -> bool:
    """Whether the picker has read such a figure from the pod."""
    return await example.picker_metric(f"endpoint_{name}", endpoint=address) >= least


async def _idle(example: Example, address: str) -> bool:
    names = ("waiting_requests", "running_requests")
    return not any([await example.picker_metric(f"endpoint_{name}", endpoint=address) for name in names])


def _find(findings: Findings, claim: str, answers: list[Answer], loaded: str, others: Mapping[str, str]) -> None:
    shares = Counter(answer.pod for answer in answers)
    seen = f"it got {shares[loaded]} of {len(answers)} requests, the others {[shares[other] for other in others]}"
    # Between the others a draw decides: each may get few.
    half_a_share = len(answers) / (1 + len(others)) / 2
    ok = all(answer.good for answer in answers) and shares[loaded] < half_a_share
    findings.add(claim, seen, ok=ok)


show(__file__, main)
