"""Which pods the world's workloads mean: plan(world) -> pods to simulate, and notices about what is not. Pure."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from math import isfinite

from resources import Container, DaemonSet, World
from simulator import shell
from simulator.commands import Launch, find_server
from simulator.endpoint_pickers import PickerPlan, find_picker
from simulator.members import Member, workloads
from simulator.rollout import Controller
from simulator.sidecars import SidecarPlan, VolumePlan, sidecars, volumes
from simulator.spec import CommandError, ServerSpec, Timing
from simulator.variables import Variables

_ANNOTATION = "simulator.pointsman.dev/"
# On a pod template: the paths, between blanks, at which its servers find no LoRA adapter.
_ABSENT = _ANNOTATION + "absent-adapters"
# On a pod template: how long a pod takes until it is ready (weights are loaded), in milliseconds.
_STARTUP = "startup-ms"
_SECONDS = re.compile(r"(\d+(?:\.\d+)?)s?")


@dataclass(frozen=True, slots=True)
class Port:
    """A port that a container declares."""

    number: int
    name: str = ""
    protocol: str = "TCP"


@dataclass(frozen=True, slots=True)
class PodPlan:
    """One pod to simulate. Pods of the same name and revision are the same pod.

    Pods of one `workload` and `place` come and go together. A pod is ready `startup` seconds after it was made. Once
    deleted it goes on as it was for `pre_stop` seconds, and is gone after `grace` seconds at the latest.

    A pod without a `spec` is an endpoint picker if it has a `picker`. Else it has an address and serves nothing: it is
    a node of a server whose leader answers for it.
    """

    namespace: str
    name: str
    workload: str
    container: str
    image: str
    spec: ServerSpec | None
    timing: Timing
    labels: Mapping[str, str] = field(hash=False)
    annotations: Mapping[str, str] = field(hash=False)
    ports: tuple[Port, ...] = ()
    revision: str = ""
    sidecars: tuple[SidecarPlan, ...] = ()
    volumes: tuple[VolumePlan, ...] = ()
    picker: PickerPlan | None = None
    place: int = 0
    startup: float = 0.0
    pre_stop: float = 0.0
    grace: float = 30.0

    @property
    def key(self) -> tuple[str, str]:
        """Namespace and name."""
        return self.namespace, self.name


@dataclass(frozen=True, slots=True)
class WorkloadPlan:
    """The pods that a workload shall have, and what makes and replaces them.

    `name` gives the name of a pod at any place, where names come from places alone.
    """

    title: str
    pods: tuple[PodPlan, ...]
    controller: Controller
    name: Callable[[int], str] | None = field(default=None, compare=False)

    @property
    def replicas(self) -> int:
        """How many places are wanted."""
        return len({pod.place for pod in self.pods})

    @property
    def revision(self) -> str:
        """The revision that all of its pods shall have."""
        return self.pods[0].revision if self.pods else ""

    def at(self, place: int) -> tuple[PodPlan, ...]:
        """Plan the pods at a place: one of those wanted, or one more of the kind."""
        found = tuple(pod for pod in self.pods if pod.place == place)
        if found or not self.pods or self.name is None:
            return found
        return (replace(self.pods[0], name=self.name(place), place=place),)


@dataclass(frozen=True, slots=True)
class Plan:
    """All workloads to simulate, and a line for each one, or part of one, that is not simulated."""

    workloads: tuple[WorkloadPlan, ...] = ()
    notices: tuple[str, ...] = ()

    @property
    def pods(self) -> tuple[PodPlan, ...]:
        """The pods that there shall be in the end."""
        return tuple(pod for workload in self.workloads for pod in workload.pods)


def plan(world: World, timing: Timing | None = None) -> Plan:
    """Plan the pods of every workload; `timing` is that of pods whose annotations say nothing."""
    found: list[WorkloadPlan] = []
    notices: dict[str, None] = {}
    for workload in workloads(world):
        title = workload.title
        pods: list[PodPlan] = []
        try:
            pods.extend(_pod(member, world, timing or Timing(), notices, title) for member in workload.members)
        except CommandError as error:
            notices[f"{title}: not simulated: {error}"] = None
            continue
        if any(pod.spec is not None or pod.picker is not None for pod in pods):
            found.append(WorkloadPlan(title, tuple(pods), workload.controller, workload.name))
        elif pods:
            notices[f"{title}: not simulated: no container serves a model"] = None
    for daemon_set in world.all(DaemonSet).values():
        notices[f"{daemon_set.key}: not simulated: there are no nodes to have a pod each"] = None
    return Plan(tuple(found), tuple(notices))


def _pod(member: Member, world: World, timing: Timing, notices: dict[str, None], workload: str) -> PodPlan:
    """Plan one pod; what of it is not simulated is put down in `notices`."""
    variables = Variables(world, member.workload.namespace, member.env)
    containers = member.template.spec.containers
    served: list[tuple[Container, ServerSpec]] = []
    if member.leads:
        launches = ((container, _launch(container, variables)) for container in containers)
        served = [(container, spec) for container, launch in launches if (spec := find_server(launch)) is not None]
    container, spec = served[0] if served else (containers[0] if containers else Container(name="none"), None)
    for other, _ in served[1:]:
        notices[f"{workload}: container {other.name} is not simulated: {container.name} stands for the pod"] = None
    annotations = member.template.metadata.annotations
    picker = None
    if spec is None:
        found = ((each, find_picker(each, variables, member.workload.namespace)) for each in containers)
        container, picker = next(((each, made) for each, made in found if made is not None), (container, None))
    if spec is not None:
        notices.update(dict.fromkeys(f"{workload}: {remark}" for remark in spec.remarks))
        spec = replace(spec, absent_adapters=tuple(annotations.get(_ABSENT, "").split()))
    running = tuple(sidecars(member.template.spec, variables)) if spec is not None else ()
    missing: dict[str, None] = {}
    files = tuple(volumes(member.template.spec, running, world, member.workload.namespace, missing))
    notices.update(dict.fromkeys(f"{workload}: {line}" for line in missing))
    return PodPlan(
        namespace=member.workload.namespace,
        name=member.name,
        workload=workload,
        container=container.name,
        image=container.image,
        spec=spec,
        timing=_timing(annotations, timing),
        labels=member.labels,
        annotations=annotations,
        ports=tuple(Port(port.container_port, port.name, port.protocol) for port in container.ports),
        revision=member.revision,
        sidecars=running,
        volumes=files,
        picker=picker,
        place=member.place,
        startup=_number(annotations, _STARTUP, 0.0) / 1e3,
        pre_stop=_pre_stop(container, notices, workload),
        grace=float(member.template.spec.termination_grace_period_seconds),
    )


def _pre_stop(container: Container, notices: dict[str, None], workload: str) -> float:
    """Return how many seconds the container waits before it is told to end; what else it does then is not simulated."""
    handler = container.lifecycle.pre_stop if container.lifecycle is not None else None
    if handler is None:
        return 0.0
    if handler.sleep is not None:
        return float(handler.sleep.seconds)
    seconds = 0.0
    for words in shell.commands(handler.exec.command if handler.exec is not None else (), {}):
        times = [_SECONDS.fullmatch(word) for word in words[1:]]
        if words[0].rpartition("/")[2] == "sleep" and times and all(times):
            seconds += sum(float(time[1]) for time in times if time is not None)
        else:
            notices[f"{workload}: container {container.name}: preStop: only sleep is simulated"] = None
    if handler.http_get is not None:
        notices[f"{workload}: container {container.name}: preStop: only sleep is simulated"] = None
    return seconds


def _launch(container: Container, variables: Variables) -> Launch:
    return Launch(
        container.name,
        container.image,
        tuple(container.command),
        tuple(container.args),
        variables.known(container),
    )


def _timing(annotations: Mapping[str, str], default: Timing) -> Timing:
    """Read the pod template's timing: simulator.pointsman.dev/{prefill-us, decode-ms, decode-growth, answer-tokens}."""
    answer = _number(annotations, "answer-tokens", default.answer_tokens)
    if answer < 1:
        raise CommandError(f"annotation {_ANNOTATION}answer-tokens: expected at least 1")
    return Timing(
        prefill=_number(annotations, "prefill-us", default.prefill * 1e6) / 1e6,
        decode=_number(annotations, "decode-ms", default.decode * 1e3) / 1e3,
        decode_growth=_number(annotations, "decode-growth", default.decode_growth),
        answer_tokens=int(answer),
    )


def _number(annotations: Mapping[str, str], name: str, default: float) -> float:
    text = annotations.get(_ANNOTATION + name)
    if text is None:
        return default
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not (isfinite(number) and number >= 0):
        raise CommandError(f"annotation {_ANNOTATION}{name}: expected a number of at least 0, got {text!r}")
    return number
