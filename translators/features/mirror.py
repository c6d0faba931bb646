"""RequestMirror: a copy of each request, or of a share of them, whose answer nobody waits for.

A mirror goes to a cluster of its own beside that of the backend, with the same endpoints: a copy must end some day even
where its route has no timeout, it is never retried, and the pick of the request itself is not its own. The pick for a
copy travels in a header, since a copy does not see the request's metadata; without one Envoy balances.
"""

from __future__ import annotations

from collections.abc import Iterable

from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.config.route import v3 as route
from envoy_data_plane.envoy.type import v3 as envoy_type

from translators import ir
from translators.emit.packing import milliseconds

LONGEST = milliseconds(3_600_000)
"""How long a copy may run where its route's timeout is not shorter."""


def policies(mirrors: Iterable[ir.Mirror]) -> list[route.RouteActionRequestMirrorPolicy]:
    """Return what makes a route send copies."""
    return [
        route.RouteActionRequestMirrorPolicy(
            cluster=mirror.cluster,
            runtime_fraction=_fraction(mirror.millionths),
            # The copy is to be the request, not one for "host-shadow".
            disable_shadow_host_suffix_append=True,
        )
        for mirror in mirrors
    ]


def _fraction(millionths: int) -> core.RuntimeFractionalPercent | None:
    if millionths == ir.WHOLE:
        return None
    share = envoy_type.FractionalPercent(
        numerator=millionths, denominator=envoy_type.FractionalPercentDenominatorType.MILLION
    )
    return core.RuntimeFractionalPercent(default_value=share)
