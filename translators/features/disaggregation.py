"""Prefill and decode apart, as SGLang does it, with no proxy of ours in between.

A request goes to a pod that decodes, and a copy of it to one that prefills; both find in the body where they meet,
which the picker wrote there before. So the copy is made by the cluster, not by the route: with weighted backends only
the pool that was drawn has its prefill pods asked. What a prefill pod answers nobody hears; when it fails, the decode
pod does, and answers with the error.

A cluster's mirrors take the place of its routes' (envoy.config.route.v3), so that no rule to such a pool can have a
RequestMirror as well.
"""

from __future__ import annotations

from envoy_data_plane.envoy.config.route import v3 as route

from translators import ir
from translators.emit.packing import milliseconds

LONGEST = milliseconds(600_000)
"""How long a copy may run: twice as long as SGLang's servers wait for one another unless told otherwise."""

RETRY_ON = "connect-failure,refused-stream,reset-before-request"
"""When another pod may decode: only where nothing was sent to the first.

The meeting place is for two, and one that was begun cannot be begun again by a third.
"""


def policies(pool: ir.Pool) -> list[route.RouteActionRequestMirrorPolicy]:
    """Return what makes the pool's cluster send copies."""
    # The copy is to be the request, not one for "host-shadow".
    return [route.RouteActionRequestMirrorPolicy(cluster=pool.prefill_cluster, disable_shadow_host_suffix_append=True)]
