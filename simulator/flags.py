"""Command-line flags as argparse reads them, for a command of which only some flags matter.

`--name value`, `--name=value`, underscores for dashes, and unambiguous abbreviations. Flags that are not known are
passed over with what follows them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from simulator.spec import CommandError


class Arity(Enum):
    """How many values a flag takes."""

    NONE = 0
    ONE = 1
    MANY = 2


@dataclass(frozen=True, slots=True)
class Flags:
    """The flags of a command line by name (without dashes), each with its last occurrence's values, and the rest."""

    values: Mapping[str, tuple[str, ...]]
    positionals: tuple[str, ...] = field(default=())

    def last(self, name: str) -> str | None:
        """Return the value of a flag that takes one; None when it is absent."""
        values = self.values.get(name)
        return values[-1] if values else None

    def switch(self, name: str, *, default: bool) -> bool:
        """Whether a switch is on: `--name` says yes, `--no-name` says no, and the later of them counts."""
        value = self.last(name)
        return default if value is None else value == "yes"


def parse(argv: Sequence[str], known: Mapping[str, Arity], neighbours: frozenset[str]) -> Flags:
    """Read `argv` by the `known` flags; `neighbours` are flags that matter only to tell what an abbreviation means.

    Raises CommandError naming the flag that lacks its value or is ambiguous.
    """
    values: dict[str, tuple[str, ...]] = {}
    positionals: list[str] = []
    place = 0
    while place < len(argv):
        word = argv[place]
        place += 1
        if not _is_flag(word):
            positionals.append(word)
            continue
        following = _values_at(argv, place)
        raw, equals, attached = word.partition("=")
        name = _resolve(raw, known, neighbours)
        arity = known.get(name)
        if arity is None:
            place += 0 if equals or _is_switch(name) else len(following)
            continue
        if arity is Arity.NONE:
            values[name.removeprefix("no-")] = ("no" if name.startswith("no-") else "yes",)
            continue
        taken = (attached,) if equals else following[: 1 if arity is Arity.ONE else None]
        if not taken:
            raise CommandError(f"--{name}: expected an argument")
        values[name] = taken
        place += 0 if equals else len(taken)
    return Flags(values, tuple(positionals))


def _is_flag(word: str) -> bool:
    # argparse takes "-1" for a number as long as no flag looks like one.
    return len(word) > 1 and word[0] == "-" and not word[1].isdigit()


def _values_at(argv: Sequence[str], start: int) -> tuple[str, ...]:
    end = start
    while end < len(argv) and not _is_flag(argv[end]):
        end += 1
    return tuple(argv[start:end])


def _resolve(raw: str, known: Mapping[str, Arity], neighbours: frozenset[str]) -> str:
    name = raw.lstrip("-").replace("_", "-")
    if not raw.startswith("--") or name in known or name in neighbours:
        return name
    meant = sorted(flag for flag in (*known, *neighbours) if name and flag.startswith(name))
    if len(meant) > 1:
        raise CommandError(f"--{name}: ambiguous, could be {', '.join(f'--{flag}' for flag in meant)}")
    return meant[0] if meant else name


def _is_switch(name: str) -> bool:
    # The arity of an unknown flag is a guess from its name; one that is wrong costs only a positional argument.
    return name.startswith(("enable-", "disable-", "no-")) or name in {"trust-remote-code", "enforce-eager", "headless"}
