"""Finding the model in a request's body, natively, and choosing the route by it.

A rule that matches on the model cannot be chosen before the body is read. In its place stands a route that examines: it
turns the filters here on, which search the body, set X-Gateway-Model-Name, mark the request as examined and let Envoy
choose again. Only requests that such a rule could take, were the model right, meet an examining route.

The two finders differ in what they accept; docs/decisions/0002-finding-the-model.md compares them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from envoy_data_plane.envoy.config.common.mutation_rules import v3 as mutation_rules
from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.config.route import v3 as route
from envoy_data_plane.envoy.extensions.filters.http.header_mutation import v3 as header_mutation
from envoy_data_plane.envoy.extensions.filters.http.json_to_metadata import v3 as json_to_metadata
from envoy_data_plane.envoy.extensions.filters.http.set_filter_state import v3 as set_filter_state
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager import v3 as hcm
from envoy_data_plane.envoy.type.matcher import v3 as matcher
from envoy_data_plane.google.protobuf import Any, Value

from protos.pointsman.envoy.v1 import ai_protocol_manager_pb2 as ai
from translators.emit.packing import TYPE_PREFIX, http_filter, pack, pack_as
from translators.headers import EXAMINED, MODEL
from translators.settings import ModelFinder, Settings

JSON_TO_METADATA = "envoy.filters.http.json_to_metadata"
AI_PROTOCOL_MANAGER = "envoy.filters.http.ai_protocol_manager"
HEADER = "envoy.filters.http.header_mutation"
CHOOSE_AGAIN = "envoy.filters.http.set_filter_state"

AI_MESSAGES = "envoy.extensions.filters.http.ai_protocol_manager.v3."
REQUEST_INFO = "envoy.extensions.http.ai_filters.request_info.v3.RequestInfo"

FOUND = "pointsman.model"
"""The metadata namespace of json_to_metadata's findings: `name` as it stands in the body, or `state`."""

# Envoy's regular expressions see bytes (RE2 in Latin-1), so the C1 controls U+0080-U+009F are given as UTF-8; in it the
# byte C2 followed by one of these is nothing else.
CONTROL_CHARACTER = r"[\x00-\x1f\x7f]|\xc2[\x80-\x9f]"
HAS_CONTROL_CHARACTER = rf"(?s).*({CONTROL_CHARACTER}).*"

NOT_AN_OBJECT = "The request body must be a JSON object."
BAD_MODEL = "The `model` of a request must be a non-empty string without control characters."
NO_MODEL = "The request must name its `model`, at the top level of a JSON object."


@dataclass(frozen=True, slots=True)
class Refusal:
    """Examined requests that no rule may take: the routes that catch them, and what they are told (400)."""

    name: str
    headers: tuple[route.HeaderMatcher, ...]
    metadata: tuple[matcher.MetadataMatcher, ...]
    message: str


def filters(settings: Settings) -> tuple[hcm.HttpFilter, ...]:
    """Return the filters in their order; all of them run only where a route examines."""
    idle_header = header_mutation.HeaderMutation(mutations=header_mutation.Mutations())
    return (
        _finder(settings.model_finder),
        http_filter(HEADER, pack(idle_header), disabled=True),
        http_filter(CHOOSE_AGAIN, pack(set_filter_state.Config(clear_route_cache=True)), disabled=True),
    )


@lru_cache(maxsize=4)
def on_examining_route(finder: ModelFinder, *, read_body: bool) -> Mapping[str, Any]:
    """Return what makes a route examine requests. Without `read_body` they are only marked: they can have no model."""
    set_headers = [_set_header(EXAMINED, "1")]
    config: dict[str, Any] = {}
    if read_body:
        set_headers.insert(0, _set_header(MODEL, _format(finder)))
        config |= _read_body(finder)
    mutations = header_mutation.Mutations(request_mutations=set_headers)
    config[HEADER] = pack(header_mutation.HeaderMutationPerRoute(mutations=mutations))
    config[CHOOSE_AGAIN] = pack(set_filter_state.Config(clear_route_cache=True))
    return config


