"""Objects of a Kubernetes cluster: listed, watched, and written to."""

from sources.kubernetes.api import Api
from sources.kubernetes.applier import Applier, Wanted
from sources.kubernetes.by_name import ByName
from sources.kubernetes.election import Election
from sources.kubernetes.errors import ApiError, ConfigurationError, UnreachableError
from sources.kubernetes.events import Events
from sources.kubernetes.members import Members
from sources.kubernetes.source import Interest, KubernetesSource
from sources.kubernetes.status_writer import MANAGER, StatusWriter
from sources.kubernetes.tokens import review

__all__ = [
    "MANAGER",
    "Api",
    "ApiError",
    "Applier",
    "ByName",
    "ConfigurationError",
    "Election",
    "Events",
    "Interest",
    "KubernetesSource",
    "Members",
    "StatusWriter",
    "UnreachableError",
    "Wanted",
    "review",
]
