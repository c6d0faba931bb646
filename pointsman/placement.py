"""Which address and port each Gateway listener gets on this machine.

Pure: the machine's properties are an argument (`Host`).  In a cluster every Gateway has its own address; here they
share one machine, so a Gateway that wants a port which another has gets the next loopback address, and a port that may
not be bound moves up by 10000.  A listener that has a place keeps it as long as it is wanted (`before`).
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from ipaddress import ip_address

# Where privileged ports go: 80 becomes 10080.
MOVED_UP = 10_000
_LAST_PORT = 65_535
_LAST_LOOPBACK = 254


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a listener is bound; `moved_from` is the port that its Gateway asked for, when that is another."""

    address: str
    port: int
    moved_from: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A Gateway ("namespace/name"), when it was created, and the ports of its listeners."""

    gateway: str
    created: datetime | None
    ports: frozenset[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """What the machine allows: the address to bind, the first port that may be bound, whether 127/8 is there."""

    bind: str = "127.0.0.1"
    first_port: int = 1024
    many_loopbacks: bool = True


@dataclass(frozen=True, slots=True)
class Clash:
    """A listener without a place: `holder` has the port already."""

    gateway: str
    port: int
    holder: str


@dataclass(frozen=True, slots=True)
class Places:
    """What `place` decided, by (gateway, port)."""

    placements: Mapping[tuple[str, int], Placement]
    clashes: tuple[Clash, ...] = ()


def place(wanted: Iterable[Wanted], host: Host, before: Mapping[tuple[str, int], Placement]) -> Places:
    """Give every wanted (gateway, port) a place of its own, earlier Gateways first."""
    ordered = sorted(wanted, key=_seniority)
    asked = [(each.gateway, port) for each in ordered for port in sorted(each.ports)]
    placements = {key: before[key] for key in asked if key in before}
    taken = {(place.address, place.port): gateway for (gateway, _), place in placements.items()}
    clashes: list[Clash] = []
    for each in ordered:
        missing = sorted(port for port in each.ports if (each.gateway, port) not in placements)
        own = [placements[key].address for key in asked if key[0] == each.gateway and key in placements]
        for port, found in _find(missing, own, host, taken):
            if found is None:
                clashes.append(Clash(each.gateway, port, taken.get((host.bind, _allowed(port, host)), each.gateway)))
                continue
            placements[each.gateway, port] = found
            taken[found.address, found.port] = each.gateway
    return Places(placements, tuple(clashes))


def _seniority(wanted: Wanted) -> tuple[bool, float, str]:
    """Order by age, then name; an object without a creation time has not been created yet."""
    age = 0.0 if wanted.created is None else wanted.created.timestamp()
    return (wanted.created is None, age, wanted.gateway)


def _find(
    ports: list[int], own: list[str], host: Host, taken: Mapping[tuple[str, int], str]
) -> Iterator[tuple[int, Placement | None]]:
    """Yield a place for each of one Gateway's `ports`: all at one address if one has them all free."""
    addresses = [*dict.fromkeys(own), *(address for address in _addresses(host) if address not in own)]
    moved = {port: _allowed(port, host) for port in ports}
    together = next(
        (
            address
            for address in addresses
            if len(set(moved.values())) == len(ports) and all((address, port) not in taken for port in moved.values())
        ),
        None,
    )
    held = set(taken)
    for port, wanted in moved.items():
        address = together or next((each for each in addresses if (each, wanted) not in held), None)
        found = _placement(address, wanted, port) if address else _next_port(host, wanted, port, held)
        if found is not None:
            held.add((found.address, found.port))
        yield port, found


def _placement(address: str, port: int, asked: int) -> Placement:
    return Placement(address, port, None if port == asked else asked)


def _next_port(host: Host, wanted: int, asked: int, held: set[tuple[str, int]]) -> Placement | None:
    """Return the next free port of the only loopback address; elsewhere nobody would look for it there: None."""
    if not _is_loopback(host.bind):
        return None
    free = (port for port in range(wanted, _LAST_PORT + 1) if (host.bind, port) not in held)
    return next((_placement(host.bind, port, asked) for port in free), None)


def _allowed(port: int, host: Host) -> int:
    return port if port >= host.first_port else port + MOVED_UP


def _addresses(host: Host) -> list[str]:
    if host.many_loopbacks and _is_loopback(host.bind) and "." in host.bind:
        net, _, first = host.bind.rpartition(".")
        return [f"{net}.{last}" for last in range(int(first), _LAST_LOOPBACK + 1)]
    return [host.bind]


def _is_loopback(address: str) -> bool:
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return False
