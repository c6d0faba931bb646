"""The translation's settings, made of this machine and of the operator's choices."""

from pointsman.placement import Host, Places
from translators import ModelFinder, Placement, Settings


def told(places: Places) -> dict[tuple[str, int], Placement]:
    """Return `places` as the translation is told of them."""
    return {key: Placement(place.address, place.port) for key, place in places.placements.items()}


def settings(host: Host, places: Places, model_finder: ModelFinder | None) -> Settings:
    """Return the translation's settings; without `model_finder` it has its default."""
    chosen: dict[str, ModelFinder] = {} if model_finder is None else {"model_finder": model_finder}
    return Settings(bind=host.bind, placements=told(places), **chosen)  # type: ignore[arg-type] # one known key
