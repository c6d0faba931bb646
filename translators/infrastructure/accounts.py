"""Whose pods are Envoys of which Gateway, or pickers of which Service: by their service accounts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from translators.infrastructure.provision import GatewayNeeds, PickerNeeds


@dataclass(frozen=True, slots=True)
class Account:
    """A service account, and whether its pods are pickers; otherwise they are Envoys."""

    namespace: str
    name: str
    picker: bool = False


def accounts(gateways: Iterable[GatewayNeeds], pickers: Iterable[PickerNeeds], namespace: str) -> Mapping[str, Account]:
    """Return the account that may ask for each part: that of Envoys or a picker's cluster.

    namespace: that of all Envoys, "" where each has its Gateway's.
    """
    found: dict[str, Account] = {}
    for each in gateways:
        found[each.part] = Account(*each.place(namespace))
    for picker in pickers:
        found[picker.seat.cluster] = Account(picker.seat.namespace, picker.seat.service, picker=True)
    return found
