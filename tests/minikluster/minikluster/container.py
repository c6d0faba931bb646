"""One container of a pod: its process, restarts, probes and status."""

import asyncio
import shutil
import signal
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from . import probes, sandbox
from .images import Image
from .kube import ApiError, Informer, Kube
from .logs import log_path, pump
from .manifest import Manifest
from .moments import now
from .podspec import UnavailableError, environment
from .volumes import Volume

BACKOFF_FIRST, BACKOFF_LIMIT = 1, 30  # seconds; kubelet's are 10 and 300
_FORGIVEN = 60  # seconds after which the back-off starts over
_KILLED = 128 + signal.SIGKILL
_LONGEST_MESSAGE, _LONGEST_TAIL, _TAIL_LINES = 4096, 2048, 80  # bytes, bytes, lines; as kubelet's


class NoImageError(UnavailableError):
    """The image map has no entry for the image."""

    reason = "ErrImageNeverPull"


class Images(Protocol):
    """Where images are looked up."""

    def find(self, image: str) -> Image | None:
        """The image's entry in the image map."""


class PodNode(Protocol):
    """What a container has of its pod's node."""

    @property
    def images(self) -> Images:
        """The image map."""

    @property
    def services(self) -> Informer:
        """All Services."""


class Owner(Protocol):
    """What a container has of its pod."""

    obj: Manifest
    spec: Manifest
    kube: Kube
    namespace: str
    name: str
    uid: str
    ip: str
    netns: str
    folder: Path
    volumes: dict[str, Volume]
    changed: asyncio.Event

    @property
    def node(self) -> PodNode:
        """The node."""

    async def refresh_volumes(self) -> None:
        """Bring the volumes' contents up to date."""


