"""Runs the servers of a plan in this process, and says which pods there are.

A pod lives as on Kubernetes. Controllers make it and let it go, step by step (`simulator.rollout`). It is ready from
when it listens until it is deleted: from then on it is known as one that terminates. What it does before the end
(preStop) is waited for; then it is told to end (SIGTERM): it listens no more, closes idle connections and finishes what
is under way. When its grace period is over it is cut off, and it is gone from the pods.
"""

import asyncio
import errno
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

from simulator import manifests
from simulator.addresses import candidates
from simulator.beside import Beside
from simulator.faults import Fault, Mode
from simulator.picker_pods import PickerPod, find_site
from simulator.rollout import Unit
from simulator.rooms import Rooms
from simulator.server import ModelServer, Site
from simulator.spec import ServerSpec
from simulator.workloads import Plan, PodPlan, WorkloadPlan

_LOOPBACK = "127.0.0.1"
_TRIES = 16
# Seconds that what is under way has when the whole fleet ends.
_LAST_GRACE = 5.0
# What bind says for an address that another process has, and for one that this machine does not have.
_TAKEN = frozenset({errno.EADDRINUSE, errno.EADDRNOTAVAIL})


@dataclass(slots=True, eq=False)
class RunningPod:
    """A pod that is there: its plan, its IP address, its server if it has one, and what runs beside it.

    `starting`: its server does not listen yet. `deleted` is when it was told to go.
    """

    plan: PodPlan
    address: str
    server: ModelServer | None
    beside: Beside | None = None
    picker: PickerPod | None = None
    starting: bool = False
    deleted: datetime | None = None

    @property
    def port(self) -> int | None:
        """The port on which the server listens; not the plan's where that could not be had."""
        return None if self.server is None else self.server.site.port

    @property
    def ready(self) -> bool:
        """Whether it may be sent requests."""
        return self.deleted is None and not self.starting and (self.picker is None or self.picker.ready)

    def manifest(self) -> dict[str, object]:
        """Write the pod as a Kubernetes object."""
        picker = self.picker
        ports = picker.site.ports if picker is not None and picker.ready else None
        return manifests.pod(
            self.plan, self.address, self.port, picker_ports=ports, starting=self.starting, deleted=self.deleted
        )


@dataclass(slots=True)
class _Group:
    """The pods of a workload that come and go together."""

    unit: Unit
    pods: list[RunningPod] = field(default_factory=list)


