"""Plain YAML scalars as Kubernetes reads them: YAML 1.1, without its dates and its numbers of base sixty.

Kubernetes turns YAML into JSON before it reads it, so a number without a fraction is an integer however it is written.
"""

import math
import re

_WORDS: dict[str, object] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"), True),
    **dict.fromkeys(("n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"), False),
}
_INTEGER = re.compile(
    r"(?P<sign>[-+]?)(?:0[bB](?P<b2>[01_]+)|0[xX](?P<b16>[0-9a-fA-F_]+)|0[oO]?(?P<b8>[0-7_]+)|(?P<b10>0|[1-9][0-9_]*))"
)
_FLOAT = re.compile(r"[-+]?(?:\.[0-9][0-9_]*|[0-9][0-9_]*(?:\.[0-9_]*)?)(?:[eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_NUMBER_STARTS = frozenset("+-.0123456789")
_BASES = {"b2": 2, "b8": 8, "b10": 10, "b16": 16}
_LONGEST_NUMBER = 400
_EXACT = 2.0**53


def resolve(text: str) -> object:
    """Give the value of a plain scalar: None, a bool, a number or the text itself.

    ValueError for a number that JSON does not have.
    """
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in _NUMBER_STARTS or len(text) > _LONGEST_NUMBER:
        return text
    if match := _INTEGER.fullmatch(text):
        for group, base in _BASES.items():
            if digits := (match[group] or "").replace("_", ""):
                return int(match["sign"] + digits, base)
        return text
    if _NOT_FINITE.fullmatch(text):
        raise ValueError(f"{text} is no number of JSON")
    if _FLOAT.fullmatch(text):
        return whole(float(text.replace("_", "")))
    return text


def whole(number: float) -> float | int:
    """Give an integer where the number is one; ValueError for a number that JSON does not have."""
    if not math.isfinite(number):
        raise ValueError("the number is too large")
    return int(number) if number.is_integer() and abs(number) <= _EXACT else number
