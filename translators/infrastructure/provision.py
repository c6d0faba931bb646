"""What is to be there for all Gateways and pools."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from resources import EnvoyProxy, Gateway, Key
from translators import ir
from translators.infrastructure.envoys import envoys_of
from translators.infrastructure.objects import Infrastructure, Made, Owner
from translators.infrastructure.pickers import pickers_of
from translators.resolve.pool_kinds import AnyPool


@dataclass(frozen=True, slots=True)
class GatewayNeeds:
    """What a Gateway asks for. ports: for each of its ports the one that Envoy binds. addresses: the Service's own.

    sound: whether its parameters are right; what was made for it stays as it is while they are not.
    """

    gateway: Gateway
    proxy: EnvoyProxy | None
    ports: Mapping[int, int]
    addresses: tuple[str, ...]
    sound: bool


@dataclass(frozen=True, slots=True)
class PickerNeeds:
    """A picker of ours, and the pools that it is for."""

    seat: ir.Picker
    pools: tuple[AnyPool, ...]


@dataclass(frozen=True, slots=True)
class Provision:
    """What is to be there. untouched: the Gateways for which whatever there is stays."""

    objects: tuple[Made, ...]
    untouched: frozenset[Key]


def provision(
    gateways: Iterable[GatewayNeeds],
    pickers: Iterable[PickerNeeds],
    infrastructure: Infrastructure,
    uids: Mapping[Key, str],
) -> Provision:
    """Return what is to be there; `uids` are those that the API server has for Gateways and pools."""
    objects: list[Made] = []
    untouched = set()
    for each in gateways:
        if not each.sound:
            untouched.add(each.gateway.key)
            continue
        owner = Owner(each.gateway, uids.get(each.gateway.key, ""))
        objects += envoys_of(owner, each.proxy, each.ports, each.addresses, infrastructure)
    for picker in pickers:
        owners = [Owner(pool, uids.get(pool.key, "")) for pool in picker.pools]
        objects += pickers_of(picker.seat, owners, infrastructure)
    return Provision(tuple(objects), frozenset(untouched))
