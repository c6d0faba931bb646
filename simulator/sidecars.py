"""The containers beside a server that really run: which they are, and what of the pod's files they see. Pure.

So far this is the LoRA syncer, ours or the Inference Extension's, which has the same flags.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import PurePosixPath

from resources import ConfigMap, ConfigMapVolume, Container, PodSpec, World
from simulator import shell
from simulator.spec import CommandError
from simulator.variables import Variables

# The module that runs in a syncer's place.
SYNCER = "lora_syncer"

_IMAGES = ("lora-syncer", "lora_syncer")
# The words after which a syncer's flags begin.
_PROGRAMS = frozenset({"lora_syncer", "lora-syncer", "sidecar.py"})
# Where the syncer looks by itself.
_CONFIG = "DYNAMIC_LORA_ROLLOUT_CONFIG"
_DEFAULT = "/config/configmap.yaml"


@dataclass(frozen=True, slots=True)
class Mount:
    """Where a container sees a volume, or the file or folder `sub_path` of it."""

    path: str
    volume: str
    sub_path: str = ""


@dataclass(frozen=True, slots=True)
class SidecarPlan:
    """A container that runs: Python's module `module` with flags and variables, in which paths are the container's."""

    container: str
    module: str
    flags: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    mounts: tuple[Mount, ...] = ()

    def located(self, text: str, volumes: str) -> str:
        """Return a flag or a variable's value for a machine that has the volumes in the folder `volumes`."""
        name, equals, value = text.partition("=") if text.startswith("--") else ("", "", text)
        return name + equals + self._located(value, volumes)

    def _located(self, path: str, volumes: str) -> str:
        for mount in sorted(self.mounts, key=lambda each: -len(each.path)):
            if path == mount.path or path.startswith(mount.path.rstrip("/") + "/"):
                rest = path[len(mount.path) :].lstrip("/")
                return str(PurePosixPath(volumes, mount.volume, mount.sub_path, rest))
        return path


@dataclass(frozen=True, slots=True)
class VolumePlan:
    """A volume and the files in it, by their paths."""

    name: str
    files: Mapping[str, bytes] = field(default_factory=dict, hash=False)


def sidecars(pod: PodSpec, variables: Variables) -> Iterator[SidecarPlan]:
    """Find the containers of a pod that run. Raises CommandError for one whose command cannot be read."""
    for container in pod.lasting:
        env = dict(variables.known(container))
        expanded = shell.environment(tuple(env.items()))
        flags = _flags(container, expanded)
        if flags is not None:
            mounts = (Mount(each.mount_path, each.name, each.sub_path) for each in container.volume_mounts)
            settings = {_CONFIG: _DEFAULT, **expanded}
            yield SidecarPlan(container.name, SYNCER, flags, tuple(settings.items()), tuple(mounts))


def _flags(container: Container, env: Mapping[str, str]) -> tuple[str, ...] | None:
    """Give the flags of a syncer, None for a container that is none."""
    words = tuple(chain(container.command, container.args))
    try:
        for simple in shell.commands(words, env):
            for place, word in enumerate(simple):
                if PurePosixPath(word).name in _PROGRAMS:
                    return tuple(simple[place + 1 :])
    except CommandError as error:
        raise CommandError(f"container {container.name}: {error}") from error
    if any(name in PurePosixPath(container.image).name for name in _IMAGES):
        return tuple(shell.expand(word, env) for word in container.args)
    return None


def volumes(
    pod: PodSpec,
    running: Sequence[SidecarPlan],
    world: World,
    namespace: str,
    notices: dict[str, None],
) -> Iterator[VolumePlan]:
    """Plan the volumes that running containers see; `notices` take what is not there."""
    seen = {mount.volume for sidecar in running for mount in sidecar.mounts}
    for volume in pod.volumes:
        if volume.name not in seen:
            continue
        source = volume.config_map
        found = world.get(ConfigMap, namespace, source.name) if source is not None else None
        if source is not None and found is None and not source.optional:
            notices[f"volume {volume.name}: there is no ConfigMap {namespace}/{source.name}"] = None
        yield VolumePlan(volume.name, _files(source, found) if source is not None and found is not None else {})


def _files(source: ConfigMapVolume, found: ConfigMap) -> dict[str, bytes]:
    if not source.items:
        return dict(found.files)
    return {item.path: found.files[item.key] for item in source.items if item.key in found.files}
