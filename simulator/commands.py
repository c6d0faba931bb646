"""Finds the model server that a container starts, in any dialect that can be simulated."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Protocol

from simulator import shell
from simulator.dialects.sglang import command as sglang
from simulator.dialects.vllm import command as vllm
from simulator.spec import CommandError, ServerSpec


class _Dialect(Protocol):
    """What a dialect's module offers for reading its command lines."""

    def arguments(self, words: Sequence[str], image: str, *, entrypoint: bool) -> tuple[str, ...] | None: ...

    def read(self, argv: Sequence[str], env: Mapping[str, str]) -> ServerSpec: ...


_DIALECTS: tuple[_Dialect, ...] = (vllm, sglang)


@dataclass(frozen=True, slots=True)
class Launch:
    """What decides about the program in a container: Kubernetes' fields, and the variables whose values are known."""

    container: str
    image: str = ""
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()


def find_server(launch: Launch) -> ServerSpec | None:
    """Return the model server that the container starts; None when it starts none that can be simulated.

    Raises CommandError, naming the container and the flag, for a start that the real server would refuse.
    """
    try:
        return _find(launch)
    except CommandError as error:
        raise CommandError(f"container {launch.container}: {error}") from error


def _find(launch: Launch) -> ServerSpec | None:
    env = shell.environment(launch.env)
    words: Sequence[str] = tuple(chain(launch.command, launch.args))
    for simple in shell.commands(words, env):
        for dialect in _DIALECTS:
            arguments = dialect.arguments(simple, launch.image, entrypoint=not launch.command)
            if arguments is not None:
                return dialect.read(arguments, env | _assignments(simple))
    return None


def _assignments(words: Sequence[str]) -> dict[str, str]:
    """Variables that a shell's command sets for itself alone: "A=b vllm serve", "env A=b vllm serve"."""
    found: dict[str, str] = {}
    for word in words[1:] if words[0] == "env" else words:
        name, equals, value = word.partition("=")
        if not (equals and name.isidentifier()):
            break
        found[name] = value
    return found