class Container:
    """One container, in all of its runs."""

    def __init__(self, pod: Owner, spec: Manifest, *, init: bool) -> None:
        self.pod, self.spec = pod, spec
        self.name: str = spec["name"]
        self.sidecar = init and spec.get("restartPolicy") == "Always"
        self.policy = "Always" if self.sidecar else pod.spec.get("restartPolicy", "Always")
        if init and not self.sidecar and self.policy == "Always":
            self.policy = "OnFailure"
        waits = init or bool(pod.spec.get("initContainers"))
        self.state: Manifest = {"waiting": {"reason": "PodInitializing" if waits else "ContainerCreating"}}
        self.last: Manifest = {}
        known = pod.obj.get("status", {}).get("initContainerStatuses" if init else "containerStatuses", [])
        mine = [
            each for each in known if each["name"] == self.name and ("running" in each["state"] or each["lastState"])
        ]
        self.restarts: int = mine[0]["restartCount"] + 1 if mine else 0  # an earlier agent ran it
        self.ready = self.supervised = False
        self.started, self.ended = asyncio.Event(), asyncio.Event()
        self.exit_code: int | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._env: Mapping[str, str] = {}
        self._stop = asyncio.Event()

    # -- status ---------------------------------------------------------------

    @property
    def address(self) -> str:
        """The pod's."""
        return self.pod.ip

    @property
    def alive(self) -> bool:
        """Whether it was started and has not ended for good."""
        return self.supervised and not self.ended.is_set()

    @property
    def was_started(self) -> bool:
        """Whether a process of it has ever run."""
        return "running" in self.state or "terminated" in self.state or bool(self.last)

    def set(self, **state: Manifest) -> None:
        """Change the state that the pod's status shows."""
        self.state = state
        self.pod.changed.set()

    def _set_ready(self, *, ready: bool) -> None:
        if ready != self.ready:
            self.ready = ready
            self.pod.changed.set()

    def status(self) -> Manifest:
        """Its part of the pod's status."""
        return {
            "name": self.name,
            "image": self.spec["image"],
            "imageID": f"minikluster://{self.spec['image']}",
            "containerID": f"minikluster://{self.pod.uid}/{self.name}/{self.restarts}",
            "ready": self.ready,
            "started": self.started.is_set() and "running" in self.state,
            "restartCount": self.restarts,
            "state": self.state,
            "lastState": self.last,
        }

    # -- life -----------------------------------------------------------------

    async def supervise(self) -> None:
        """Run and restart the process until it is to stay ended."""
        delay, self.supervised = BACKOFF_FIRST, True
        loop = asyncio.get_running_loop()
        while not self._stop.is_set():
            started = loop.time()
            try:
                self.exit_code = await self._run_once()
            except (UnavailableError, ApiError, OSError, RuntimeError) as error:
                reason = getattr(error, "reason", UnavailableError.reason)
                self.set(waiting={"reason": reason, "message": str(error)})
                await self._pause(2)
                continue
            fine = self.policy == "Never" or (self.policy == "OnFailure" and self.exit_code == 0)
            if self._stop.is_set() or fine:
                break
            if loop.time() - started > _FORGIVEN:
                delay = BACKOFF_FIRST
            self.last = self.state
            self.set(waiting={"reason": "CrashLoopBackOff", "message": f"back-off {delay}s restarting container"})
            await self._pause(delay)
            self.restarts, delay = self.restarts + 1, min(delay * 2, BACKOFF_LIMIT)
        self.ended.set()
        self.pod.changed.set()

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), seconds)

    async def _run_once(self) -> int:
        pod = self.pod
        image = pod.node.images.find(self.spec["image"])
        if image is None:
            raise NoImageError(f'no entry for image "{self.spec["image"]}" in the image map')
        if image.get("run") == "none":
            began = now()
            self.set(running={"startedAt": began})
            self.started.set()
            self._set_ready(ready=True)
            await self._stop.wait()
            return self._terminated(0, began)
        services = pod.node.services.objects
        self._env = await environment(pod.kube, pod.obj, self.spec, image.get("env", {}), pod.ip, services)
        await pod.refresh_volumes()
        if self._stop.is_set():
            return self._terminated(_KILLED, now())
        folder = pod.folder / f"{self.name}.{self.restarts}"
        path = sandbox.prepare(folder, pod, self.spec, image, self._env)
        return await self._run(folder, sandbox.command(path, pod.netns))

    async def _run(self, folder: Path, command: list[str]) -> int:
        self._process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
        assert self._process.stdout is not None
        began = now()
        (folder / "pid").write_text(str(self._process.pid))
        logging = asyncio.create_task(pump(self._process.stdout, self._log()))
        self.set(running={"startedAt": began})
        watcher = asyncio.create_task(self._watch_health())
        code = await self._process.wait()
        watcher.cancel()
        self._process = None
        self.started.clear()
        self._set_ready(ready=False)
        await asyncio.wait([logging], timeout=5)
        code = 128 - code if code < 0 else code
        self._terminated(code, began, self._message(folder, code))
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        return code

    def _terminated(self, code: int, began: str, message: str = "") -> int:
        state = {
            "exitCode": code,
            "reason": "Completed" if code == 0 else "Error",
            "startedAt": began,
            "finishedAt": now(),
            "containerID": self.status()["containerID"],
        }
        self.ready = False
        self.set(terminated=state | ({"message": message} if message else {}))
        return code

    def _message(self, folder: Path, code: int) -> str:
        message = (folder / "termination-log").read_bytes()[:_LONGEST_MESSAGE]
        if not message and code and self.spec.get("terminationMessagePolicy") == "FallbackToLogsOnError":
            lines = self._log().read_bytes()[-_LONGEST_MESSAGE:].split(b"\n")[-_TAIL_LINES:]
            message = b"\n".join(line.partition(b" ")[2] for line in lines)[-_LONGEST_TAIL:]
        return message.decode(errors="replace")

    def _log(self) -> Path:
        return log_path(self.pod.namespace, self.pod.name, self.pod.uid, self.name, self.restarts)

    # -- process --------------------------------------------------------------

    def _main_pid(self) -> int | None:
        """The process that is number 1 in the container; it passes signals on."""
        if self._process is None:
            return None
        pid = self._process.pid
        try:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        except OSError:
            return None
        return int(children[0]) if children else None

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal to the container."""
        pid = self._main_pid()
        with suppress(ProcessLookupError):
            if pid:
                sandbox.kill(pid, number)
            elif self._process and number == signal.SIGKILL:
                self._process.kill()

    async def execute(self, command: list[str]) -> int:
        """Run a command in the container; returns its exit status."""
        pid = self._main_pid()
        if pid is None:
            return 255
        process = await asyncio.create_subprocess_exec(
            *sandbox.enter(pid),
            *command,
            env=self._env,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            return await process.wait()
        finally:
            if process.returncode is None:
                process.kill()

    async def stop(self, grace: float) -> None:
        """Hook, SIGTERM, and SIGKILL at the end of the grace period (seconds)."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + grace
        if self._process and (hook := self.spec.get("lifecycle", {}).get("preStop")):
            await probes.check(hook, self, grace)
        self._stop.set()
        name = self.spec.get("lifecycle", {}).get("stopSignal", "SIGTERM")
        self.kill(getattr(signal, name, signal.SIGTERM))
        wait = max(deadline - loop.time(), 0.1)
        while not self.ended.is_set():
            try:
                await asyncio.wait_for(self.ended.wait(), wait)
            except TimeoutError:
                self.kill()
                wait = 1

    # -- probes ---------------------------------------------------------------

    async def _watch_health(self) -> None:
        if hook := self.spec.get("lifecycle", {}).get("postStart"):
            await probes.check(hook, self, 60)
        startup = self.spec.get("startupProbe")
        if startup and not await self._startup(startup):
            self.kill(signal.SIGTERM)
            return
        self.started.set()
        self.pod.changed.set()
        jobs = [self._readiness()]
        if liveness := self.spec.get("livenessProbe"):
            jobs.append(self._liveness(liveness))
        await asyncio.gather(*jobs)

    async def _startup(self, probe: Manifest) -> bool:
        """Allows as much time as kubelet does, but probes every second."""
        patience = probe.get("failureThreshold", 3) * probe.get("periodSeconds", 10)
        await asyncio.sleep(probe.get("initialDelaySeconds", 0))
        deadline = asyncio.get_running_loop().time() + patience
        while asyncio.get_running_loop().time() < deadline:
            if await probes.check(probe, self, probe.get("timeoutSeconds", 1)):
                return True
            await asyncio.sleep(1)
        return False

    async def _liveness(self, probe: Manifest) -> None:
        await asyncio.sleep(probe.get("initialDelaySeconds", 0))
        failures = 0
        while failures < probe.get("failureThreshold", 3):
            good = await probes.check(probe, self, probe.get("timeoutSeconds", 1))
            failures = 0 if good else failures + 1
            await asyncio.sleep(probe.get("periodSeconds", 10))
        own, pods = (each.get("terminationGracePeriodSeconds") for each in (probe, self.pod.spec))
        self.kill(signal.SIGTERM)
        await asyncio.sleep(own or pods or 30)
        self.kill()

    async def _readiness(self) -> None:
        probe = self.spec.get("readinessProbe")
        if not probe:
            self._set_ready(ready=True)
            return
        await asyncio.sleep(probe.get("initialDelaySeconds", 0))
        successes = failures = 0
        period: float = probe.get("periodSeconds", 10)
        while True:
            good = await probes.check(probe, self, probe.get("timeoutSeconds", 1))
            successes, failures = (successes + 1, 0) if good else (0, failures + 1)
            if successes >= probe.get("successThreshold", 1):
                self._set_ready(ready=True)
            elif failures >= probe.get("failureThreshold", 3):
                self._set_ready(ready=False)
            # Sooner than kubelet while the container comes up.
            await asyncio.sleep(period if self.ready else 1)
