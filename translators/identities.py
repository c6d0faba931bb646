"""How control plane, Envoys and pickers of a cluster know one another: names in certificates, and what carries these.

An Envoy and a picker prove to the control plane which service account their pod has: in the controller's own namespace
by a certificate of the account, elsewhere by a token of it. They meet each other with certificates that it gives both
of them over the stream: an Envoy as secrets (SDS), a picker as a resource of our own.
"""

from __future__ import annotations

from collections.abc import Sequence

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
_ACCOUNTS = "spiffe://pointsman/account/"


def account_name(namespace: str, name: str) -> str:
    """Return the name in the certificate by which pods of a service account prove themselves to the control plane."""
    return f"{_ACCOUNTS}{namespace}/{name}"


def account_of(names: Sequence[str]) -> tuple[str, str] | None:
    """Return namespace and name of the service account that a certificate with these names proves, if it is one."""
    if len(names) != 1 or not names[0].startswith(_ACCOUNTS):
        return None
    namespace, _, name = names[0].removeprefix(_ACCOUNTS).partition("/")
    return (namespace, name) if namespace and name and "/" not in name else None


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
