"""How control plane, Envoys and pickers of a cluster know one another: names in certificates, and what carries these.

An Envoy and a picker prove themselves to the control plane by a token of their pod's service account, and meet each
other with certificates that it gives both of them over the stream: an Envoy as secrets (SDS), a picker as a resource of
our own. So no key is written anywhere but where the control plane keeps that of its authority.
"""

from __future__ import annotations

from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.extensions.transport_sockets.tls import v3 as tls

from protos.pointsman.picker.v1.identity_pb2 import Identity

CONTROL_PLANE = "pointsman-control-plane"
"""The name in the control plane's certificate, wherever it is found."""

AUDIENCE = "pointsman.dev/xds"
"""Whom the tokens of Envoys and pickers are for: no API server takes them."""

IDENTITY_SECRET, TRUST_SECRET = "pointsman/identity", "pointsman/trust"
"""An Envoy's own certificate, and the roots of pickers' certificates, as it asks for them."""

_ENVOYS = "spiffe://pointsman/envoy/"


def envoy_name(gateway: str) -> str:
    """Return the name in the certificate of an Envoy of a Gateway ("namespace/name")."""
    return f"{_ENVOYS}{gateway}"


def picker_name(cluster: str) -> str:
    """Return the name in the certificate of the pickers in a cluster of Envoys ("picker/namespace/service/port")."""
    return f"spiffe://pointsman/{cluster}"


def secrets(chain: bytes, key: bytes, roots: bytes) -> tuple[tls.Secret, tls.Secret]:
    """Return what an Envoy meets pickers with (all in PEM): its certificate, and the roots of theirs."""
    certificate = tls.TlsCertificate(
        certificate_chain=core.DataSource(inline_bytes=chain), private_key=core.DataSource(inline_bytes=key)
    )
    trust = tls.CertificateValidationContext(trusted_ca=core.DataSource(inline_bytes=roots))
    return (
        tls.Secret(name=IDENTITY_SECRET, tls_certificate=certificate),
        tls.Secret(name=TRUST_SECRET, validation_context=trust),
    )


def identity(chain: bytes, key: bytes, roots: bytes) -> Identity:
    """Return what a picker meets Envoys with (all in PEM)."""
    return Identity(certificate_chain=chain, private_key=key, trusted_roots=roots, client_prefix=_ENVOYS)
