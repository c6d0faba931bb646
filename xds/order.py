"""Make before break: which types are sent before which (xDS protocol, "Eventual consistency considerations").

Additions and changes go in stages: clusters with their endpoints and secrets, then what listeners refer to beside
routes, then listeners, then routes.  A stage waits for the answers to those before it.  Endpoints and secrets do not
wait for the answer to the clusters: Envoy gives it only when every cluster is warm, that is, when their endpoints have
come (cluster_manager_impl.cc, updateClusterCounts), and so tells that routes may name them.

Removals go the other way, after every change, except that listeners, which refer to routes, go first.
"""

from xds.type_urls import CLUSTER, ENDPOINTS, LISTENER, ROUTES, SCOPED_ROUTES, SECRET, VIRTUAL_HOST

_UPDATE_STAGE = {CLUSTER: 0, ENDPOINTS: 0, SECRET: 0, LISTENER: 2, SCOPED_ROUTES: 3, ROUTES: 4, VIRTUAL_HOST: 5}
_OTHERS_UPDATE_STAGE = 1
_REMOVAL_STAGE = {LISTENER: 0, SCOPED_ROUTES: 1, ROUTES: 2, VIRTUAL_HOST: 3, CLUSTER: 5, ENDPOINTS: 6}
_OTHERS_REMOVAL_STAGE = 4


def update_stage(type_url: str) -> int:
    """Return a type's place among additions and changes; a type waits for those of earlier stages."""
    return _UPDATE_STAGE.get(type_url, _OTHERS_UPDATE_STAGE)


def update_order(type_url: str) -> tuple[int, bool]:
    """Return a sort key: by stage, and clusters before the endpoints that go with them."""
    return update_stage(type_url), type_url != CLUSTER


def removal_stage(type_url: str) -> int:
    """Return a type's place among removals; a type waits for those of earlier stages."""
    return _REMOVAL_STAGE.get(type_url, _OTHERS_REMOVAL_STAGE)
