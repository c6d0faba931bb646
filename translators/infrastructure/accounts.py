"""Whose pods are Envoys of which Gateway, or pickers of which Service: by their service accounts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from translators.infrastructure.provision import GatewayNeeds, PickerNeeds
from translators.resolve.index import age


@dataclass(frozen=True, slots=True)
class Account:
    """A service account, and whether its pods are pickers; otherwise they are Envoys."""

    namespace: str
    name: str
    picker: bool = False


def accounts(gateways: Iterable[GatewayNeeds], pickers: Iterable[PickerNeeds], namespace: str) -> Mapping[str, Account]:
    """Return the account that may ask for each part: that of Envoys or a picker's cluster.

    namespace: that of all Envoys, "" where each has its Gateway's. Where two Gateways would have one account it is the
    older one's, as all that is made (`provision`).
    """
    found: dict[str, Account] = {}
    of_envoys: set[Account] = set()
    for each in sorted(gateways, key=lambda needs: age(needs.owner)):
        account = Account(*each.place(namespace))
        if account not in of_envoys:
            found[each.part] = account
            of_envoys.add(account)
    for picker in pickers:
        found[picker.seat.cluster] = Account(picker.seat.namespace, picker.seat.service, picker=True)
    return found
