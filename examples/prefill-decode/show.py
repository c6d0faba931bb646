"""Asks pools whose pods prefill and decode apart, in both forms of the policy."""

from collections.abc import Iterable, Mapping

from pointsman.example import Answer, Example, Findings, chat, show
from pointsman.failure import Failure

_TEXT = (
    "{0} is the station whose clerk you are. Tell travellers in {0} which train takes them where they want to go, from "
    "which platform, and where to change. Name the fare only when asked. Do not invent trains: what is not in the "
    "timetable of {0} does not run. Answer in one sentence, politely, and in the language of the question. My first "
    "question is how I get to the sea."
)
_STATIONS = ("Aarau", "Bergen", "Coimbra", "Delft", "Evora", "Fulda", "Girona", "Haarlem")
_REPLY, _NEXT = "Take the express on platform 2.", "And how do I come back in the evening?"
_TOKENS = 4
_SERVER_ERROR = 500


async def main(example: Example, findings: Findings) -> None:
    """Show who prefills and who decodes, that rounds stay together, and what becomes of a failing prefill pod."""
    # Often enough that no pod is left out by chance.
    served = [await _ask(example, "balanced", _TEXT.format(each)) for each in _STATIONS * 3]
    await _roles(example, findings, "balanced", served)
    pods = {pod for pair in served for pod in pair}
    findings.add("balanced: all pods have work", ", ".join(sorted(pods)), ok=len(pods) == 4)  # noqa: PLR2004 - two each

    first = [await _ask(example, "cached", _TEXT.format(each)) for each in _STATIONS]
    second = [await _ask(example, "cached", _TEXT.format(each), _REPLY, _NEXT) for each in _STATIONS]
    await _roles(example, findings, "cached", first + second)
    stayed = sum(before == after for before, after in zip(first, second, strict=True))
    findings.add("cached: rounds keep both of their pods", f"{stayed} of {len(first)}", ok=stayed == len(first))

    await _lose_prefill(example, findings)


async def _ask(example: Example, pool: str, *texts: str) -> tuple[str, str]:
    """Name the pod that prefilled and the one that decoded."""
    answer = await example.ask(chat("qwen3", *texts, tokens=_TOKENS), host=f"{pool}.example.com")
    if not answer.good:
        raise Failure(f"{pool}: {answer.status} {answer.body.decode()}")
    return await _pods(example, answer)


async def _pods(example: Example, answer: Answer) -> tuple[str, str]:
    line = await example.handled(answer)
    prefill, decode = (str(line[field]).partition("/")[2] for field in ("pod_prefill", "pod_served"))
    if decode != answer.pod:
        raise Failure(f"the line names {decode}, the answer came from {answer.pod}")
    return prefill, decode


async def _roles(example: Example, findings: Findings, pool: str, served: Iterable[tuple[str, str]]) -> None:
    pairs = list(served)
    apart = all("-prefill-" in prefill and "-decode-" in decode for prefill, decode in pairs)
    findings.add(f"{pool}: each request has a pod of either role", f"{len(pairs)} requests", ok=apart)
    addresses = await example.pods(pool)
    wrote = await _sum(example, addresses, "decode", "sglang:generation_tokens_total")
    findings.add(f"{pool}: the decode pods wrote the answers", f"{wrote:.0f} tokens", ok=wrote >= _TOKENS * len(pairs))
    passed = await _sum(example, addresses, "prefill", "sglang:generation_tokens_total")
    seen = f"{passed:.0f} tokens, one for each request"
    findings.add(f"{pool}: the prefill pods wrote a token each and no more", seen, ok=passed == len(pairs))


async def _sum(example: Example, addresses: Mapping[str, str], role: str, metric: str) -> float:
    return sum([await example.metric(at, metric) for pod, at in addresses.items() if f"-{role}-" in pod])


async def _lose_prefill(example: Example, findings: Findings) -> None:
    """Let a prefill pod refuse everything: what was sent there is a clean error, and what follows goes elsewhere."""
    lost = "balanced-prefill-0"
    await example.fail((await example.pods("balanced"))[lost], "refuse")

    async def avoided() -> bool:
        answer = await example.ask(chat("qwen3", "Anybody there?"), host="balanced.example.com")
        if not answer.good and answer.status < _SERVER_ERROR:
            raise Failure(f"{answer.status} {answer.body.decode()}")
        return answer.good and (await _pods(example, answer))[0] != lost

    await example.until(avoided)
    served = [await _ask(example, "balanced", _TEXT.format(each)) for each in _STATIONS]
    away = all(prefill != lost for prefill, _ in served)
    findings.add("a prefill pod that refuses is avoided", f"{len(served)} requests went elsewhere", ok=away)


show(__file__, main)
