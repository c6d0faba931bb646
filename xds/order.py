"""Make before break: which types are sent before which (xDS protocol, "Eventual consistency considerations").

Additions and changes go CDS, EDS, what these and listeners refer to (secrets, filters' own configuration, pools), LDS,
RDS; removals go the other way, after every change, except that listeners, which refer to routes, go first.
"""

from xds.type_urls import CLUSTER, ENDPOINTS, LISTENER, ROUTES, SCOPED_ROUTES, VIRTUAL_HOST

_OTHERS = 2
_UPDATE_RANK = {CLUSTER: 0, ENDPOINTS: 1, LISTENER: 3, SCOPED_ROUTES: 4, ROUTES: 5, VIRTUAL_HOST: 6}
_REMOVAL_RANK = {LISTENER: 0, SCOPED_ROUTES: 1, ROUTES: 2, VIRTUAL_HOST: 3, CLUSTER: 5, ENDPOINTS: 6}
_REMOVAL_OTHERS = 4


def update_rank(type_url: str) -> int:
    """Return a type's place among additions and changes; a type waits for those of a lower rank."""
    return _UPDATE_RANK.get(type_url, _OTHERS)


def removal_rank(type_url: str) -> int:
    """Return a type's place among removals; a type waits for those of a lower rank."""
    return _REMOVAL_RANK.get(type_url, _REMOVAL_OTHERS)
