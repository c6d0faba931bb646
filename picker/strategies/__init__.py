"""The strategies: profiles composed of filters, scorers and a pick, one for each `pool_pb2.Strategy`.

A scorer is a function in a file of its family and one line here, with its weight: what a cost of 1.0 by that scorer
weighs against one request that has to wait.  Nothing here or in the families awaits, reads a clock or draws a die.

The default adds up

    queue + kv_cache + occupancy + prefill + 2 * lora

so a pod with nobody waiting and nothing to compute comes before one with somebody waiting or long prompts to compute;
among those, the emptier one; and an adapter goes where it is loaded unless that pod is much the fuller.

The prefix cache's adds up

    line + kv_cache + company + prefill + lora / 2 + 4 * prefix_cache + overload

where a few requests are taken for nothing (`line` and `company` in the places of `queue` and `occupancy`), and lora
counts for less, since an adapter's prompts are cached where it is loaded.

So a prompt goes where it is cached unless that makes it wait for four times as many tokens of others as it spares the
pod.  Four times, since what is computed twice also keeps all those waiting that come after, and drives out of the
cache what they would have found there.  From the pod that takes what spills over a prefix is cached from then on: one
that everybody uses spreads over as many pods as it takes.
"""

from __future__ import annotations

from collections.abc import Mapping

from picker.decision import NO_READY_ENDPOINT, Profile
from picker.strategies.filters import SATURATED, not_avoided, room_for_sheddable, within_subset
from picker.strategies.load import company, kv_cache, line, occupancy, prefill, queue
from picker.strategies.lora import lora
from picker.strategies.picks import cheapest
from picker.strategies.prefix import overload, prefix_cache
from protos.pointsman.picker.v1.pool_pb2 import STRATEGY_DEFAULT, STRATEGY_PREFIX_CACHE

_FILTERS = (
    (within_subset, NO_READY_ENDPOINT),
    (not_avoided, NO_READY_ENDPOINT),
    (room_for_sheddable, SATURATED),
)
_LOAD = (
    (queue, 1.0),
    (kv_cache, 1.0),
    (occupancy, 1.0),
    (prefill, 1.0),
    (lora, 2.0),
)
_PREFIX = (
    (line, 1.0),
    (kv_cache, 1.0),
    (company, 1.0),
    (prefill, 1.0),
    (lora, 0.5),
    (prefix_cache, 4.0),
    (overload, 1.0),
)

DEFAULT = Profile(_FILTERS, _LOAD, cheapest)

PROFILES: Mapping[int, Profile] = {
    STRATEGY_DEFAULT: DEFAULT,
    STRATEGY_PREFIX_CACHE: Profile(_FILTERS, _PREFIX, cheapest, reads_prompt=True),
}
