"""The values of flags that the dialects have in common. Each raises CommandError naming the flag."""

import re

from simulator.flags import Flags
from simulator.spec import CommandError

# The tokens that the KV cache of an 80 GB GPU holds for a model of about 8B parameters, if all its memory were used.
KV_TOKENS = 400_000
# What stands in for the model's own context length where no flag gives one.
MODEL_LEN = 131_072

_MAX_PORT = 65_535
_HUMAN = re.compile(r"(\d+(?:\.\d+)?)([kKmMgGtT]?)")
_SCALE = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def whole(flags: Flags, name: str, default: int) -> int:
    """Read a positive whole number, "16k" included."""
    text = flags.last(name)
    if text is None:
        return default
    match = _HUMAN.fullmatch(text)
    number = int(float(match[1]) * _SCALE[match[2]]) if match else 0
    if number < 1:
        raise CommandError(f"--{name}: expected a positive whole number, got {text!r}")
    return number


def fraction(flags: Flags, name: str, default: float) -> float:
    """Read a number above 0 and at most 1."""
    text = flags.last(name)
    if text is None:
        return default
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number <= 1:
        raise CommandError(f"--{name}: expected a number above 0 and at most 1, got {text!r}")
    return number


def port(flags: Flags, name: str, default: int) -> int:
    """Read a TCP port."""
    number = whole(flags, name, default)
    if number > _MAX_PORT:
        raise CommandError(f"--{name}: {number} is no port")
    return number
