"""TLS that ends at the gateway: a filter chain for each listener, chosen by the name that the client asks for (SNI).

Certificates come over SDS, so that another certificate of the same name changes no listener and ends no connection.
What Envoy has of a certificate it keeps when it is told that there is none any more (sds_api.cc): one that became
unreadable goes on being shown, until the listener no longer refers to it.
"""

from __future__ import annotations

from functools import lru_cache

from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.config.listener import v3 as listener
from envoy_data_plane.envoy.extensions.filters.listener.tls_inspector import v3 as tls_inspector
from envoy_data_plane.envoy.extensions.transport_sockets.tls import v3 as tls

from translators import ir
from translators.emit.packing import pack, secret_over_ads

NAME = "envoy.transport_sockets.tls"
_PROTOCOLS = ("h2", "http/1.1")


def match_of(chain: ir.Chain) -> listener.FilterChainMatch | None:
    """Return which connections a chain is for."""
    if chain.server_name == "*":
        return None
    return listener.FilterChainMatch(server_names=[chain.server_name])


@lru_cache(maxsize=1024)
def socket_of(certificates: tuple[str, ...]) -> core.TransportSocket:
    """Return what ends the TLS of a chain with these certificates."""
    context = tls.CommonTlsContext(
        tls_params=tls.TlsParameters(tls_minimum_protocol_version=tls.TlsParametersTlsProtocol.TLSv1_2),
        alpn_protocols=list(_PROTOCOLS),
        tls_certificate_sds_secret_configs=list(map(secret_over_ads, certificates)),
    )
    return core.TransportSocket(name=NAME, typed_config=pack(tls.DownstreamTlsContext(common_tls_context=context)))


def inspector() -> listener.ListenerFilter:
    """Return the filter of listeners that reads the name which a client asks for."""
    name = "envoy.filters.listener.tls_inspector"
    return listener.ListenerFilter(name=name, typed_config=pack(tls_inspector.TlsInspector()))


def secret_of(certificate: ir.Certificate) -> tls.Secret:
    """Return a certificate as Envoy is sent it."""
    return tls.Secret(
        name=certificate.name,
        tls_certificate=tls.TlsCertificate(
            certificate_chain=core.DataSource(inline_bytes=certificate.chain),
            private_key=core.DataSource(inline_bytes=certificate.key),
        ),
    )
