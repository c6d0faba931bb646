"""Pods and their containers, as far as a gateway and a simulator read them.

Lenient: the fields left out here are passed over without a word.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from resources.core import TransportProtocol
from resources.fields import Fields, Port, check_address
from resources.meta import Object

_MAX_PORT = 65_535

PORTS_ANNOTATION = "pointsman.dev/listening-ports"
"""On a Pod: where its ports really are, "8000=53211,9000=53212".

Only for pods that share an address with others, as simulated ones do on a machine with a single loopback address.
"""


class ContainerPort(Fields, frozen=True, kw_only=True):
    """A port of a container."""

    container_port: Port
    name: str = ""
    protocol: TransportProtocol = "TCP"


class KeySelector(Fields, frozen=True, kw_only=True):
    """A key of a ConfigMap or a Secret."""

    name: str = ""
    key: str
    optional: bool = False


class EnvVarSource(Fields, frozen=True, kw_only=True):
    """Where a variable's value is."""

    config_map_key_ref: KeySelector | None = None
    secret_key_ref: KeySelector | None = None


class EnvVar(Fields, frozen=True, kw_only=True):
    """A variable of a container's environment; where `value_from` is there, it has the value."""

    name: str
    value: str = ""
    value_from: EnvVarSource | None = None


class ConfigMapReference(Fields, frozen=True, kw_only=True):
    """A ConfigMap by name."""

    name: str = ""
    optional: bool = False


class EnvFromSource(Fields, frozen=True, kw_only=True):
    """A source of many variables."""

    prefix: str = ""
    config_map_ref: ConfigMapReference | None = None


class KeyToPath(Fields, frozen=True, kw_only=True):
    """A key of a ConfigMap and the file that it becomes."""

    key: str
    path: str


class ConfigMapVolume(Fields, frozen=True, kw_only=True):
    """A ConfigMap as a folder: all of its keys, or the items."""

    name: str = ""
    items: tuple[KeyToPath, ...] = ()
    optional: bool = False


class Volume(Fields, frozen=True, kw_only=True):
    """A volume of a pod; one that is no ConfigMap is an empty folder here."""

    name: str
    config_map: ConfigMapVolume | None = None


class VolumeMount(Fields, frozen=True, kw_only=True):
    """Where a container sees a volume, or the file or folder `sub_path` of it."""

    name: str
    mount_path: str
    sub_path: str = ""
    read_only: bool = False


class HTTPGetAction(Fields, frozen=True, kw_only=True):
    """A probe by HTTP."""

    path: str = "/"
    port: Port | str
    scheme: Literal["HTTP", "HTTPS"] = "HTTP"


class TCPSocketAction(Fields, frozen=True, kw_only=True):
    """A probe by connecting."""

    port: Port | str


class Probe(Fields, frozen=True, kw_only=True):
    """How to see that a container is ready; periods in seconds."""

    http_get: HTTPGetAction | None = None
    tcp_socket: TCPSocketAction | None = None
    initial_delay_seconds: int = 0
    period_seconds: int = 10
    timeout_seconds: int = 1
    success_threshold: int = 1
    failure_threshold: int = 3


class SleepAction(Fields, frozen=True, kw_only=True):
    """A wait, in seconds."""

    seconds: Annotated[int, Meta(ge=0)]


class ExecAction(Fields, frozen=True, kw_only=True):
    """A command that runs in the container."""

    command: tuple[str, ...] = ()


class LifecycleHandler(Fields, frozen=True, kw_only=True):
    """What happens at a turn of a container's life."""

    sleep: SleepAction | None = None
    exec: ExecAction | None = None
    http_get: HTTPGetAction | None = None


class Lifecycle(Fields, frozen=True, kw_only=True):
    """What happens before a container is told to end; it runs within the pod's grace period."""

    pre_stop: LifecycleHandler | None = None


class Container(Fields, frozen=True, kw_only=True):
    """A container of a pod."""

    name: str
    image: str = ""
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    env: tuple[EnvVar, ...] = ()
    env_from: tuple[EnvFromSource, ...] = ()
    ports: tuple[ContainerPort, ...] = ()
    lifecycle: Lifecycle | None = None
    readiness_probe: Probe | None = None
    volume_mounts: tuple[VolumeMount, ...] = ()
    restart_policy: str | None = None


class PodSpec(Fields, frozen=True, kw_only=True):
    """The containers of a pod; the grace period (seconds) is what they have to end in once the pod is deleted."""

    containers: tuple[Container, ...] = ()
    init_containers: tuple[Container, ...] = ()
    volumes: tuple[Volume, ...] = ()
    node_name: str | None = None
    hostname: str | None = None
    termination_grace_period_seconds: Annotated[int, Meta(ge=0)] = 30

    @property
    def lasting(self) -> tuple[Container, ...]:
        """The containers that run for as long as the pod does: init containers that do not end, and the others.

        An init container whose restartPolicy is Always is a sidecar (core/v1, Container.restartPolicy).
        """
        return (*(each for each in self.init_containers if each.restart_policy == "Always"), *self.containers)


class PodCondition(Fields, frozen=True, kw_only=True):
    """A condition of a pod."""

    type: str
    status: str
    reason: str = ""
    message: str = ""


class PodIP(Fields, frozen=True, kw_only=True):
    """An address of a pod."""

    ip: str


class PodStatus(Fields, frozen=True, kw_only=True):
    """What the cluster says of a pod."""

    phase: str = ""
    pod_ip: str | None = msgspec.field(default=None, name="podIP")
    pod_ips: tuple[PodIP, ...] = msgspec.field(default=(), name="podIPs")
    conditions: tuple[PodCondition, ...] = ()

    def __post_init__(self) -> None:
        if self.pod_ip:
            check_address("podIP", self.pod_ip)
        for number, each in enumerate(self.pod_ips):
            check_address(f"podIPs[{number}].ip", each.ip)


class Pod(Object, frozen=True, kw_only=True):
    """A pod."""

    GROUP = ""
    KIND = "Pod"
    VERSIONS = ("v1",)
    LENIENT = True

    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()

    @property
    def addresses(self) -> tuple[str, ...]:
        """The pod's addresses, the main one first."""
        rest = tuple(each.ip for each in self.status.pod_ips if each.ip != self.status.pod_ip)
        return (self.status.pod_ip, *rest) if self.status.pod_ip else rest

    def listening(self, port: int) -> int:
        """Return the port on which the pod really serves one of its ports: the same, unless an annotation says so."""
        for pair in self.metadata.annotations.get(PORTS_ANNOTATION, "").split(","):
            declared, _, real = pair.partition("=")
            if declared.strip() == str(port) and real.strip().isdecimal() and 0 < int(real) <= _MAX_PORT:
                return int(real)
        return port

    @property
    def ready(self) -> bool:
        """Whether the pod may be sent requests: it says Ready and is not being deleted.

        One with an address and without any condition is somebody's word for a server outside of any cluster: a kubelet
        writes both together.
        """
        conditions = self.status.conditions
        ready = any(condition.type == "Ready" and condition.status == "True" for condition in conditions)
        return self.metadata.deletion_timestamp is None and (ready or (not conditions and bool(self.addresses)))
