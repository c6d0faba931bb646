"""Which pods the world's workloads mean: plan(world) -> pods to simulate, and notices about what is not. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from math import isfinite

import msgspec

from resources import Container, Deployment, World
from simulator.commands import Launch, find_server
from simulator.spec import CommandError, ServerSpec, Timing

_ANNOTATION = "simulator.pointsman.dev/"
# On a pod template: the paths, between blanks, at which its servers find no LoRA adapter.
_ABSENT = _ANNOTATION + "absent-adapters"
# Kubernetes' alphabet for generated names: no vowels, so no words (apimachinery, util/rand).
_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
_SUFFIX = 5
_HASH = 10
# A pod's name is a DNS label, and what precedes the generated part is cut to fit (apiserver, names/generate.go).
_PREFIX = 63 - _SUFFIX


@dataclass(frozen=True, slots=True)
class Port:
    """A port that a container declares."""

    number: int
    name: str = ""
    protocol: str = "TCP"


@dataclass(frozen=True, slots=True)
class PodPlan:
    """One pod to simulate. Pods of the same name are the same pod: the name has the template's hash in it."""

    namespace: str
    name: str
    workload: str
    container: str
    image: str
    spec: ServerSpec
    timing: Timing
    labels: Mapping[str, str] = field(hash=False)
    annotations: Mapping[str, str] = field(hash=False)
    ports: tuple[Port, ...] = ()

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
    """Plan the pods of every Deployment; `timing` is that of pods whose annotations say nothing."""
    pods: list[PodPlan] = []
    notices: list[str] = []
    for _, deployment in sorted(world.all(Deployment).items()):
        try:
            pods.extend(_pods(deployment, timing or Timing(), notices))
        except CommandError as error:
            notices.append(f"{deployment.key}: not simulated: {error}")
    return Plan(tuple(pods), tuple(notices))


def _pods(deployment: Deployment, timing: Timing, notices: list[str]) -> Iterator[PodPlan]:
    containers = deployment.spec.template.spec.containers
    served = [(container, spec) for container in containers if (spec := find_server(_launch(container))) is not None]
    if not served:
        notices.append(f"{deployment.key}: not simulated: no container serves a model")
        return
    container, spec = served[0]
    notices.extend(
        f"{deployment.key}: container {other.name} is not simulated: {container.name} stands for the pod"
        for other, _ in served[1:]
    )
    template = deployment.spec.template
    annotations = dict(template.metadata.annotations)
    digest = _letters(msgspec.json.encode(template, enc_hook=str, order="deterministic"), _HASH)
    pattern = PodPlan(
        namespace=deployment.key.namespace,
        name="",
        workload=deployment.metadata.name,
        container=container.name,
        image=container.image,
        spec=replace(spec, absent_adapters=tuple(annotations.get(_ABSENT, "").split())),
        timing=_timing(annotations, timing),
        labels={**template.metadata.labels, "pod-template-hash": digest},
        annotations=annotations,
        ports=tuple(Port(port.container_port, port.name or "", port.protocol) for port in container.ports),
    )
    replicas = 1 if deployment.spec.replicas is None else deployment.spec.replicas
    prefix = f"{deployment.metadata.name}-{digest}-"[:_PREFIX]
    for place in range(replicas):
        suffix = _letters(f"{deployment.key}/{digest}/{place}".encode(), _SUFFIX)
        yield replace(pattern, name=prefix + suffix)


def _launch(container: Container) -> Launch:
    known = tuple((variable.name, variable.value) for variable in container.env if variable.value is not None)
    return Launch(container.name, container.image, tuple(container.command), tuple(container.args), known)


def _letters(data: bytes, length: int) -> str:
    number = int.from_bytes(blake2b(data, digest_size=16).digest())
    letters = []
    for _ in range(length):
        number, place = divmod(number, len(_ALPHABET))
        letters.append(_ALPHABET[place])
    return "".join(letters)


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
