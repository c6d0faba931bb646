"""Whose fault it is that a client refuses a resource: the object to name to people.  Pure."""

from translators import changed_routes
from xds import Nack

# So many are worth naming; more are no help to anybody who looks for one.
_MOST_NAMED = 3


def origin_of(nack: Nack) -> str:
    """Return the object that a refused resource is made for, and before it the HTTPRoutes that changed it.

    A Gateway's routes are one resource, which a client refuses as a whole. What it held before is known of this
    stream alone: of one that begins with a refusal all is new.
    """
    if nack.refused is None:
        return nack.origin
    routes = changed_routes(nack.held.message if nack.held is not None else None, nack.refused.message)
    if not routes or len(routes) > _MOST_NAMED:
        return nack.origin
    named = routes[0] if len(routes) == 1 else f"one of {', '.join(routes)}"
    return f"{named} on {nack.origin}"
