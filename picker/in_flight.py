"""The requests that were picked for and have not been reported finished.

A record lives from the pick until Envoy's access log names it.  Should that never happen (Envoy gone, or it gave up
on our answer before it came) the *count* is healed by what the pods report, and the record is dropped after a day and
an hour, beyond the longest request (`MAX_AGE`).  Nothing here awaits or reads a clock.
"""

from __future__ import annotations

from collections.abc import Iterator

from picker.exchange import Picked, Prefill
from picker.table import Endpoint

MAX_AGE = 25 * 3600.0
LIMIT = 65_536


class InFlight:
    """Records by identity, oldest first; at most `limit`."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._records: dict[str, Picked] = {}

    def __len__(self) -> int:
        return len(self._records)

    def records(self) -> list[Picked]:
        """Return all of them."""
        return list(self._records.values())

    def begin(self, picked: Picked) -> None:
        """Count a request at the endpoint picked for it, and at that which prefills.

        Nobody tells when a prefill ends: it counts as long as the whole request, unless its pod reports being idle.
        """
        self._records[picked.identity] = picked
        if len(self._records) > self._limit:
            self._drop([next(iter(self._records.values()))])
        for part in _parts(picked):
            part.counted = True
            endpoint = part.decision.endpoints[0]
            part.ticket = endpoint.begin(part.tokens, picked.began)
            if part.chain:
                part.expected = endpoint.prefixes.expect(part.chain)

    def finish(self, identity: str, served: str = "") -> Picked | None:
        """Take out the record of a finished request; None where there is none (any more).

        `served` is the address that answered it well, "" when nobody did.
        """
        picked = self._records.pop(identity, None)
        if picked is not None:
            for part in _parts(picked):
                # What prefills answers to nobody but the one that decodes.
                answered = part is picked.prefill or part.decision.endpoints[0].address == served
                _discount(part, answered=answered and served != "")
        return picked

    def oldest(self, endpoint: Endpoint) -> float | None:
        """When the oldest request still counted at the endpoint began (seconds)."""
        return min((picked.began for picked, _ in self._counted(endpoint)), default=None)

    def discount(self, endpoint: Endpoint, before: float) -> int:
        """Stop counting the endpoint's requests that began before a time; their records stay.  Returns how many."""
        stale = [part for picked, part in self._counted(endpoint) if picked.began < before]
        for part in stale:
            _discount(part)
        return len(stale)

    def forget_envoy(self, envoy: str) -> int:
        """Drop what an Envoy that is gone had in flight.  Returns how many."""
        return self._drop([picked for picked in self._records.values() if picked.envoy == envoy])

    def forget_before(self, before: float) -> int:
        """Drop what began before a time.  Returns how many."""
        stale = []
        for picked in self._records.values():
            if picked.began >= before:
                break
            stale.append(picked)
        return self._drop(stale)

    def _counted(self, endpoint: Endpoint) -> Iterator[tuple[Picked, Picked | Prefill]]:
        return (
            (picked, part)
            for picked in self._records.values()
            for part in _parts(picked)
            if part.counted and part.decision.endpoints[0] is endpoint
        )

    def _drop(self, gone: list[Picked]) -> int:
        for picked in gone:
            for part in _parts(picked):
                _discount(part)
            del self._records[picked.identity]
        return len(gone)


def _parts(picked: Picked) -> tuple[Picked | Prefill, ...]:
    return (picked,) if picked.prefill is None else (picked, picked.prefill)


def _discount(part: Picked | Prefill, *, answered: bool = False) -> None:
    if part.counted:
        part.counted = False
        endpoint = part.decision.endpoints[0]
        endpoint.end(part.ticket, answered=answered)
        if part.expected:
            part.expected = False
            endpoint.prefixes.withdraw(part.chain)
