"""What `up`, `check` and the control plane read out of a World before it is translated."""

from collections.abc import Iterable

from pointsman.placement import Clash, Host, Places, Wanted
from resources import Gateway, World
from sources import endpoint_slices
from translators import ModelFinder, Settings
from translators.settings import Placement


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


def told(places: Places) -> dict[tuple[str, int], Placement]:
    """Return `places` as the translation is told of them."""
    return {key: Placement(place.address, place.port) for key, place in places.placements.items()}


def settings(host: Host, places: Places, model_finder: ModelFinder | None) -> Settings:
    """Return the translation's settings; without `model_finder` it has its default."""
    chosen: dict[str, ModelFinder] = {} if model_finder is None else {"model_finder": model_finder}
    return Settings(bind=host.bind, placements=told(places), **chosen)  # type: ignore[arg-type] # one known key


def clash_line(clash: Clash) -> str:
    """Say which Gateway has the port that another wants."""
    return f"Gateway {clash.gateway}: port {clash.port} on this address belongs to Gateway {clash.holder}"
