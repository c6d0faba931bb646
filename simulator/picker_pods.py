"""Endpoint pickers as processes of this machine: Pointsman's, told by the control plane that the rest of it follows."""

import asyncio
import errno
import socket
from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from dataclasses import dataclass

from simulator.endpoint_pickers import PickerPlan
from simulator.sidecar_process import SidecarProcess

# The module that runs in a picker's place.
_MODULE = "pointsman"
_LOOPBACK = "127.0.0.1"
# Seconds between looks at whether it listens: until it does, and from then on.
_SOON, _LATER = 0.05, 1.0


@dataclass(frozen=True, slots=True)
class PickerSite:
    """An address, and by each of the plan's ports the one on which the process listens."""

    address: str
    ports: dict[int, int]


def find_site(plan: PickerPlan, addresses: Iterable[str]) -> PickerSite:
    """Choose the first address on which all ports are free, or other ports of 127.0.0.1. Raises OSError."""
    for address in addresses:
        try:
            _bind(address, plan.ports)
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL:
                break
            if error.errno != errno.EADDRINUSE:
                raise
        else:
            return PickerSite(address, {port: port for port in plan.ports})
    return PickerSite(_LOOPBACK, dict(zip(plan.ports, _bind(_LOOPBACK, (0, 0, 0)), strict=True)))


def _bind(address: str, ports: Iterable[int]) -> list[int]:
    with ExitStack() as stack:
        bound = []
        for port in ports:
            probe = stack.enter_context(socket.socket())
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((address, port))
            bound.append(int(probe.getsockname()[1]))
        return bound


class PickerPod:
    """One picker; `ready` while it takes requests, and `changed` is called when that changes."""

    def __init__(self, plan: PickerPlan, site: PickerSite, xds: str, changed: Callable[[], None]) -> None:
        self.plan = plan
        self.site = site
        self.ready = False
        self._changed = changed
        at = {port: f"{site.address}:{real}" for port, real in site.ports.items()}
        where = ("--listen", at[plan.port], "--health", at[plan.health], "--metrics", at[plan.metrics])
        self._process = SidecarProcess(
            _MODULE,
            ("picker", "--xds", xds, "--pool", plan.pool, "--tls", "off", "--drain", "0", *where),
            {"POINTSMAN_ENDS_WITH_STDIN": "1"},
        )
        self._watch: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start it."""
        self._process.start()
        self._watch = asyncio.get_running_loop().create_task(self._look())

    async def stop(self) -> None:
        """End it; returns when it is gone."""
        if self._watch is not None:
            self._watch.cancel()
            with suppress(asyncio.CancelledError):
                await self._watch
        await self._process.stop()

    async def _look(self) -> None:
        while True:
            ready = await self._listens()
            if ready != self.ready:
                self.ready = ready
                self._changed()
            await asyncio.sleep(_LATER if ready else _SOON)

    async def _listens(self) -> bool:
        try:
            _, writer = await asyncio.open_connection(self.site.address, self.site.ports[self.plan.port])
        except OSError:
            return False
        writer.close()
        return True
