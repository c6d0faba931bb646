"""Counts what production and the candidates were asked."""

from collections.abc import Mapping
from functools import partial

from pointsman.example import Answer, Example, Findings, chat, show

_REQUESTS = 8
# A candidate runs two requests at once; the rest wait.
_BUSY_WITH = 6
_NOT_FOUND = 404
_QUESTION = chat("llama", "Introduce yourself.")


async def main(example: Example, findings: Findings) -> None:
    """Show mirroring to a Service and to a pool, and that nobody depends on the copies."""
    production, candidates = example.simulated(app="production"), example.simulated(app="candidate")
    for target, host in (("a Service", "llama.example.com"), ("a pool", "picked.example.com")):
        before = await _count(example, candidates), await _count(example, production)
        answers = await _ask(example, host)
        ok = all(answer.good and answer.pod in production for answer in answers)
        findings.add(f"{host}: production answers", f"{len(answers)} answers", ok=ok)
        # Copies may arrive after the answers.
        await example.until(partial(_counted, example, candidates, before[0] + _REQUESTS))
        mirrored = await _count(example, candidates) - before[0]
        served = await _count(example, production) - before[1]
        seen = f"{mirrored:.0f} of {served:.0f} requests"
        findings.add(f"{host}: copies arrive at {target}", seen, ok=mirrored == served == _REQUESTS)

    await _load_one(example, findings, candidates)
    status = (await example.ask(_QUESTION, host="other.example.com")).status
    findings.add("other hostnames are not served", f"status {status}", ok=status == _NOT_FOUND)

    for address in candidates.values():
        await example.fail(address, "reset")
    for host in ("llama.example.com", "picked.example.com"):
        good = sum(answer.good for answer in await _ask(example, host))
        seen = f"{good} of {_REQUESTS} answers are good"
        findings.add(f"{host}: candidates reset every connection", seen, ok=good == _REQUESTS)


async def _load_one(example: Example, findings: Findings, candidates: Mapping[str, str]) -> None:
    """Have requests wait at one candidate: where the picker chooses, no copy goes there."""
    (loaded, address), (_, free) = candidates.items()
    async with example.asking(chat("llama", "Hello", tokens=2000), clients=_BUSY_WITH, at=address):
        await example.until(partial(_queued, example, address))
        before = await _count(example, {"": free})
        await _ask(example, "picked.example.com")
        await example.until(partial(_counted, example, {"": free}, before + _REQUESTS))
        got = await _count(example, {"": free}) - before
    seen = f"{got:.0f} of {_REQUESTS} copies went to the other"
    findings.add(f"picked.example.com: {loaded} has a queue", seen, ok=got == _REQUESTS)


async def _queued(example: Example, address: str) -> bool:
    return await example.picker_metric("endpoint_waiting_requests", endpoint=address) > 0


async def _ask(example: Example, host: str) -> list[Answer]:
    return [await example.ask(_QUESTION, host=host) for _ in range(_REQUESTS)]


async def _count(example: Example, pods: Mapping[str, str]) -> float:
    """How many requests the pods have finished."""
    return sum([await example.metric(address, "vllm:request_success_total") for address in pods.values()])


async def _counted(example: Example, pods: Mapping[str, str], least: float) -> bool:
    return await _count(example, pods) >= least


show(__file__, main)
