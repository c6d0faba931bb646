"""From costs to an order."""

from __future__ import annotations

from math import inf

from picker.decision import Dice

# Envoy walks the list when an attempt fails; its retry policy makes five further attempts.
ALTERNATIVES = 5
# So many are the next cheapest; the others only have to be others, should many pods go at once.
_CHEAP = 2


def cheapest(costs: list[float], dice: Dice) -> list[int]:
    """Order the cheapest and its alternatives; equals are drawn at random.  Uses up `costs`."""
    number = len(costs)
    if number == 1:
        return [0]
    chosen = []
    for _ in range(min(number, 1 + _CHEAP)):
        lowest = min(costs)
        place = costs.index(lowest)
        ties = costs.count(lowest)
        if ties > 1:
            for _ in range(int(dice() * ties)):
                place = costs.index(lowest, place + 1)
        chosen.append(place)
        costs[place] = inf
    place = int(dice() * number) if number > 1 + ALTERNATIVES else 0
    while len(chosen) < min(number, 1 + ALTERNATIVES):
        if place not in chosen:
            chosen.append(place)
        place = (place + 1) % number
    return chosen
