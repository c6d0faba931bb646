"""The containers that are endpoint pickers: what their command lines say. Pure.

Such a container is the Inference Extension's picker, known by its image; Pointsman's own runs in its place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from resources import Container
from simulator import shell
from simulator.spec import CommandError
from simulator.variables import Variables

# Images by their names without registry and version.
_NAMES = frozenset({"epp", "lwepp", "llm-d-inference-scheduler"})
# Go's flags begin with one dash or two; later versions of the picker spell them with dashes between the words.
_POOL, _NAMESPACE, _PORT, _HEALTH, _METRICS = "poolname", "poolnamespace", "grpcport", "grpchealthport", "metricsport"
_SECURE, _CERTIFICATE = "secureserving", "certpath"


@dataclass(frozen=True, slots=True)
class PickerPlan:
    """A picker of the pool `pool` ("namespace/name"), and the ports on which it listens.

    `tls` is what it shows gateways: the certificate of a folder, one of its own ("self-signed"), or none ("off").
    """

    container: str
    pool: str
    port: int = 9002
    health: int = 9003
    metrics: int = 9090
    tls: str = "self-signed"

    @property
    def ports(self) -> tuple[int, int, int]:
        """All of them: for requests, for probes and for metrics."""
        return self.port, self.health, self.metrics


def find_picker(container: Container, variables: Variables, namespace: str) -> PickerPlan | None:
    """Return the picker that a container is; None for any other.

    Raises CommandError, naming container and flag, for one that would not start.
    """
    name = PurePosixPath(container.image.partition("@")[0]).name.partition(":")[0]
    if name not in _NAMES:
        return None
    env = shell.environment(variables.known(container))
    words = [shell.expand(word, env) for word in (*container.command, *container.args)]
    try:
        return read_flags(words, env, namespace, container.name)
    except CommandError as error:
        raise CommandError(f"container {container.name}: {error}") from error


def read_flags(words: Sequence[str], env: Mapping[str, str], namespace: str, container: str = "") -> PickerPlan:
    """Return the picker that a command line describes, in the pool's `namespace` if it names no other.

    Raises CommandError, naming the flag, for one that would not start.
    """
    flags = _flags(words)
    return PickerPlan(
        container,
        f"{flags.get(_NAMESPACE) or env.get('NAMESPACE') or namespace}/{_pool(flags)}",
        _number(flags, _PORT, "grpcPort", 9002),
        _number(flags, _HEALTH, "grpcHealthPort", 9003),
        _number(flags, _METRICS, "metricsPort", 9090),
        "off" if flags.get(_SECURE) == "false" else flags.get(_CERTIFICATE) or "self-signed",
    )


def _pool(flags: Mapping[str, str]) -> str:
    if not flags.get(_POOL):
        raise CommandError("-poolName: no pool is given")
    return flags[_POOL]


def _flags(words: Sequence[str]) -> dict[str, str]:
    """Read Go's flags: "-name value", "-name=value", both also with two dashes."""
    found: dict[str, str] = {}
    for place, word in enumerate(words):
        if word.startswith("-"):
            name, equals, value = word.lstrip("-").partition("=")
            following = words[place + 1] if place + 1 < len(words) else ""
            found[name.replace("-", "").lower()] = value if equals else following
    return found


def _number(flags: Mapping[str, str], name: str, shown: str, default: int) -> int:
    text = flags.get(name)
    if text is None:
        return default
    if not (text.isdecimal() and 0 < int(text) < 2**16):
        raise CommandError(f"-{shown}: expected a port, got {text!r}")
    return int(text)
