"""Kubernetes quantities ("20Mi", "1.5G", "1e3", 4096) read as whole numbers of bytes."""

import re
from decimal import ROUND_CEILING, Decimal
from typing import ClassVar, Self

_QUANTITY = re.compile(r"([+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+))([KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]{1,3})?")
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}
_LARGEST = 2**63 - 1


class Quantity(int):
    """A number of bytes; an int in every other respect. Fractions are rounded up, as the API server rounds them."""

    __slots__ = ()

    PATTERN: ClassVar[str] = _QUANTITY.pattern
    """What `parse` reads, for schemas."""

    @classmethod
    def parse(cls, value: object) -> Self:
        """Read a quantity; ValueError or TypeError says what is wrong."""
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise TypeError(f"expected a quantity like 20Mi, got {type(value).__name__}")
        match = _QUANTITY.fullmatch(str(value))
        if match is None:
            raise ValueError(f"expected a quantity like 20Mi, got {value!r}")
        number, suffix = Decimal(match[1]), match[2] or ""
        if suffix in _BINARY:
            scaled = number * 2 ** _BINARY[suffix]
        elif suffix in _DECIMAL:
            scaled = number.scaleb(_DECIMAL[suffix])
        else:
            scaled = number.scaleb(int(suffix[1:]))
        whole = int(scaled.to_integral_value(rounding=ROUND_CEILING))
        if not 0 <= whole <= _LARGEST:
            raise ValueError(f"{value!r} is out of range")
        return cls(whole)

    def __repr__(self) -> str:
        return f"Quantity({int(self)})"
