"""Asking each server now and then which models it serves.

Adapters come and go while a server runs, so that this is asked again and again, but what it decides (which names the
gateway lists, and which become labels of metrics) waits for a few seconds well.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from picker.http_client import Connection
from picker.pools import Member
from picker.served_models import NOTHING, read
from picker.table import Endpoint

_PATH = "/v1/models"
_OK, _SERVER_ERROR = 200, 500


@dataclass(frozen=True, slots=True)
class ListTimes:
    """Seconds: the interval, that for each endpoint of the picker if it is longer, and the bound of an answer."""

    interval: float = 2.0
    each: float = 0.02
    timeout: float = 1.0


class ModelLists:
    """Keeps what endpoints serve; one task for each."""

    def __init__(self, times: ListTimes | None = None) -> None:
        self._times = times or ListTimes()
        self._members: Mapping[str, Member] = {}
        self._tasks: dict[Endpoint, asyncio.Task[None]] = {}

    def follow(self, members: Mapping[str, Member]) -> None:
        """Ask these endpoints and no others."""
        self._members = members
        present = {member.endpoint for member in members.values()}
        for endpoint in self._tasks.keys() - present:
            self._tasks.pop(endpoint).cancel()
        for endpoint in present - self._tasks.keys():
            self._tasks[endpoint] = asyncio.get_running_loop().create_task(self._watch(endpoint))

    async def close(self) -> None:
        """Stop asking."""
        tasks = list(self._tasks.values())
        self._tasks.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _watch(self, endpoint: Endpoint) -> None:
        connection = Connection(endpoint.address)
        try:
            while True:
                await self._ask(endpoint, connection)
                await asyncio.sleep(max(self._times.interval, self._times.each * len(self._tasks)))
        finally:
            connection.close()

    async def _ask(self, endpoint: Endpoint, connection: Connection) -> None:
        try:
            async with asyncio.timeout(self._times.timeout):
                answer = await connection.get(_PATH)
        except OSError:
            # What it served it will serve when it is back; TimeoutError is an OSError.
            return
        if answer.status >= _SERVER_ERROR:
            return
        served = read(answer.body) if answer.status == _OK else NOTHING
        if served != endpoint.served:
            endpoint.served = served
            member = self._members.get(endpoint.address)
            for table in () if member is None or member.endpoint is not endpoint else member.tables:
                table.list_served()
