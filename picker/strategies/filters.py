"""Whom a request may go to at all."""

from __future__ import annotations

from collections.abc import Sequence

from picker.decision import Request
from picker.table import Endpoint, Table


def within_subset(request: Request, _table: Table, endpoints: Sequence[Endpoint]) -> Sequence[Endpoint]:
    """Keep those that the gateway allows for this request."""
    if request.subset is None:
        return endpoints
    return [endpoint for endpoint in endpoints if endpoint.address in request.subset]


def not_avoided(_request: Request, _table: Table, endpoints: Sequence[Endpoint]) -> Sequence[Endpoint]:
    """Keep those that are not avoided; all of them when every one is avoided.

    Avoidance is our opinion: where it would leave nobody, asking a suspected pod is better than a sure 503.
    """
    kept = [endpoint for endpoint in endpoints if not endpoint.avoided]
    return kept or endpoints