class Fleet:
    """Simulated servers, those of the plan applied last as its workloads' controllers have them.

    The pods of the first plan are there from the start. `publish` is told the pods by the first `apply` and whenever
    they change; `report` is told in a line of each pod that cannot start later than that. `reaction` is the seconds
    that controllers and kubelets take to see what others did. Their volumes are in `folder`, which is theirs alone, or
    in a temporary folder. Endpoint pickers follow the control plane at `xds`; none starts without.
    """

    def __init__(
        self,
        publish: Callable[[Sequence[RunningPod]], None] | None = None,
        *,
        report: Callable[[str], object] = lambda _: None,
        reaction: float = 0.1,
        folder: Path | None = None,
        xds: str = "",
    ) -> None:
        self._publish = publish
        self._report = report
        self._reaction = reaction
        self._plan = Plan()
        self._pods: list[RunningPod] = []
        # Places at which a pod could not start.
        self._failed: set[tuple[str, int, str]] = set()
        self._tasks: dict[RunningPod, asyncio.Task[None]] = {}
        self._control: asyncio.Task[None] | None = None
        self._due = asyncio.Event()
        self._published = False
        self._hurry = asyncio.Event()
        self._lock = asyncio.Lock()
        self._rooms = Rooms()
        self._given = folder
        self._xds = xds
        self._files: TemporaryDirectory[str] | None = None

    @property
    def pods(self) -> tuple[RunningPod, ...]:
        """The pods that are there, in the plan's order; those that go are last."""
        places = {title: place for place, title in enumerate(workload.title for workload in self._plan.workloads)}

        def place(pod: RunningPod) -> tuple[bool, int, int]:
            return pod.deleted is not None, places.get(pod.plan.workload, len(places)), pod.plan.place

        return tuple(sorted(self._pods, key=place))

    async def apply(self, plan: Plan) -> tuple[str, ...]:
        """Take another plan, and a first step towards it; the other steps follow in the background.

        Returns a line for each pod that could not start.
        """
        async with self._lock:
            self._plan = plan
            self._failed.clear()
            problems = [*self._update(), *await self._step(at_once=not self._published)]
            if not self._published:
                self._tell()
        self._due.set()
        if self._control is None:
            self._control = asyncio.get_running_loop().create_task(self._keep_on())
        return tuple(problems)

    async def stop(self) -> None:
        """Stop all pods without waiting for more than what is under way; returns when no socket or process is left."""
        self._hurry.set()
        async with self._lock:
            if self._control is not None:
                self._control.cancel()
            self._plan = Plan()
            await self._step()
        while self._tasks:
            await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        if self._files is not None:
            self._files.cleanup()
            self._files = None

    async def switch(self, fault: Fault) -> None:
        """Switch a pod's fault. Raises KeyError when no such pod listens."""
        for pod in self._pods:
            if pod.plan.name == fault.pod and pod.server is not None and not pod.starting and pod.deleted is None:
                await pod.server.switch(fault.mode, fault.duration)
                return
        raise KeyError(fault.pod)

    async def fail(self, pod: str, mode: Mode, duration: float | None = None) -> None:
        """Make a pod fail, or heal it by Mode.NONE; `duration` is in seconds. Raises KeyError as `switch` does."""
        await self.switch(Fault(mode, duration, pod))

    def _tell(self) -> None:
        if self._publish is not None:
            self._publish(self.pods)
        self._published = True

    def _changed(self) -> None:
        """Tell of the pods, and let the controllers look at them."""
        self._tell()
        self._due.set()

    async def _keep_on(self) -> None:
        """Take the steps that follow from those before."""
        while True:
            await self._due.wait()
            await asyncio.sleep(self._reaction)
            self._due.clear()
            async with self._lock:
                for problem in await self._step():
                    self._report(problem)

    def _update(self) -> list[str]:
        """Bring the volumes of the pods that stay up to date."""
        problems = []
        workloads = {workload.title: workload for workload in self._plan.workloads}
        for pod in self._pods:
            workload = workloads.get(pod.plan.workload)
            if pod.beside is None or workload is None:
                continue
            for wanted in workload.at(pod.plan.place):
                if (wanted.name, wanted.revision) != (pod.plan.name, pod.plan.revision):
                    continue
                try:
                    pod.beside.update(wanted)
                except OSError as error:
                    problems.append(f"Pod {pod.plan.namespace}/{pod.plan.name}: {error}")
        return problems

    async def _step(self, *, at_once: bool = False) -> list[str]:
        """Let every controller take a step; with `at_once` all pods are made, and are ready."""
        problems: list[str] = []
        before = list(self._pods)
        gone: list[RunningPod] = []
        workloads = {workload.title: workload for workload in self._plan.workloads}
        for workload in workloads.values():
            groups = self._groups(workload.title)
            step = workload.controller.step(workload.replicas, workload.revision, [group.unit for group in groups])
            places = sorted({pod.place for pod in workload.pods}) if at_once else step.create
            for place in places:
                problems += await self._make(workload, place, at_once=at_once)
            gone += [pod for group in groups if group.unit in step.remove for pod in group.pods]
        # What belonged to a workload that was deleted goes with it.
        gone += [pod for pod in before if pod.plan.workload not in workloads and pod.deleted is None]
        for pod in gone:
            self._delete(pod)
        if gone or self._pods != before:
            self._changed()
        return problems

    def _groups(self, title: str) -> list[_Group]:
        found: dict[tuple[int, str, bool], list[RunningPod]] = {}
        for pod in self._pods:
            if pod.plan.workload == title:
                key = (pod.plan.place, pod.plan.revision, pod.deleted is not None)
                found.setdefault(key, []).append(pod)
        return [
            _Group(Unit(place, revision, all(pod.ready for pod in pods), leaving), pods)
            for (place, revision, leaving), pods in found.items()
        ]

    async def _make(self, workload: WorkloadPlan, place: int, *, at_once: bool) -> list[str]:
        """Start the pods at a place; tell of those that cannot start, which are not tried again for this plan."""
        problems: list[str] = []
        for wanted in workload.at(place):
            key = (workload.title, place, wanted.name)
            if key in self._failed:
                continue
            try:
                self._pods.append(await self._start(wanted, startup=0.0 if at_once else wanted.startup))
            except OSError as error:
                self._failed.add(key)
                problems.append(f"Pod {wanted.namespace}/{wanted.name}: {error}")
        return problems

    async def _start(self, plan: PodPlan, *, startup: float) -> RunningPod:
        pod = await self._listen(plan, self._pods, starting=startup > 0.0)
        if plan.sidecars:
            pod.beside = Beside(self._folder(), plan)
            try:
                pod.beside.start(pod.address, pod.port)
            except OSError:
                await self._end(pod, 0.0)
                raise
        if pod.starting:
            self._tasks[pod] = asyncio.get_running_loop().create_task(self._get_ready(pod, startup))
        return pod

    async def _get_ready(self, pod: RunningPod, startup: float) -> None:
        await asyncio.sleep(startup)
        try:
            if pod.server is not None:
                await pod.server.start()
        except OSError as error:
            self._report(f"Pod {pod.plan.namespace}/{pod.plan.name}: {error}")
        else:
            pod.starting = False
            del self._tasks[pod]
            self._changed()

    def _delete(self, pod: RunningPod) -> None:
        pod.deleted = datetime.now(UTC)
        if pod in self._tasks:
            self._tasks[pod].cancel()
        self._tasks[pod] = asyncio.get_running_loop().create_task(self._let_go(pod))

    async def _let_go(self, pod: RunningPod) -> None:
        """Do what a kubelet does with a pod that was deleted."""
        plan = pod.plan
        waits = min(plan.pre_stop, plan.grace)
        with suppress(TimeoutError):
            async with asyncio.timeout(self._reaction + waits):
                await self._hurry.wait()
        try:
            await self._end(pod, plan.grace - waits)
        finally:
            self._pods.remove(pod)
            del self._tasks[pod]
            self._changed()

    def _folder(self) -> Path:
        if self._given is not None:
            return self._given
        if self._files is None:
            self._files = TemporaryDirectory(prefix="simulated-pods-")
        return Path(self._files.name)

    async def _listen(self, plan: PodPlan, others: Iterable[RunningPod], *, starting: bool) -> RunningPod:
        taken = {pod.address for pod in others}
        free = (address for address in islice(candidates(*plan.key), _TRIES) if address not in taken)
        if plan.picker is not None and self._xds:
            site = find_site(plan.picker, free)
            picker = PickerPod(plan.picker, site, self._xds, self._changed)
            picker.start()
            return RunningPod(plan, site.address, None, picker=picker)
        if plan.spec is None:
            return RunningPod(plan, next(free, _LOOPBACK), None)
        for address in free:
            server = self._server(plan, plan.spec, address, plan.spec.port)
            try:
                await (server.reserve() if starting else server.start())
            except OSError as error:
                if error.errno not in _TAKEN:
                    raise
                if error.errno == errno.EADDRNOTAVAIL:
                    break
                continue
            return RunningPod(plan, address, server, starting=starting)
        server = self._server(plan, plan.spec, _LOOPBACK, 0)
        await (server.reserve() if starting else server.start())
        return RunningPod(plan, _LOOPBACK, server, starting=starting)

    def _server(self, plan: PodPlan, spec: ServerSpec, address: str, port: int) -> ModelServer:
        return ModelServer(Site(plan.name, address, port), spec, plan.timing, self.switch, self._rooms)

    async def _end(self, pod: RunningPod, grace: float) -> None:
        """End what the pod consists of; what is under way has `grace` seconds, and less when all shall end."""
        if pod.beside is not None:
            await pod.beside.stop()
        if pod.picker is not None:
            await pod.picker.stop()
        if pod.server is not None:
            stopping = asyncio.get_running_loop().create_task(pod.server.stop(grace))
            hurrying = asyncio.get_running_loop().create_task(self._hurry.wait())
            await asyncio.wait({stopping, hurrying}, return_when=asyncio.FIRST_COMPLETED)
            hurrying.cancel()
            await asyncio.wait({stopping}, timeout=_LAST_GRACE)
            if not stopping.done():
                pod.server.cut()
            await stopping
