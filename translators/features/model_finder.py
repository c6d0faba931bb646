"""Finding the model in a request's body, natively, and choosing the route by it.

A rule that matches on the model cannot be chosen before the body is read. In its place stands a route that examines: it
turns a filter on that searches the body, sets X-Gateway-Model-Name, marks the request as examined and has Envoy choose
again. Only requests that such a rule could take, were the model right, meet an examining route.

The two finders differ in what they accept; docs/decisions/0002-finding-the-model.md compares them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from envoy_data_plane.envoy.config.route import v3 as route
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager import v3 as hcm
from envoy_data_plane.envoy.type.matcher import v3 as matcher
from envoy_data_plane.google.protobuf import Any

from translators.features import model_in_ai_protocol_manager, model_in_lua
from translators.headers import EXAMINED, MODEL
from translators.settings import ModelFinder, Settings

# Envoy's regular expressions see bytes (RE2 in Latin-1), so the C1 controls U+0080-U+009F are given as UTF-8; in it the
# byte C2 followed by one of these is nothing else.
CONTROL_CHARACTER = r"[\x00-\x1f\x7f]|\xc2[\x80-\x9f]"
HAS_CONTROL_CHARACTER = rf"(?s).*({CONTROL_CHARACTER}).*"

NO_JSON = "The request body must be a JSON object."
BAD_MODEL = "The `model` of a request must be a non-empty string without control characters."
NO_MODEL = "The request must name its `model`, at the top level of a JSON object."


@dataclass(frozen=True, slots=True)
class Refusal:
    """Examined requests that no rule may take: the routes that catch them, and what they are told (400)."""

    name: str
    header: route.HeaderMatcher
    message: str


def filters(settings: Settings) -> tuple[hcm.HttpFilter, ...]:
    """Return the filters in their order; all of them run only where a route examines."""
    if settings.model_finder == "ai_protocol_manager":
        return model_in_ai_protocol_manager.filters()
    return model_in_lua.filters()


def on_examining_route(finder: ModelFinder, *, read_body: bool) -> Mapping[str, Any]:
    """Return what makes a route examine requests. Without `read_body` they are only marked: they can have no model."""
    if finder == "ai_protocol_manager":
        return model_in_ai_protocol_manager.on_examining_route(read_body=read_body)
    return model_in_lua.on_examining_route(read_body=read_body)


def refusals(finder: ModelFinder) -> tuple[Refusal, ...]:
    """Return what examined requests are refused for. The AI Protocol Manager refuses invalid JSON by itself."""
    if finder == "ai_protocol_manager":
        expression = matcher.StringMatcher(safe_regex=matcher.RegexMatcher(regex=HAS_CONTROL_CHARACTER))
        return (Refusal("control-character", route.HeaderMatcher(name=MODEL, string_match=expression), BAD_MODEL),)
    return tuple(
        Refusal(said, route.HeaderMatcher(name=EXAMINED, string_match=matcher.StringMatcher(exact=said)), message)
        for said, message in ((model_in_lua.NO_JSON, NO_JSON), (model_in_lua.NO_NAME, BAD_MODEL))
    )
