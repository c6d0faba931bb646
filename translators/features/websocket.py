"""WebSockets: connections that begin as a request and go on as a stream of their own, in both directions.

Every listener lets them through to Services. To pools it does not: there a request has an end, at which it is picked
for, renamed and counted.
"""

from __future__ import annotations

from envoy_data_plane.envoy.config.route import v3 as route
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager import v3 as hcm

_TYPE = "websocket"


def on_listener() -> list[hcm.HttpConnectionManagerUpgradeConfig]:
    """Return what makes a listener let them through."""
    return [hcm.HttpConnectionManagerUpgradeConfig(upgrade_type=_TYPE)]


def off_route() -> list[route.RouteActionUpgradeConfig]:
    """Return what makes a route refuse them."""
    return [route.RouteActionUpgradeConfig(upgrade_type=_TYPE, enabled=False)]
