"""The controllers of a cluster: whose a Gateway is, and whose an object that was made.

What is made bears the controllerName of the GatewayClass that it is made for. So it stays one's own through restarts,
upgrades and among replicas, and whoever takes over a controllerName takes over what was made for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from resources import Gateway, GatewayClass, World
from translators.names import label_value

CONTROLLER = "pointsman.dev/gateway-controller"
"""The controller's name where no GatewayClass gives one."""

CONTROLLER_LABEL = "pointsman.dev/controller"
"""On everything that is made: the controllerName that it is made for, as `label_of` writes it."""


def label_of(controller: str) -> str:
    """Return a controllerName as a label's value, distinct for distinct names."""
    # No domain has an underscore.
    return label_value(controller.replace("/", "_", 1))


def principal_of(controllers: Iterable[str] | None) -> str:
    """Return the one of a controller's names by which it speaks of what belongs to no Gateway; None: of a folder."""
    names = sorted(controllers or (CONTROLLER,))
    return CONTROLLER if CONTROLLER in names else names[0]


def is_of_another(labels: Mapping[str, str], controllers: frozenset[str] | None) -> bool:
    """Whether an object was made by another controller; one that bears no name is from before there were names."""
    value = labels.get(CONTROLLER_LABEL)
    return value is not None and controllers is not None and value not in {label_of(each) for each in controllers}


def gateways_of(world: World, controllers: frozenset[str] | None) -> Iterator[Gateway]:
    """Yield the Gateways that are ours: those of a GatewayClass with one of our names; in a folder (None), all."""
    for gateway in world.all(Gateway).values():
        found = world.get(GatewayClass, "", gateway.spec.gateway_class_name)
        if controllers is None or (found is not None and found.spec.controller_name in controllers):
            yield gateway


def gateways_of_others(world: World, controllers: frozenset[str] | None) -> frozenset[tuple[str, str]]:
    """Return the Gateways (namespace and name) of other controllers' GatewayClasses."""
    if controllers is None:
        return frozenset()
    theirs = {
        each.key.name for each in world.all(GatewayClass).values() if each.spec.controller_name not in controllers
    }
    if not theirs:
        return frozenset()
    return frozenset(name for name, each in world.all(Gateway).items() if each.spec.gateway_class_name in theirs)
