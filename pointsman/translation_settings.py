"""The translation's settings, made of this machine and of the operator's choices."""

from collections.abc import Mapping

from pointsman.placement import Places
from translators import ModelFinder, Placement, Settings


def told(places: Places) -> dict[tuple[str, int], Placement]:
    """Return `places` as the translation is told of them."""
    return {key: Placement(place.address, place.port) for key, place in places.placements.items()}


def settings(
    bind: str, model_finder: ModelFinder | None, placements: Mapping[tuple[str, int], Placement] | None = None
) -> Settings:
    """Return the translation's settings; without `model_finder` it has its default."""
    chosen: dict[str, ModelFinder] = {} if model_finder is None else {"model_finder": model_finder}
    return Settings(bind=bind, placements=placements or {}, **chosen)  # type: ignore[arg-type] # one known key
