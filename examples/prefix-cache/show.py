"""Holds conversations of two rounds, with the annotation and without it."""

from collections.abc import Mapping

from pointsman.example import Answer, Example, Findings, chat, show
from pointsman.failure import Failure

_STATIONS = ("Aarau", "Bergen", "Coimbra", "Delft", "Evora", "Fulda", "Girona", "Haarlem")
# A few hundred bytes, as an assistant's instructions are; each station's are its own from the first word on.
_INSTRUCTIONS = (
    "{0} is the station whose clerk you are. Tell travellers in {0} which train takes them where they want to go, from "
    "which platform, and where to change. Name the fare only when asked. Do not invent trains: what is not in the "
    "timetable of {0} does not run. Answer in one sentence, politely, and in the language of the question. My first "
    "question is how I get to the sea."
)
_REPLY, _NEXT = "From {0} take the express on platform 2.", "And how do I come back in the evening?"
_ANNOTATION = "  annotations:\n    inference.networking.x-k8s.io/routing-strategy: PREFIX_CACHE\n"


async def main(example: Example, findings: Findings) -> None:
    """Show that rounds stay together, and that the annotation is what keeps them."""
    rounds = await _converse(example, "")
    for station, (first, second) in rounds.items():
        findings.add(f"conversation about {station}", f"{first}, then {second}", ok=first == second)
    pods = {first for first, _ in rounds.values()}
    findings.add("the conversations spread over the pods", f"{len(pods)} of 3 pods", ok=len(pods) > 1)
    hits = [await example.metric(at, "vllm:prefix_cache_hits_total") for at in (await example.pods("qwen3")).values()]
    findings.add("the pods found prompts in their caches", f"{sum(hits):.0f} tokens", ok=sum(hits) > 0)

    await example.edit("pool.yaml", lambda text: text.replace(_ANNOTATION, ""))
    # Other conversations, so that nobody has them cached.
    rounds = await _converse(example, "New ")
    stayed = sum(first == second for first, second in rounds.values())
    seen = f"{stayed} of {len(rounds)} conversations stayed"
    findings.add("without the annotation not all stay", seen, ok=stayed < len(rounds))


async def _converse(example: Example, prefix: str) -> Mapping[str, tuple[str, str]]:
    """Hold all first rounds, then all second ones; tell for each which pods served them."""
    stations = [prefix + station for station in _STATIONS]
    first = {each: await _pod(example, await example.ask(_first(each))) for each in stations}
    return {each: (first[each], await _pod(example, await example.ask(_second(each)))) for each in stations}


def _first(station: str) -> Mapping[str, object]:
    return chat("qwen3", _INSTRUCTIONS.format(station))


def _second(station: str) -> Mapping[str, object]:
    return chat("qwen3", _INSTRUCTIONS.format(station), _REPLY.format(station), _NEXT)


async def _pod(example: Example, answer: Answer) -> str:
    """Read from the picker's line which pod served; it must be the one that answered."""
    served = str((await example.handled(answer))["pod_served"]).partition("/")[2]
    if not answer.good or served != answer.pod:
        raise Failure(f"the line names {served}, the answer {answer.status} came from {answer.pod or 'nobody'}")
    return served


show(__file__, main)
