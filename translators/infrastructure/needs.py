"""From what a World means to what has to be made for it."""

from __future__ import annotations

from collections.abc import Iterator

from resources import Key
from translators import ir
from translators.infrastructure.provision import GatewayNeeds, PickerNeeds
from translators.resolve.meaning import Meaning
from translators.resolve.pool_kinds import AnyPool
from translators.settings import Settings


def gateway_needs(meaning: Meaning, settings: Settings) -> Iterator[GatewayNeeds]:
    """Yield what each Gateway asks for."""
    for state in meaning.gateway_states:
        gateway = state.gateway
        name = f"{gateway.key.namespace}/{gateway.key.name}"
        ports = sorted({each.port for each in gateway.spec.listeners})
        bound = {port: settings.place(name, port).port for port in ports}
        addresses = state.addresses.usable
        yield GatewayNeeds(gateway, state.proxy, bound, addresses, sound=state.refusal is None)


def picker_needs(meaning: Meaning) -> Iterator[PickerNeeds]:
    """Yield our pickers that have Services, each with the pools that it is for."""
    seats: dict[str, ir.Picker] = {}
    found: dict[str, dict[Key, AnyPool]] = {}
    for each in meaning.seated:
        if each.meaning.seat is not None:
            seats[each.meaning.seat.cluster] = each.meaning.seat
            found.setdefault(each.meaning.seat.cluster, {})[each.pool.key] = each.pool
    for cluster in sorted(seats):
        yield PickerNeeds(seats[cluster], tuple(found[cluster][key] for key in sorted(found[cluster])))
