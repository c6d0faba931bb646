"""What HTTPRoutes a table of routes is made of, to tell what changed between two versions of one."""

from __future__ import annotations

import re
from collections.abc import Mapping

from envoy_data_plane.envoy.config.route import v3 as route

_RULE = re.compile("httproute/([^/]+)/([^/]+)/rule/")


def changed_routes(before: object, after: object) -> tuple[str, ...]:
    """Return the HTTPRoutes ("HTTPRoute namespace/name") that have another part in a table than they had before.

    Both are messages; only tables of routes have any to be told.
    """
    known = _routes(before)
    # What has not changed is mostly the same object, which takes no time to see.
    changed = {key: each for key, each in _routes(after).items() if each is not known.get(key)}
    names = (_RULE.match(name) for (host, name), each in changed.items() if each != known.get((host, name)))
    return tuple(sorted({f"HTTPRoute {name[1]}/{name[2]}" for name in names if name is not None}))


def _routes(message: object) -> Mapping[tuple[str, str], route.Route]:
    """Return the routes of a table by the names of their virtual host and their own."""
    if not isinstance(message, route.RouteConfiguration):
        return {}
    return {(host.name, each.name): each for host in message.virtual_hosts for each in host.routes}
