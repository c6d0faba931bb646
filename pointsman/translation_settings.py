"""The translation's settings, made of this machine and of the operator's choices."""

import sys
from typing import Any

from pointsman.placement import Places
from translators import ModelFinder, Placement, Settings


def told(places: Places) -> dict[tuple[str, int], Placement]:
    """Return `places` as the translation is told of them."""
    return {key: Placement(place.address, place.port) for key, place in places.placements.items()}


def refused(places: Places) -> dict[tuple[str, int], str]:
    """Return the ports that got no place, with the Gateways that have them."""
    return {(clash.gateway, clash.port): clash.holder for clash in places.clashes}


def settings(bind: str, model_finder: ModelFinder | None, places: Places | None = None) -> Settings:
    """Return the translation's settings; without `model_finder` it has its default."""
    # In a folder Envoy runs here, and in a cluster both run on Linux.
    chosen: dict[str, Any] = {"user_timeout": sys.platform == "linux"}
    if model_finder is not None:
        chosen["model_finder"] = model_finder
    if places is not None:
        chosen |= {"placements": told(places), "unplaced": refused(places)}
    return Settings(bind=bind, **chosen)
