"""World to meaning to Envoy's messages, and the statuses that say how every object stands. Nothing here does I/O."""

from translators import plain_messages  # noqa: F401 - before any of Envoy's messages
from translators.blame import changed_routes
from translators.controllers import CONTROLLER
from translators.memo import Memo
from translators.pool_alone import PoolAlone, translate_pool
from translators.resolve.certificates import SECRETS_WANTED_BY, secrets_wanted
from translators.resolve.versions import DEFINITIONS
from translators.settings import PICKER_CLUSTER, ModelFinder, Placement, Settings
from translators.statuses import Status
from translators.translation import (
    GatewaySummary,
    HostSummary,
    ListenerSummary,
    PoolSummary,
    Resource,
    Translation,
    needs_of_gateways,
    translate,
)

__all__ = [
    "CONTROLLER",
    "DEFINITIONS",
    "PICKER_CLUSTER",
    "SECRETS_WANTED_BY",
    "GatewaySummary",
    "HostSummary",
    "ListenerSummary",
    "Memo",
    "ModelFinder",
    "Placement",
    "PoolAlone",
    "PoolSummary",
    "Resource",
    "Settings",
    "Status",
    "Translation",
    "changed_routes",
    "needs_of_gateways",
    "secrets_wanted",
    "translate",
    "translate_pool",
]
