"""What this machine allows about addresses and ports, found out by asking it."""

import contextlib
import errno
import random
import socket
from ipaddress import ip_address
from pathlib import Path

from pointsman.failure import Failure
from pointsman.placement import Host, Placement

_SYSCTL = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
_FIRST_UNPRIVILEGED = 1024
_KERNELS_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
# RFC 6335, section 6: the dynamic ports begin here. The first that is asked for leaves well-known ones alone.
_FIRST_DYNAMIC, _FIRST_TO_KEEP = 49_152, 10_000
_TRIES = 100


def host(bind: str) -> Host:
    """Return what placement needs to know of this machine.  Failure when `bind` is no address of it."""
    try:
        ip_address(bind)
    except ValueError:
        raise Failure(f"--bind {bind}: not an IP address") from None
    try:
        with _listening(bind, 0):
            pass
    except OSError as error:
        raise Failure(f"--bind {bind}: {error.strerror}") from None
    return Host(bind=bind, first_port=first_port(bind), many_loopbacks=_has("127.0.0.2"))


def first_port(bind: str) -> int:
    """Return the lowest port that may be bound: 1 with the privilege, else the kernel's limit (Linux: 1024)."""
    try:
        with _listening(bind, 1):
            return 1
    except OSError as error:
        # The permission is checked first: a port in use may be bound.
        if error.errno not in {errno.EACCES, errno.EPERM}:
            return 1
    with contextlib.suppress(OSError, ValueError):
        return int(_SYSCTL.read_text(encoding="ascii"))
    return _FIRST_UNPRIVILEGED


def free_port(address: str = "127.0.0.1") -> int:
    """Return a TCP port of `address` that nobody listens on."""
    with _listening(address, 0) as listener:
        port: int = listener.getsockname()[1]
        return port


def port_to_keep(address: str = "127.0.0.1") -> int:
    """Return a free TCP port of `address` that stays free until it is listened on.

    It is none of those that the kernel gives to whoever asks for any port, or connects to somewhere.
    """
    first = _FIRST_DYNAMIC
    with contextlib.suppress(OSError, ValueError):
        first = int(_KERNELS_RANGE.read_text(encoding="ascii").split()[0])
    ports = range(_FIRST_TO_KEEP, first)
    for port in random.sample(ports, k=min(_TRIES, len(ports))):
        with contextlib.suppress(OSError), _listening(address, port):
            return port
    return free_port(address)


def check_free(gateway: str, listener: str, place: Placement) -> None:
    """Raise Failure naming Gateway and listener when the place is taken or may not be bound."""
    try:
        with _listening(place.address, place.port):
            pass
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        trouble = "is already taken" if taken else f"cannot be bound: {error.strerror}"
        message = f"Gateway {gateway}: listener {listener}: port {place.port} on {place.address} {trouble}"
        raise Failure(message) from None


def accepts(address: str, port: int, *, timeout: float = 0.2) -> bool:
    """Tell whether someone accepts connections at `address`:`port` (any local address for 0.0.0.0 and ::)."""
    target = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address, address)  # noqa: S104 - compared, not bound
    try:
        socket.create_connection((target, port), timeout).close()
    except OSError:
        return False
    return True


def _has(address: str) -> bool:
    """Tell whether `address` is one of this machine's: all of 127.0.0.0/8 is on Linux, 127.0.0.1 alone on macOS."""
    try:
        with _listening(address, 0):
            return True
    except OSError:
        return False


def _listening(address: str, port: int) -> socket.socket:
    """Return a socket that is bound and listens, as Envoy will: a port in TIME_WAIT is free, one listened on is not."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen(1)
    except OSError:
        listener.close()
        raise
    return listener
