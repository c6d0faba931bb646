"""The meaning of a World: what each Gateway serves, users' mistakes included.

Everything here is immutable, hashable and free of Kubernetes and of Envoy. A node carries no reference to the node
that contains it. Endpoints stand apart from routes and clusters, so that a change of pods touches nothing else.
"""

from translators.ir.filters import NO_CHANGES, Cors, HeaderChanges, HeaderValue, PathChange, Redirect, UrlRewrite
from translators.ir.matches import Match, PathMatch, StringMatch
from translators.ir.pools import (
    Backend,
    Model,
    Objective,
    Picker,
    Pool,
    Rewrite,
    Runtime,
    Service,
    Split,
    Strategy,
    Target,
    Thresholds,
    Unlisted,
)
from translators.ir.problem import ADVICE, Problem
from translators.ir.serving import (
    WHOLE,
    Assignment,
    Certificate,
    Chain,
    Endpoint,
    Gateway,
    Mirror,
    Port,
    Route,
    VirtualHost,
    Weighted,
    certificate_name,
)

__all__ = [
    "ADVICE",
    "NO_CHANGES",
    "WHOLE",
    "Assignment",
    "Backend",
    "Certificate",
    "Chain",
    "Cors",
    "Endpoint",
    "Gateway",
    "HeaderChanges",
    "HeaderValue",
    "Match",
    "Mirror",
    "Model",
    "Objective",
    "PathChange",
    "PathMatch",
    "Picker",
    "Pool",
    "Port",
    "Problem",
    "Redirect",
    "Rewrite",
    "Route",
    "Runtime",
    "Service",
    "Split",
    "Strategy",
    "StringMatch",
    "Target",
    "Thresholds",
    "Unlisted",
    "UrlRewrite",
    "VirtualHost",
    "Weighted",
    "certificate_name",
]
