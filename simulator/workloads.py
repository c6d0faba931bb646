"""Which pods the world's workloads mean: plan(world) -> pods to simulate, and notices about what is not. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import isfinite

from resources import Container, World
from simulator.commands import Launch, find_server
from simulator.endpoint_pickers import PickerPlan, find_picker
from simulator.members import Member, workloads
from simulator.sidecars import SidecarPlan, VolumePlan, sidecars, volumes
from simulator.spec import CommandError, ServerSpec, Timing
from simulator.variables import Variables

_ANNOTATION = "simulator.pointsman.dev/"
# On a pod template: the paths, between blanks, at which its servers find no LoRA adapter.
_ABSENT = _ANNOTATION + "absent-adapters"


@dataclass(frozen=True, slots=True)
class Port:
    """A port that a container declares."""

    number: int
    name: str = ""
    protocol: str = "TCP"


@dataclass(frozen=True, slots=True)
class PodPlan:
    """One pod to simulate. Pods of the same name and revision are the same pod.

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

    @property
    def key(self) -> tuple[str, str]:
        """Namespace and name."""
        return self.namespace, self.name


@dataclass(frozen=True, slots=True)
class Plan:
    """All pods to simulate, and a line for each workload, or part of one, that is not simulated."""

    pods: tuple[PodPlan, ...] = ()
    notices: tuple[str, ...] = ()


def plan(world: World, timing: Timing | None = None) -> Plan:
    """Plan the pods of every workload; `timing` is that of pods whose annotations say nothing."""
    pods: list[PodPlan] = []
    notices: dict[str, None] = {}
    for workload, members in workloads(world):
        made: list[PodPlan] = []
        try:
            made.extend(_pod(member, world, timing or Timing(), notices, workload) for member in members)
        except CommandError as error:
            notices[f"{workload}: not simulated: {error}"] = None
            continue
        if any(pod.spec is not None or pod.picker is not None for pod in made):
            pods.extend(made)
        elif made:
            notices[f"{workload}: not simulated: no container serves a model"] = None
    return Plan(tuple(pods), tuple(notices))


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
        workload=member.workload.name,
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
    )


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
