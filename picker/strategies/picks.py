"""From costs to an order."""

from __future__ import annotations

from math import inf

from picker.decision import Dice

# Envoy walks the list when an attempt fails; its retry policy makes two further attempts.
ALTERNATIVES = 2


def cheapest(costs: list[float], dice: Dice) -> list[int]:
    """Order the cheapest and its alternatives; equals are drawn at random.  Uses up `costs`."""
    if len(costs) == 1:
        return [0]
    chosen = []
    for _ in range(min(len(costs), 1 + ALTERNATIVES)):
        lowest = min(costs)
        place = costs.index(lowest)
        ties = costs.count(lowest)
        if ties > 1:
            for _ in range(int(dice() * ties)):
                place = costs.index(lowest, place + 1)
        chosen.append(place)
        costs[place] = inf
    return chosen
