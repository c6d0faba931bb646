"""Threads that are each on a machine of their own, as far as the network goes: Linux' network namespaces.

What such a thread opens, and the children that it starts, are in its namespace. It takes the rights of root.
"""

import asyncio
import ctypes
import sys
import threading
from collections.abc import Awaitable
from concurrent.futures import Future
from typing import Self, TypeVar

T = TypeVar("T")
_CLONE_NEWNET = 0x40000000


def can_be_made() -> bool:
    """Whether this process may make a network namespace."""
    if sys.platform != "linux":
        return False
    made: list[bool] = []
    trial = threading.Thread(target=lambda: made.append(_leave_network()))
    trial.start()
    trial.join()
    return made == [True]


def _leave_network() -> bool:
    return ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNET) == 0


class Machine:
    """A thread with an event loop in a network of its own; ends with the context."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._began: Future[int] = Future()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        self.id = self._began.result()
        self.run(self.ip("link", "set", "lo", "up"))
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def run(self, work: Awaitable[T]) -> T:
        """Have something done there, and wait for it."""

        async def do() -> T:
            return await work

        return asyncio.run_coroutine_threadsafe(do(), self._loop).result()

    async def ip(self, *arguments: str) -> str:
        """Run iproute2; only from within."""
        process = await asyncio.create_subprocess_exec("ip", *arguments, stdout=asyncio.subprocess.PIPE)
        out, _ = await process.communicate()
        assert process.returncode == 0, arguments
        return out.decode()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        if not _leave_network():
            self._began.set_exception(OSError(ctypes.get_errno(), "no network namespace can be made"))
            return
        self._began.set_result(threading.get_native_id())
        self._loop.run_forever()


def join(one: Machine, two: Machine, first: str, second: str) -> None:
    """Connect two machines, with these addresses."""
    peer = ("peer", "name", "wire", "netns", str(two.id))
    one.run(one.ip("link", "add", "name", "wire", "type", "veth", *peer))
    for machine, address in ((one, first), (two, second)):
        machine.run(machine.ip("address", "add", f"{address}/24", "dev", "wire"))
        machine.run(machine.ip("link", "set", "wire", "up"))
    # Else it would be noticed that nobody says any more where the packets should go.
    hardware = two.run(two.ip("-brief", "link", "show", "wire")).split()[2]
    one.run(one.ip("neighbour", "replace", second, "lladdr", hardware, "dev", "wire", "nud", "permanent"))
