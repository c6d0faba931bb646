"""Finding the model in a request's body with Envoy's AI Protocol Manager, which reads and checks all of its JSON."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from envoy_data_plane.envoy.config.common.mutation_rules import v3 as mutation_rules
from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.extensions.filters.http.header_mutation import v3 as header_mutation
from envoy_data_plane.envoy.extensions.filters.http.set_filter_state import v3 as set_filter_state
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager import v3 as hcm
from envoy_data_plane.google.protobuf import Any

from protos.pointsman.envoy.v1 import ai_protocol_manager_pb2 as ai
from translators.emit.packing import TYPE_PREFIX, http_filter, pack, pack_as
from translators.headers import EXAMINED, MODEL

NAME = "envoy.filters.http.ai_protocol_manager"
HEADER = "envoy.filters.http.header_mutation"
CHOOSE_AGAIN = "envoy.filters.http.set_filter_state"

_MESSAGES = "envoy.extensions.filters.http.ai_protocol_manager.v3."
_REQUEST_INFO = "envoy.extensions.http.ai_filters.request_info.v3.RequestInfo"
_FOUND = "%FILTER_STATE(envoy.ai.model.request:PLAIN)%"


def filters() -> tuple[hcm.HttpFilter, ...]:
    """Return the filters in their order; all of them run only where a route examines."""
    info = ai.TypedExtensionConfig(name="request_info")
    info.typed_config.type_url = TYPE_PREFIX + _REQUEST_INFO
    # Bodies go on byte for byte: a model server must see what the client signed, hashed or counted.
    handling = ai.RequestHandling(reserialize_body=ai.RequestHandling.DISABLE)
    config = ai.AiProtocolManager(request_handling=handling, filters=[info])
    idle_header = header_mutation.HeaderMutation(mutations=header_mutation.Mutations())
    return (
        http_filter(NAME, pack_as(_MESSAGES + "AiProtocolManager", config), disabled=True),
        http_filter(HEADER, pack(idle_header), disabled=True),
        http_filter(CHOOSE_AGAIN, pack(set_filter_state.Config(clear_route_cache=True)), disabled=True),
    )


@cache
def on_examining_route(*, read_body: bool) -> Mapping[str, Any]:
    """Return what makes a route examine requests."""
    set_headers = [_set_header(EXAMINED, "1")]
    config: dict[str, Any] = {}
    if read_body:
        set_headers.insert(0, _set_header(MODEL, _FOUND))
        # Any protocol's `model` is at the top level, so one value does for chat, completions and embeddings alike.
        request = ai.AiProtocolManagerPerRoute.RequestPerRoute(llm_protocol=ai.OPENAI_CHAT_COMPLETIONS)
        per_route = ai.AiProtocolManagerPerRoute(request=request)
        config[NAME] = pack_as(_MESSAGES + "AiProtocolManagerPerRoute", per_route)
    mutations = header_mutation.Mutations(request_mutations=set_headers)
    config[HEADER] = pack(header_mutation.HeaderMutationPerRoute(mutations=mutations))
    config[CHOOSE_AGAIN] = pack(set_filter_state.Config(clear_route_cache=True))
    return config


def _set_header(name: str, value: str) -> mutation_rules.HeaderMutation:
    return mutation_rules.HeaderMutation(
        append=core.HeaderValueOption(
            header=core.HeaderValue(key=name, value=value),
            append_action=core.HeaderValueOptionHeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD,
        )
    )
