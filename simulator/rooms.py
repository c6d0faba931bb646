"""Where a prefill and a decode server meet for one request: the bootstrap address of the one, and a room's number.

The servers of one fleet share one `Rooms`, as real ones share a network; those that are processes of their own meet
over it (`simulator.bootstrap`). What real servers say of a meeting that fails is what these say (SGLang,
`srt/disaggregation`).
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus

from simulator.refusals import RequestError

# SGLang's --disaggregation-bootstrap-port.
BOOTSTRAP_PORT = 8998

# Seconds after which decode servers give up a prefill server that is gone: two heartbeats, one every five seconds
# (SGLANG_DISAGGREGATION_HEARTBEAT_INTERVAL and _MAX_FAILURE).
LOST_AFTER = 10.0

Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Room:
    """A meeting, as both servers are told of it in the request."""

    host: str
    port: int | None
    number: int

    @property
    def address(self) -> Address:
        """Where the prefill server is met."""
        return self.host, self.port or BOOTSTRAP_PORT


@dataclass(slots=True)
class _Meeting:
    wanted: asyncio.Event = field(default_factory=asyncio.Event)  # the decode server has made room
    sent: asyncio.Event = field(default_factory=asyncio.Event)  # the KV values are there, or never will be
    failure: str = ""
    guests: int = 0

    def fail(self, reason: str) -> None:
        """Tell the decode server that the KV values will not come."""
        if not self.sent.is_set():
            self.failure = reason
            self.sent.set()


class Rooms:
    """All meetings, and the prefill servers that are there.

    `lost_after` is how many seconds after the end of a prefill server the decode servers give up what they have of it.
    """

    def __init__(self, lost_after: float = LOST_AFTER) -> None:
        self._lost_after = lost_after
        self._hosts: set[Address] = set()
        self._meetings: dict[Room, _Meeting] = {}

    def open(self, host: str, port: int) -> None:
        """Let a prefill server be met."""
        self._hosts.add((host, port))

    def close(self, host: str, port: int) -> None:
        """Let it be met no longer."""
        self._hosts.discard((host, port))
        asyncio.get_running_loop().call_later(self._lost_after, self._give_up, (host, port))

    def door(self) -> "Door":
        """Give one server its door to the rooms."""
        return Door(self)

    def has_host(self, room: Room) -> bool:
        """Whether there is a prefill server where the room says."""
        return room.address in self._hosts

    def _give_up(self, address: Address) -> None:
        if address in self._hosts:
            return
        for room, meeting in self._meetings.items():
            if room.address == address:
                host, port = address
                meeting.fail(f"Lost connection with prefill instance (bootstrap_addr: {host}:{port})")

    @contextmanager
    def meet(self, room: Room) -> Iterator[_Meeting]:
        """Take part in a meeting; the last to leave ends it."""
        meeting = self._meetings.setdefault(room, _Meeting())
        meeting.guests += 1
        try:
            yield meeting
        finally:
            meeting.guests -= 1
            if meeting.guests == 0:
                self._meetings.pop(room, None)


class Door:
    """One server's way to its meetings; `waiting` of its requests wait for the other server."""

    def __init__(self, rooms: Rooms) -> None:
        self.waiting = 0
        self._rooms = rooms

    @asynccontextmanager
    async def send(self, room: Room, patience: float) -> AsyncIterator[None]:
        """Prefill meanwhile, when the decode server is ready to receive. Raises RequestError."""
        with self._rooms.meet(room) as meeting:
            try:
                await self._within(meeting.wanted, patience, f"Prefill bootstrap failed for {room.number}: timed out")
                yield
            except BaseException:
                meeting.fail("the prefill server gave up")
                raise
            meeting.sent.set()

    async def receive(self, room: Room, patience: float) -> None:
        """Wait for the KV values. Raises RequestError at once where no prefill server is met at the room's address."""
        if not self._rooms.has_host(room):
            host, port = room.address
            raise failure(f"Could not fetch prefill parallel info from bootstrap_addr: {host}:{port}")
        with self._rooms.meet(room) as meeting:
            meeting.wanted.set()
            await self._within(meeting.sent, patience, f"Decode transfer failed for {room.number}: timed out")
            if meeting.failure:
                raise failure(f"Decode transfer failed for {room.number}: {meeting.failure}")

    async def _within(self, event: asyncio.Event, seconds: float, complaint: str) -> None:
        self.waiting += 1
        try:
            await asyncio.wait_for(event.wait(), seconds)
        except TimeoutError:
            raise failure(complaint) from None
        finally:
            self.waiting -= 1


def failure(message: str) -> RequestError:
    """Return what a server answers with whose meeting fails."""
    return RequestError(HTTPStatus.INTERNAL_SERVER_ERROR, message, "InternalServerError")
