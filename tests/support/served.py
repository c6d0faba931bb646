"""Who served what: clients' answers beside the picker's lines about the same requests."""

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from load import Answer
from running import Running

from pointsman.logs import HANDLED


@dataclass(frozen=True, slots=True)
class Served:
    """One request: the pod that the picker named first, and the one that Envoy reached last.

    Both are "" where the gateway refused the request.
    """

    answer: Answer
    pool: str = ""
    picked: str = ""
    served: str = ""
    attempts: int = 0


async def served(running: Running, answers: Iterable[Answer]) -> list[Served]:
    """Find the picker's line for each answer.

    Fails where there is none though a pod answered, or where an answer names another pod than its line.
    """
    known = list(answers)
    async with asyncio.timeout(10):
        while True:
            lines = {str(line.fields.get("request_id")): line.fields for line in running.lines if line.event == HANDLED}
            if all(answer.request_id in lines for answer in known if answer.pod):
                return [_served(answer, lines.get(answer.request_id)) for answer in known]
            await asyncio.sleep(0.02)


def _served(answer: Answer, line: Mapping[str, object] | None) -> Served:
    if line is None:
        return Served(answer)
    pool, picked, last = (str(line[name]).partition("/")[2] for name in ("pool", "pod_picked", "pod_served"))
    assert answer.pod in {"", last}, line
    return Served(answer, pool, picked, last, int(str(line["attempts"])))


def table(requests: Iterable[Served]) -> dict[str, Counter[int]]:
    """Count the statuses by the pod that served; status 0 is an answer that broke off."""
    rows: dict[str, Counter[int]] = {}
    for each in requests:
        rows.setdefault(each.served, Counter())[each.answer.status] += 1
    return dict(sorted(rows.items()))
