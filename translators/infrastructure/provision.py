"""What is to be there for all Gateways and pools."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from operator import itemgetter

from resources import EnvoyProxy, Gateway, GatewayClass, Key, Object
from translators import ir
from translators.infrastructure.envoys import certificate_of, envoys_of, name_of, selector_of
from translators.infrastructure.objects import Infrastructure, Made, Owner
from translators.infrastructure.pickers import pickers_of
from translators.parts import part_of_class
from translators.resolve.index import Age, age
from translators.resolve.pool_kinds import AnyPool


@dataclass(frozen=True, slots=True)
class GatewayNeeds:
    """What a Gateway asks for, or a GatewayClass whose Gateways share Envoys.

    ports: for each port the one that Envoy binds. addresses: the Service's own.
    sound: whether its parameters are right; what was made for it stays as it is while they are not. home: the namespace
    of the Envoys of a GatewayClass. controller: the controllerName that all of it is made for.
    """

    owner: Gateway | GatewayClass
    proxy: EnvoyProxy | None
    ports: Mapping[int, int]
    addresses: tuple[str, ...]
    sound: bool
    home: str = ""
    controller: str = ""

    @property
    def part(self) -> str:
        """What its Envoys ask for."""
        key = self.owner.key
        return f"{key.namespace}/{key.name}" if isinstance(self.owner, Gateway) else part_of_class(key.name)

    def place(self, namespace: str) -> tuple[str, str]:
        """Return namespace and name of what is made; `namespace` is that of all Envoys, "" where each has its own."""
        return namespace or self.owner.key.namespace or self.home, name_of(self.owner, namespace)


@dataclass(frozen=True, slots=True)
class PickerNeeds:
    """A picker of ours, the pools that it is for, and the controllerName that it is made for."""

    seat: ir.Picker
    pools: tuple[AnyPool, ...]
    controller: str = ""


@dataclass(frozen=True, slots=True)
class Provision:
    """What is to be there.

    untouched: the labels of what was made for a Gateway or a class, and stays as it is. owners: those of what is made
    for all Gateways and classes that are ours. clashes: by what they would be made for, a line for each object whose
    name an older one's has.
    """

    objects: tuple[Made, ...]
    untouched: frozenset[tuple[tuple[str, str], ...]]
    owners: frozenset[tuple[tuple[str, str], ...]]
    clashes: Mapping[Key, tuple[str, ...]]

    def keeps(self, item: Object) -> bool:
        """Whether something stays as it is that was made, because the parameters of what it was made for are wrong."""
        return _has_one_of(item, self.untouched)

    def is_for_ours(self, item: Object) -> bool:
        """Whether something was made for a Gateway or a class that is ours."""
        return _has_one_of(item, self.owners)


def _has_one_of(item: Object, selectors: Iterable[tuple[tuple[str, str], ...]]) -> bool:
    labels = item.metadata.labels
    return any(all(labels.get(name) == value for name, value in each) for each in selectors)


def provision(
    gateways: Iterable[GatewayNeeds],
    pickers: Iterable[PickerNeeds],
    infrastructure: Infrastructure,
    uids: Mapping[Key, str],
    there: Collection[Key] = (),
) -> Provision:
    """Return what is to be there.

    uids: those that the API server has for Gateways and pools. there: the objects of ours that are there already.
    """
    groups: list[tuple[Age, list[Made]]] = []
    untouched, ours = set(), set()
    for each in gateways:
        selector = tuple(selector_of(each.owner).items())
        ours.add(selector)
        owner = Owner(each.owner, uids.get(each.owner.key, ""), each.controller)
        place = each.place(infrastructure.namespace)
        if not each.sound:
            untouched.add(selector)
            # What expires is renewed all the same.
            secret = certificate_of(owner, each.part, place, infrastructure)
            if secret is not None and secret.key in there:
                groups.append((age(each.owner), [secret]))
            continue
        envoys = envoys_of(owner, each.part, place, each.proxy, each.ports, each.addresses, infrastructure)
        groups.append((age(each.owner), list(envoys)))
    for picker in pickers:
        owners = [Owner(pool, uids.get(pool.key, ""), picker.controller) for pool in picker.pools]
        groups.append((min(map(age, picker.pools)), list(pickers_of(picker.seat, owners, infrastructure))))
    objects, clashes = _apart(groups)
    return Provision(objects, frozenset(untouched), frozenset(ours), clashes)


def _apart(groups: Iterable[tuple[Age, list[Made]]]) -> tuple[tuple[Made, ...], Mapping[Key, tuple[str, ...]]]:
    """Give each name to the oldest that an object of it would be made for (GEP-713, conflict resolution).

    Two Gateways may have the one name `<gateway>-<class>` (GEP-1762), for both parts may have hyphens; and a picker's
    Service may bear it, too.
    """
    groups = list(groups)
    holders: dict[Key, Made] = {}
    for _, group in sorted(groups, key=itemgetter(0)):
        for each in group:
            holders.setdefault(each.key, each)
    clashes: dict[Key, tuple[str, ...]] = {}
    objects = [each for _, group in groups for each in group]
    for each in objects:
        holder = holders[each.key]
        if holder is not each:
            line = f"{each.key}: cannot be made for {each.origin}: {holder.origin} has it already"
            clashes[each.origin] = (*clashes.get(each.origin, ()), line)
    return tuple(each for each in objects if holders[each.key] is each), clashes
