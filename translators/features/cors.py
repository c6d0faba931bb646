"""CORS: what scripts of other origins may do, told to browsers.

The filter stands in every chain and does nothing where a route has no policy. It follows the filters that find the
model, so that it sees the policy of the rule that was chosen in the end.

A browser asks beforehand (a preflight) with a request that has another method, no body and none of the script's
headers, and so cannot match a rule that has conditions on these. For such rules it is answered behind all others.
Envoy looks at the policies of routes that lead to a cluster only, not at those of redirects and of its own answers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache

from envoy_data_plane.envoy.config.route import v3 as route
from envoy_data_plane.envoy.extensions.filters.http.cors import v3 as cors
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager import v3 as hcm
from envoy_data_plane.envoy.type.matcher import v3 as matcher
from envoy_data_plane.google.protobuf import Any

from translators import expressions, ir
from translators.emit.packing import http_filter, pack
from translators.settings import Settings

NAME = "envoy.filters.http.cors"
ANY = "*"

PREFLIGHT = (
    route.HeaderMatcher(name=":method", string_match=matcher.StringMatcher(exact="OPTIONS")),
    route.HeaderMatcher(name="origin", present_match=True),
    route.HeaderMatcher(name="access-control-request-method", present_match=True),
)
"""What a preflight is told by (Fetch, CORS-preflight request)."""


def filters(_settings: Settings) -> tuple[hcm.HttpFilter, ...]:
    """Return the filter."""
    return (http_filter(NAME, pack(cors.Cors())),)


@lru_cache(maxsize=4096)
def on_route(policy: ir.Cors) -> Mapping[str, Any]:
    """Return what makes a route have this policy."""
    exposed = policy.exposed
    if policy.credentials and ANY in exposed:
        # With credentials "*" is a header's name (Fetch), and must not be sent (HTTPCORSFilter.exposeHeaders).
        exposed = tuple(name for name in exposed if name != ANY)
    return {
        NAME: pack(
            cors.CorsPolicy(
                allow_origin_string_match=[_origin(each) for each in policy.origins],
                allow_methods=", ".join(policy.methods),
                allow_headers=", ".join(policy.headers),
                expose_headers=", ".join(exposed),
                max_age=str(policy.max_age),
                allow_credentials=policy.credentials,
                # The answer to a preflight is the gateway's, whatever it says.
                forward_not_matching_preflights=False,
            )
        )
    }


def preflights(rules: Iterable[ir.Route]) -> list[tuple[ir.Match, ir.Cors]]:
    """Return what preflights look like that no rule with a policy takes, and the policies, in order of precedence."""
    found: dict[ir.Match, ir.Cors] = {}
    for rule in rules:
        match = rule.match
        if rule.cors is not None and (match.headers or match.method or rule.model):
            found.setdefault(ir.Match(match.path, query=match.query), rule.cors)
    return list(found.items())


def _origin(origin: str) -> matcher.StringMatcher:
    if ANY not in origin:
        return matcher.StringMatcher(exact=origin, ignore_case=True)
    if origin == ANY:
        return matcher.StringMatcher(safe_regex=matcher.RegexMatcher(regex=".*"))
    return matcher.StringMatcher(safe_regex=matcher.RegexMatcher(regex=expressions.origin(origin)))
