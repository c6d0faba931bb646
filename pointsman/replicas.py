"""Several controllers: all serve Envoys, one of them writes, and it hears from the others what their Envoys say.

docs/decisions/0011-replicas.md has the reasons.
"""

import asyncio
import contextlib
from collections.abc import Iterable, Mapping
from functools import lru_cache

import msgspec

from pointsman.blame import origin_of
from pointsman.programming import Account
from sources.kubernetes import Api, Election, Members
from xds import ENVOY, ClientStatus

_NACK_LIMIT = 300


class Replicas:
    """The controllers that share a Lease, as one of them knows them."""

    def __init__(self, api: Api, namespace: str, lease: str, identity: str) -> None:
        self._election = Election(api, namespace, lease, identity)
        self._members = Members(api, namespace, lease, identity)

    @property
    def leading(self) -> bool:
        """Whether this one writes."""
        return self._election.leading

    @property
    def problems(self) -> tuple[str, ...]:
        """What keeps this one from its part among the others."""
        return tuple(each for each in (self._election.trouble, self._members.trouble) if each)

    def say(self, accounts: Mapping[str, Account]) -> None:
        """Have the others hear how this one's Envoys stand, by Gateway."""
        self._members.say(msgspec.json.encode(accounts).decode())

    def heard(self) -> list[Mapping[str, Account]]:
        """Return how the others' Envoys stand, for each replica by Gateway."""
        return [_read(text) for _, text in sorted(self._members.heard.items())]

    async def turned(self) -> None:
        """Wait until this one leads, or no longer."""
        await self._election.changed()

    async def told(self) -> None:
        """Wait until something else is heard."""
        await self._members.changed()

    async def run(self) -> None:
        """Stand for election, say and hear, for ever."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._election.run())
            tasks.create_task(self._members.run())


def accounts_of(clients: Iterable[ClientStatus], versions: Mapping[str, str]) -> dict[str, Account]:
    """Return how the Envoys that are connected here stand, by Gateway, to the version that is published for it."""
    found: dict[str, Account] = {}
    for each in clients:
        if each.peer.role != ENVOY:
            continue
        part = each.peer.group
        refusal = next(
            (f"{origin_of(nack)}: refused by Envoy: {nack.message}"[:_NACK_LIMIT] for nack in each.nacks), ""
        )
        last = found.get(part, Account(versions.get(part, ""), in_sync=True))
        found[part] = Account(last.version, last.in_sync and each.in_sync, last.refusal or refusal)
    return found


@lru_cache(maxsize=16)
def _read(text: str) -> Mapping[str, Account]:
    """Read what a replica says; one of another release may say what cannot be read, which counts as nothing."""
    with contextlib.suppress(msgspec.MsgspecError):
        return msgspec.json.decode(text, type=dict[str, Account])
    return {}