def refusals(finder: ModelFinder) -> tuple[Refusal, ...]:
    """Return what examined requests are refused for. The AI Protocol Manager refuses invalid JSON by itself."""
    control = route.HeaderMatcher(name=MODEL, string_match=_regex(HAS_CONTROL_CHARACTER))
    shared = (Refusal("control-character", (control,), (), BAD_MODEL),)
    if finder == "ai_protocol_manager":
        return shared
    not_json = _found("state", matcher.ValueMatcher(string_match=matcher.StringMatcher(exact="error")))
    present = _found("name", matcher.ValueMatcher(present_match=True))
    no_text = _found("name", matcher.ValueMatcher(string_match=_regex("(?s).+")), invert=True)
    return (
        Refusal("not-json", (), (not_json,), NOT_AN_OBJECT),
        Refusal("no-string", (), (present, no_text), BAD_MODEL),
        *shared,
    )


def _finder(finder: ModelFinder) -> hcm.HttpFilter:
    if finder == "ai_protocol_manager":
        info = ai.TypedExtensionConfig(name="request_info")
        info.typed_config.type_url = TYPE_PREFIX + REQUEST_INFO
        # Bodies go on byte for byte: a model server must see what the client signed, hashed or counted.
        handling = ai.RequestHandling(reserialize_body=ai.RequestHandling.DISABLE)
        config = ai.AiProtocolManager(request_handling=handling, filters=[info])
        return http_filter(AI_PROTOCOL_MANAGER, pack_as(AI_MESSAGES + "AiProtocolManager", config), disabled=True)
    return http_filter(JSON_TO_METADATA, pack(_json_to_metadata()), disabled=True)


def _read_body(finder: ModelFinder) -> Mapping[str, Any]:
    if finder == "ai_protocol_manager":
        # Any protocol's `model` is at the top level, so one value does for chat, completions and embeddings alike.
        request = ai.AiProtocolManagerPerRoute.RequestPerRoute(llm_protocol=ai.OPENAI_CHAT_COMPLETIONS)
        per_route = ai.AiProtocolManagerPerRoute(request=request)
        return {AI_PROTOCOL_MANAGER: pack_as(AI_MESSAGES + "AiProtocolManagerPerRoute", per_route)}
    return {JSON_TO_METADATA: pack(_json_to_metadata())}


def _json_to_metadata() -> json_to_metadata.JsonToMetadata:
    def state(value: str) -> json_to_metadata.JsonToMetadataKeyValuePair:
        return json_to_metadata.JsonToMetadataKeyValuePair(
            metadata_namespace=FOUND, key="state", value=Value(string_value=value)
        )

    rule = json_to_metadata.JsonToMetadataRule(
        selectors=[json_to_metadata.JsonToMetadataSelector(key="model")],
        on_present=json_to_metadata.JsonToMetadataKeyValuePair(metadata_namespace=FOUND, key="name"),
        on_missing=state("missing"),
        on_error=state("error"),
    )
    return json_to_metadata.JsonToMetadata(
        request_rules=json_to_metadata.JsonToMetadataMatchRules(
            rules=[rule],
            # curl sends JSON as a form unless told otherwise; the body decides, not what it is called.
            allow_content_types_regex=matcher.RegexMatcher(regex=".*"),
            allow_empty_content_type=True,
        )
    )


def _format(finder: ModelFinder) -> str:
    if finder == "ai_protocol_manager":
        return "%FILTER_STATE(envoy.ai.model.request:PLAIN)%"
    return f"%DYNAMIC_METADATA({FOUND}:name)%"


def _set_header(name: str, value: str) -> mutation_rules.HeaderMutation:
    return mutation_rules.HeaderMutation(
        append=core.HeaderValueOption(
            header=core.HeaderValue(key=name, value=value),
            append_action=core.HeaderValueOptionHeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD,
        )
    )


def _regex(expression: str) -> matcher.StringMatcher:
    return matcher.StringMatcher(safe_regex=matcher.RegexMatcher(regex=expression))


def _found(key: str, value: matcher.ValueMatcher, *, invert: bool = False) -> matcher.MetadataMatcher:
    path = [matcher.MetadataMatcherPathSegment(key=key)]
    return matcher.MetadataMatcher(filter=FOUND, path=path, value=value, invert=invert)
