"""Addresses for pods: each has its own in 127.0.0.0/8, always tried in the same order for the same pod. Pure.

Which of them is free only the machine knows: the fleet takes the first that can be bound.
"""

from collections.abc import Iterator
from hashlib import blake2b
from ipaddress import IPv4Address

# 127.0.0.0/24 belongs to gateways and to whoever else listens on this machine; the last address is the broadcast's.
_FIRST = int(IPv4Address("127.0.1.0"))
_LAST = int(IPv4Address("127.255.255.254"))
# Odd, and without a common factor with the size of the range: the walk meets every address.
_STRIDE = 7_368_787


def candidates(namespace: str, name: str) -> Iterator[str]:
    """Give the pod's addresses in the order in which to try them."""
    size = _LAST - _FIRST + 1
    start = int.from_bytes(blake2b(f"{namespace}/{name}".encode(), digest_size=8).digest())
    for step in range(size):
        yield str(IPv4Address(_FIRST + (start + step * _STRIDE) % size))
