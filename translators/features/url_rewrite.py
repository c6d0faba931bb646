"""URLRewrite: the host and the path that the backend sees.

A prefix is replaced by whole path elements (HTTPPathModifier): "/a/b" with the prefix "/a" and the replacement "/x" or
"/x/" becomes "/x/b", and with an empty one "/b".
"""

from __future__ import annotations

from envoy_data_plane.envoy.config.route import v3 as route
from envoy_data_plane.envoy.type.matcher import v3 as matcher

from translators import ir
from translators.expressions import prefix_removal
from translators.features.header_modifier import literal


def apply(rewrite: ir.UrlRewrite, action: route.RouteAction) -> None:
    """Have a route's action rewrite what it forwards."""
    action.host_rewrite_literal = rewrite.hostname
    if rewrite.path is None:
        return
    if rewrite.path.kind == "whole":
        action.path_rewrite = literal(rewrite.path.value)
    else:
        action.prefix_rewrite, action.regex_rewrite = of_prefix(rewrite.path)


def of_prefix(path: ir.PathChange) -> tuple[str, matcher.RegexMatchAndSubstitute | None]:
    """Return Envoy's replacement of a prefix: the text that takes its place, or "" and an expression."""
    if not path.prefix:
        # The match is for "/", which is replaced with its slash.
        return path.value + "/", None
    if path.value:
        return path.value, None
    # To Envoy an empty text is none, and "/" would stand before the slash that follows the prefix.
    expression = matcher.RegexMatcher(regex=prefix_removal(path.prefix))
    return "", matcher.RegexMatchAndSubstitute(pattern=expression, substitution="/")
