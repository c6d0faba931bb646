"""One pod: network namespace, volumes, order of the containers, status, removal."""

import asyncio
import logging
import shutil
from http import HTTPStatus
from typing import Protocol

from .config import NODE_IP, PODS
from .container import Container
from .images import ImageMap
from .kube import ApiError, Informer, Kube
from .manifest import Manifest
from .moments import now
from .net import PodAddresses
from .podspec import UnavailableError
from .volumes import Volume

log = logging.getLogger("pod")
_OURS = ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady")


class Node(Protocol):
    """What a pod has of its node."""

    kube: Kube
    images: ImageMap
    addresses: PodAddresses
    services: Informer


class Pod:
    """One pod of the node, from when it is bound until it is deleted."""

    def __init__(self, node: Node, obj: Manifest) -> None:
        self.node, self.kube, self.obj = node, node.kube, obj
        self.spec: Manifest = obj["spec"]
        meta = obj["metadata"]
        self.namespace: str = meta["namespace"]
        self.name: str = meta["name"]
        self.uid: str = meta["uid"]
        self.path = f"/api/v1/namespaces/{self.namespace}/pods/{self.name}"
        self.folder = PODS / self.uid
        self.netns, self.ip = "", ""
        self.changed, self.deleting = asyncio.Event(), asyncio.Event()
        self.volumes: dict[str, Volume] = {}
        self.inits = [Container(self, spec, init=True) for spec in self.spec.get("initContainers", [])]
        self.mains = [Container(self, spec, init=False) for spec in self.spec["containers"]]
        self.initialized, self.finished = False, False
        self._start_time = now()
        self._sent: Manifest | None = None
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def containers(self) -> list[Container]:
        """All of them."""
        return self.mains + self.inits

    @property
    def _sidecars(self) -> list[Container]:
        return [each for each in self.inits if each.sidecar]

    def update(self, obj: Manifest | None) -> None:
        """The API object changed, or is gone (None)."""
        if obj is not None:
            self.obj = obj
        if obj is None or obj["metadata"].get("deletionTimestamp"):
            self.deleting.set()
        if obj is None:  # removed by force
            for container in self.containers:
                container.kill()

    async def run(self) -> None:
        """Run the pod until it is deleted, and take it from the API server."""
        writer = asyncio.create_task(self._write_status())
        if self.spec.get("hostNetwork"):
            self.ip = NODE_IP
        else:
            self.netns, self.ip = await self.node.addresses.create(self.uid[:8])
        life = asyncio.create_task(self._life())
        await self.deleting.wait()
        life.cancel()
        await asyncio.wait([life])
        try:
            await self._shutdown()
        except Exception:
            log.exception("shutdown of %s/%s", self.namespace, self.name)
        writer.cancel()
        await self._teardown()
        await asyncio.to_thread(shutil.rmtree, self.folder, ignore_errors=True)
        try:
            await self.kube.request("DELETE", self.path, {"gracePeriodSeconds": 0, "preconditions": {"uid": self.uid}})
        except ApiError as error:
            if error.status not in (HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT):
                log.warning("delete of %s/%s: %s", self.namespace, self.name, error)

    # -- life -----------------------------------------------------------------

    async def _life(self) -> None:
        try:
            self.changed.set()
            await self._setup()
            for container in self.inits:
                task = self._supervise(container)
                if container.sidecar:
                    await container.started.wait()
                else:
                    await asyncio.shield(task)
                    if container.exit_code != 0:
                        await self._finish()
                        return
            self.initialized = True
            await asyncio.gather(*[asyncio.shield(self._supervise(container)) for container in self.mains])
            await self._finish()
        except Exception:
            log.exception("pod %s/%s", self.namespace, self.name)

    def _supervise(self, container: Container) -> asyncio.Task[None]:
        task = asyncio.create_task(container.supervise())
        self._tasks.append(task)
        return task

    async def _setup(self) -> None:
        for spec in self.spec.get("volumes", []):
            self.volumes[spec["name"]] = Volume(self.kube, self.obj, spec, self.folder / "volumes", self.ip)
        while True:
            try:
                await self.refresh_volumes()
            except (UnavailableError, ApiError) as error:
                for container in self.containers:
                    container.set(waiting={"reason": "ContainerCreating", "message": str(error)})
                await asyncio.sleep(1)
            else:
                return

    async def refresh_volumes(self) -> None:
        """Bring the volumes' contents up to date."""
        for volume in self.volumes.values():
            await volume.refresh()

    async def _finish(self) -> None:
        """All containers ended for good."""
        for container in reversed(self._sidecars):
            await container.stop(30)
        self.finished = True
        self.changed.set()
        await self._teardown()

    async def _shutdown(self) -> None:
        meta = self.obj["metadata"]
        default = self.spec.get("terminationGracePeriodSeconds", 30)
        grace = meta.get("deletionGracePeriodSeconds", default) if meta.get("deletionTimestamp") else 0
        await asyncio.gather(*[each.stop(grace) for each in self.containers if each.alive and not each.sidecar])
        for container in reversed([each for each in self._sidecars if each.alive]):
            await container.stop(grace)
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _teardown(self) -> None:
        if self.netns:
            netns, self.netns = self.netns, ""
            await self.node.addresses.delete(netns, self.ip)

    # -- status ---------------------------------------------------------------

    async def _write_status(self) -> None:
        while True:
            await self.changed.wait()
            await asyncio.sleep(0.02)
            self.changed.clear()
            status = self.status()
            if status == self._sent:
                continue
            try:
                await self.kube.patch(self.path + "/status", {"metadata": {"uid": self.uid}, "status": status})
                self._sent = status
            except ApiError as error:
                if error.status in (HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT):
                    continue
                log.warning("status of %s/%s: %s", self.namespace, self.name, error)
                await asyncio.sleep(1)
                self.changed.set()

    def _phase(self) -> str:
        if self.finished:
            done = [each for each in self.inits if not each.sidecar] + self.mains
            return "Succeeded" if all(each.exit_code == 0 for each in done) else "Failed"
        return "Running" if self.initialized and all(each.was_started for each in self.mains) else "Pending"

    def status(self) -> Manifest:
        """The pod's status as it is."""
        status: Manifest = {
            "phase": self._phase(),
            "conditions": self._conditions(),
            "hostIP": NODE_IP,
            "hostIPs": [{"ip": NODE_IP}],
            "startTime": self._start_time,
            "containerStatuses": [each.status() for each in self.mains],
            "observedGeneration": self.obj["metadata"].get("generation"),
        }
        if self.inits:
            status["initContainerStatuses"] = [
                each.status() | ({} if each.sidecar else {"ready": each.exit_code == 0}) for each in self.inits
            ]
        if self.ip:
            status |= {"podIP": self.ip, "podIPs": [{"ip": self.ip}]}
        return status

    def _conditions(self) -> list[Manifest]:
        present = {each["type"]: each for each in self.obj.get("status", {}).get("conditions", [])}
        before = {each["type"]: each for each in (self._sent or self.obj.get("status", {})).get("conditions", [])}
        containers = self.initialized and not self.finished and all(each.ready for each in self.mains + self._sidecars)
        gates = [each["conditionType"] for each in self.spec.get("readinessGates", [])]
        open_gates = all(present.get(each, {}).get("status") == "True" for each in gates)
        values = zip(_OURS, (bool(self.ip), self.initialized, containers and open_gates, containers), strict=True)
        conditions = [each for each in present.values() if each["type"] not in _OURS]
        for kind, value in values:
            text = str(value)
            same = before.get(kind, {}).get("status") == text
            since = before[kind]["lastTransitionTime"] if same else now()
            condition = {"type": kind, "status": text, "lastTransitionTime": since}
            if not value and kind in ("Ready", "ContainersReady"):
                condition["reason"] = "PodCompleted" if self.finished else "ContainersNotReady"
            conditions.append(condition)
        return conditions
