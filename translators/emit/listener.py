"""A port of a Gateway as Envoy's listener and its route configuration.

The listener depends on the port, its policies, the names of its certificates and our pickers, never on routes: a change
of a listener replaces it, and running event streams end with the drain time of the old one. Where only chains differ,
Envoy keeps the others with their connections.
"""

from __future__ import annotations

from collections.abc import Callable

from envoy_data_plane.envoy.config.common.mutation_rules import v3 as mutation_rules
from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.config.listener import v3 as listener
from envoy_data_plane.envoy.extensions.filters.http.router import v3 as router
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager import v3 as hcm
from envoy_data_plane.envoy.extensions.http.early_header_mutation.header_mutation import v3 as early
from envoy_data_plane.google.protobuf import Any

from translators import ir
from translators.emit.packing import extension, http_filter, pack, pack_merged
from translators.features import (
    access_log,
    body_limit,
    cors,
    foreign_picker,
    local_replies,
    model_finder,
    picked_only,
    picker,
    subset_hint,
    tls_termination,
    token_usage,
    websocket,
)
from translators.headers import CLIENT_MAY_NOT_SET
from translators.settings import Settings


def _router(_settings: Settings) -> tuple[hcm.HttpFilter, ...]:
    return (http_filter("envoy.filters.http.router", pack(router.Router(suppress_envoy_headers=True))),)


HTTP_FILTERS: tuple[Callable[[Settings], tuple[hcm.HttpFilter, ...]], ...] = (
    body_limit.filters,
    model_finder.filters,
    cors.filters,
    # After all that may refuse a request, so that none is picked for in vain.
    picker.filters,
    subset_hint.filters,
    foreign_picker.filters,
    picked_only.filters,
    # An answer passes it first, as the model server wrote it.
    token_usage.filters,
    _router,
)
"""The features with filters, in the order in which a request passes them."""


def listener_of(port: ir.Port, gateway: str, settings: Settings) -> listener.Listener:
    """Return the listener of a Gateway's port; the routes of its chains come over RDS under the chains' names.

    gateway: "namespace/name".
    """
    shared = _shared_by_chains(port, gateway, settings)
    buffer_limit = settings.connection_buffer_limit if port.buffer_limit is None else port.buffer_limit
    return listener.Listener(
        name=f"{gateway}/{port.number}",
        address=core.Address(
            socket_address=core.SocketAddress(address=port.placement.address, port_value=port.placement.port)
        ),
        listener_filters=[tls_termination.inspector()] if port.tls else [],
        filter_chains=[_filter_chain(chain, shared) for chain in port.chains],
        per_connection_buffer_limit_bytes=buffer_limit,
        # With SO_REUSEPORT a second program on the same port would silently take a share of the connections; without it
        # the bind fails, and the listener's owner can be told.
        enable_reuse_port=False,
    )


def _filter_chain(chain: ir.Chain, shared: Any) -> listener.FilterChain:
    manager = listener.Filter(
        name="envoy.filters.network.http_connection_manager",
        typed_config=pack_merged(_own_of_chain(chain.name), shared),
    )
    if not chain.certificates:
        return listener.FilterChain(filters=[manager])
    return listener.FilterChain(
        name=chain.name,
        filter_chain_match=tls_termination.match_of(chain),
        transport_socket=tls_termination.socket_of(chain.certificates),
        filters=[manager],
    )


def _own_of_chain(name: str) -> hcm.HttpConnectionManager:
    """Return what each chain has for itself of its connection manager."""
    ads = core.ConfigSource(ads=core.AggregatedConfigSource(), resource_api_version=core.ApiVersion.V3)
    return hcm.HttpConnectionManager(stat_prefix=name, rds=hcm.Rds(config_source=ads, route_config_name=name))


def _shared_by_chains(port: ir.Port, gateway: str, settings: Settings) -> Any:
    """Return the rest of the connection managers: a port may have a chain for each of hundreds of hostnames."""
    manager = hcm.HttpConnectionManager(
        http_filters=[each for feature in HTTP_FILTERS for each in feature(settings)],
        early_header_mutation_extensions=[_strip_client_headers()],
        local_reply_config=local_replies.local_reply_config(),
        access_log=access_log.access_logs(gateway, port.seats),
        use_remote_address=True,
        normalize_path=True,
        merge_slashes=True,
        server_header_transformation=hcm.HttpConnectionManagerServerHeaderTransformation.PASS_THROUGH,
        always_set_request_id_in_response=True,
        upgrade_configs=websocket.on_listener(),
    )
    return pack(manager)


def _strip_client_headers() -> core.TypedExtensionConfig:
    removals = [mutation_rules.HeaderMutation(remove=name) for name in CLIENT_MAY_NOT_SET]
    return extension("strip-client-headers", early.HeaderMutation(mutations=removals))
