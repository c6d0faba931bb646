"""From what a World means to what has to be made for it."""

from __future__ import annotations

from collections.abc import Iterator

from resources import Key
from translators import ir
from translators.infrastructure.provision import GatewayNeeds, PickerNeeds
from translators.resolve.meaning import Meaning
from translators.resolve.merging import bound_ports
from translators.resolve.pool_kinds import AnyPool
from translators.settings import Settings


def gateway_needs(meaning: Meaning, settings: Settings) -> Iterator[GatewayNeeds]:
    """Yield what each Gateway asks for, and each class whose Gateways share Envoys."""
    controllers = {each.item.key.name: each.item.spec.controller_name for each in meaning.classes}
    shared = {each.of.item.key.name for each in meaning.shared}
    for state in meaning.gateway_states:
        gateway = state.gateway
        if gateway.spec.gateway_class_name in shared:
            continue
        name = f"{gateway.key.namespace}/{gateway.key.name}"
        ports = sorted({each.port for each in gateway.spec.listeners})
        bound = {port: settings.place(name, port).port for port in ports}
        addresses = state.addresses.usable
        controller = controllers.get(gateway.spec.gateway_class_name, "")
        sound = state.refusal is None
        yield GatewayNeeds(gateway, state.proxy, bound, addresses, sound=sound, controller=controller)
    for each in meaning.shared:
        if each.gateways:
            places = bound_ports((state.gateway for state in each.gateways), settings)
            asked = tuple(dict.fromkeys(value for state in each.gateways for value in state.addresses.usable))
            yield GatewayNeeds(
                each.of.item,
                each.of.proxy,
                {port: places[port].port for port in sorted(places)},
                asked,
                sound=any(state.refusal is None for state in each.gateways),
                home=each.of.home,
                controller=each.of.item.spec.controller_name,
            )


def picker_needs(meaning: Meaning) -> Iterator[PickerNeeds]:
    """Yield our pickers that have Services, each with the pools that it is for."""
    seats: dict[str, ir.Picker] = {}
    found: dict[str, dict[Key, AnyPool]] = {}
    controllers: dict[str, str] = {}
    for each in meaning.seated:
        for seat in each.meaning.seats:
            seats[seat.cluster] = seat
            found.setdefault(seat.cluster, {})[each.pool.key] = each.pool
            controllers[seat.cluster] = min(each.controller, controllers.get(seat.cluster, each.controller))
    for cluster in sorted(seats):
        pools = tuple(found[cluster][key] for key in sorted(found[cluster]))
        yield PickerNeeds(seats[cluster], pools, controllers[cluster])
