"""RequestRedirect: the gateway answers with where the client should go."""

from __future__ import annotations

from envoy_data_plane.envoy.config.route import v3 as route

from translators import ir
from translators.features import url_rewrite

_CODE = route.RedirectActionRedirectResponseCode
_CODES = {
    301: _CODE.MOVED_PERMANENTLY,
    302: _CODE.FOUND,
    303: _CODE.SEE_OTHER,
    307: _CODE.TEMPORARY_REDIRECT,
    308: _CODE.PERMANENT_REDIRECT,
}


def action(redirect: ir.Redirect) -> route.RedirectAction:
    """Return the action of a route that redirects; the query stays."""
    made = route.RedirectAction(
        response_code=_CODES[redirect.status],
        scheme_redirect=redirect.scheme,
        host_redirect=redirect.hostname or "",
        port_redirect=redirect.port or 0,
    )
    if redirect.path is not None and redirect.path.kind == "whole":
        made.path_redirect = redirect.path.value
    elif redirect.path is not None:
        text, expression = url_rewrite.of_prefix(redirect.path)
        made.prefix_rewrite, made.regex_rewrite = text or None, expression
    return made
