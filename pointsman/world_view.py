"""What `up`, `check` and the control plane read out of a World before it is translated, if it ever is."""

from collections.abc import Iterable

from pointsman.placement import Wanted
from resources import Gateway, World
from sources import endpoint_slices


def with_slices(world: World) -> World:
    """Return `world` with the EndpointSlices that a cluster would make of it."""
    return world.apply(endpoint_slices.changes(world))


def wanted(world: World) -> Iterable[Wanted]:
    """Return the ports that each Gateway wants."""
    for (namespace, name), gateway in world.all(Gateway).items():
        yield Wanted(
            gateway=f"{namespace}/{name}",
            created=gateway.metadata.creation_timestamp,
            ports=frozenset(listener.port for listener in gateway.spec.listeners),
        )
