"""Runs the servers of a plan in this process, and says which pods there are.

A pod is ready from when it listens until it is to go; then it is out of sight at once, goes on accepting for `linger`
seconds (until everybody knows) and finishes what is under way within `grace` seconds.
"""

import asyncio
import errno
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

from simulator import manifests
from simulator.addresses import candidates
from simulator.beside import Beside
from simulator.faults import Fault, Mode
from simulator.picker_pods import PickerPod, find_site
from simulator.rooms import Rooms
from simulator.server import ModelServer, Site
from simulator.spec import ServerSpec
from simulator.workloads import Plan, PodPlan

_LOOPBACK = "127.0.0.1"
_TRIES = 16
# What bind says for an address that another process has, and for one that this machine does not have.
_TAKEN = frozenset({errno.EADDRINUSE, errno.EADDRNOTAVAIL})


@dataclass(frozen=True, slots=True)
class RunningPod:
    """A pod that is there: its plan, its IP address, its server if it has one, and what runs beside it."""

    plan: PodPlan
    address: str
    server: ModelServer | None
    beside: Beside | None = None
    picker: PickerPod | None = None

    @property
    def port(self) -> int | None:
        """The port on which the server listens; not the plan's where that could not be had."""
        return None if self.server is None else self.server.site.port

    def manifest(self) -> dict[str, object]:
        """Write the pod as a Kubernetes object."""
        picker = self.picker
        ports = picker.site.ports if picker is not None and picker.ready else None
        return manifests.pod(self.plan, self.address, self.port, picker_ports=ports)


class Fleet:
    """Simulated servers, one for each pod of the plan applied last.

    `publish` is told the pods by the first `apply` and whenever they change. Their volumes are in `folder`, which is
    theirs alone, or in a temporary folder. Endpoint pickers follow the control plane at `xds`; none
    starts without.
    """

    def __init__(
        self,
        publish: Callable[[Sequence[RunningPod]], None] | None = None,
        *,
        linger: float = 3.0,
        grace: float = 5.0,
        folder: Path | None = None,
        xds: str = "",
    ) -> None:
        self._publish = publish
        self._linger = linger
        self._grace = grace
        self._pods: dict[tuple[str, str], RunningPod] = {}
        self._leaving: set[asyncio.Task[None]] = set()
        self._published = False
        self._hurry = asyncio.Event()
        self._lock = asyncio.Lock()
        self._rooms = Rooms()
        self._given = folder
        self._xds = xds
        self._files: TemporaryDirectory[str] | None = None

    @property
    def pods(self) -> tuple[RunningPod, ...]:
        """The pods that are ready, in the plan's order."""
        return tuple(self._pods.values())

    async def apply(self, plan: Plan) -> tuple[str, ...]:
        """Start the plan's pods that are not there, then let go those that it lacks: new ones serve before old ones go.

        Returns a line for each pod that could not start. Pods that go are finished in the background.
        """
        async with self._lock:
            problems: list[str] = []
            pods: dict[tuple[str, str], RunningPod] = {}
            for wanted in plan.pods:
                pod = self._pods.get(wanted.key)
                try:
                    if pod is None or pod.plan.revision != wanted.revision:
                        pods[wanted.key] = await self._start(wanted, (*self._pods.values(), *pods.values()))
                        continue
                    pods[wanted.key] = pod
                    if pod.beside is not None:
                        pod.beside.update(wanted)
                except OSError as error:
                    problems.append(f"Pod {wanted.namespace}/{wanted.name}: {error}")
            gone = [pod for key, pod in self._pods.items() if pods.get(key) is not pod]
            changed = bool(gone) or pods.keys() != self._pods.keys()
            self._pods = pods
            if changed or not self._published:
                self._tell()
            for pod in gone:
                task = asyncio.get_running_loop().create_task(self._let_go(pod))
                self._leaving.add(task)
                task.add_done_callback(self._leaving.discard)
            return tuple(problems)

    def _tell(self) -> None:
        if self._publish is not None:
            self._published = True
            self._publish(self.pods)

    async def stop(self) -> None:
        """Stop all pods without lingering; returns when no socket, process or file is left."""
        self._hurry.set()
        await self.apply(Plan())
        while self._leaving:
            await asyncio.gather(*self._leaving)
        if self._files is not None:
            self._files.cleanup()
            self._files = None

    async def switch(self, fault: Fault) -> None:
        """Switch a pod's fault. Raises KeyError when no such pod is ready."""
        for pod in self._pods.values():
            if pod.plan.name == fault.pod and pod.server is not None:
                await pod.server.switch(fault.mode, fault.duration)
                return
        raise KeyError(fault.pod)

    async def fail(self, pod: str, mode: Mode, duration: float | None = None) -> None:
        """Make a pod fail, or heal it by Mode.NONE; `duration` is in seconds. Raises KeyError as `switch` does."""
        await self.switch(Fault(mode, duration, pod))

    async def _start(self, plan: PodPlan, others: Iterable[RunningPod]) -> RunningPod:
        pod = await self._listen(plan, others)
        if not plan.sidecars:
            return pod
        beside = Beside(self._folder(), plan)
        try:
            beside.start(pod.address, pod.port)
        except OSError:
            await self._end(pod)
            raise
        return replace(pod, beside=beside)

    def _folder(self) -> Path:
        if self._given is not None:
            return self._given
        if self._files is None:
            self._files = TemporaryDirectory(prefix="simulated-pods-")
        return Path(self._files.name)

    async def _listen(self, plan: PodPlan, others: Iterable[RunningPod]) -> RunningPod:
        taken = {pod.address for pod in others}
        free = (address for address in islice(candidates(*plan.key), _TRIES) if address not in taken)
        if plan.picker is not None and self._xds:
            site = find_site(plan.picker, free)
            picker = PickerPod(plan.picker, site, self._xds, self._tell)
            picker.start()
            return RunningPod(plan, site.address, None, picker=picker)
        if plan.spec is None:
            return RunningPod(plan, next(free, _LOOPBACK), None)
        for address in free:
            server = self._server(plan, plan.spec, address, plan.spec.port)
            try:
                await server.start()
            except OSError as error:
                if error.errno not in _TAKEN:
                    raise
                if error.errno == errno.EADDRNOTAVAIL:
                    break
                continue
            return RunningPod(plan, address, server)
        server = self._server(plan, plan.spec, _LOOPBACK, 0)
        await server.start()
        return RunningPod(plan, _LOOPBACK, server)

    def _server(self, plan: PodPlan, spec: ServerSpec, address: str, port: int) -> ModelServer:
        return ModelServer(Site(plan.name, address, port), spec, plan.timing, self.switch, self._rooms)

    async def _let_go(self, pod: RunningPod) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(self._linger):
                await self._hurry.wait()
        await self._end(pod)

    async def _end(self, pod: RunningPod) -> None:
        if pod.beside is not None:
            await pod.beside.stop()
        if pod.picker is not None:
            await pod.picker.stop()
        if pod.server is not None:
            await pod.server.stop(self._grace)
