"""The addresses that Gateways ask for: external IPs of the Services that are made for them.

Whether a network leads an address to the cluster is not for us to see. What can be told is that no Service may have it,
and that another Gateway has it already.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address

from resources import Gateway
from translators import ir

_IP_ADDRESS = "IPAddress"


@dataclass(frozen=True, slots=True)
class Addresses:
    """The addresses of a Gateway that can be used, and what is wrong with the others."""

    usable: tuple[str, ...] = ()
    problems: tuple[ir.Problem, ...] = ()


def address_problem(gateway: Gateway) -> ir.Problem | None:
    """Return why a Gateway's addresses cannot be asked for."""
    for number, address in enumerate(gateway.spec.addresses):
        if address.type != _IP_ADDRESS:
            text = f"an address of type {address.type} cannot be asked for, only {_IP_ADDRESS} can"
            return ir.Problem("Accepted", "UnsupportedAddress", text, f"spec.addresses[{number}].type")
    return None


def addresses_of(gateways: Iterable[Gateway], sharing: Container[str] = ()) -> Mapping[tuple[str, str], Addresses]:
    """Return the addresses of Gateways, of which the earlier ones have precedence, by namespace and name.

    sharing: the names of the classes whose Gateways share Envoys, and so addresses.
    """
    holders: dict[tuple[str, int], Gateway] = {}
    found: dict[tuple[str, str], Addresses] = {}
    for gateway in gateways:
        ports = {listener.port for listener in gateway.spec.listeners}
        usable: list[str] = []
        problems: list[ir.Problem] = []
        for number, address in enumerate(gateway.spec.addresses):
            if not address.value or address.type != _IP_ADDRESS:
                continue
            text = _fault(address.value)
            found_at = ((port, holders.get((address.value, port))) for port in sorted(ports))
            taken = next(
                ((port, holder) for port, holder in found_at if holder and not _shared(gateway, holder, sharing)), None
            )
            if text is None and taken is not None:
                text = f"port {taken[0]} of {address.value} belongs to {taken[1].key}"
            if text is None:
                usable.append(address.value)
                holders |= {(address.value, port): gateway for port in ports}
            else:
                problems.append(ir.Problem("Programmed", "AddressNotUsable", text, f"spec.addresses[{number}].value"))
        found[gateway.key.namespace, gateway.key.name] = Addresses(tuple(dict.fromkeys(usable)), tuple(problems))
    return found


def _shared(one: Gateway, other: Gateway, sharing: Container[str]) -> bool:
    """Whether Gateways share their Envoys."""
    name = one.spec.gateway_class_name
    return name in sharing and name == other.spec.gateway_class_name


def _fault(value: str) -> str | None:
    """Say why a Service cannot have an address (core/v1, ServiceSpec.externalIPs)."""
    try:
        address = ip_address(value)
    except ValueError:
        return f"{value} is no IP address"
    if "%" in value:
        return f"{value} is an address of one network interface"
    kinds = {
        "the unspecified address": address.is_unspecified,
        "a loopback address": address.is_loopback,
        "a link-local address": address.is_link_local,
        "a multicast address": address.is_multicast,
    }
    kind = next((name for name, holds in kinds.items() if holds), None)
    return f"{value} is {kind}, by which a Gateway cannot be reached" if kind else None
