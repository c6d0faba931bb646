"""The certificates that a picker shows to gateways: made by itself, or read from files that may be replaced.

Gateways do not check a picker's certificate (endpoint picker protocol), so that one which nobody vouches for will do.
"""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_NAME = "pointsman-picker"
_VALID = dt.timedelta(days=10 * 365)
_CHAIN, _KEY = "tls.crt", "tls.key"


class CertificateError(ValueError):
    """Files that hold no certificate with its key."""


def self_signed() -> grpc.ServerCredentials:
    """Return credentials with a key and a certificate made just now, valid for ten years."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, _NAME)])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + _VALID)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(_NAME)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return grpc.ssl_server_credentials([(secret, certificate.public_bytes(serialization.Encoding.PEM))])


def from_folder(folder: Path) -> grpc.ServerCredentials:
    """Return credentials from ``tls.crt`` and ``tls.key``, as Kubernetes mounts a Secret of type ``kubernetes.io/tls``.

    They are read again for each connection, so that a new certificate needs no restart; while the files do not hold one
    the last good one stays.  Raises CertificateError where they do not hold one at first.
    """
    last = _read(folder)

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        nonlocal last
        try:
            found = _read(folder)
        except CertificateError:
            return None
        if found == last:
            return None
        last = found
        return grpc.ssl_server_certificate_configuration([found])

    return grpc.dynamic_ssl_server_credentials(grpc.ssl_server_certificate_configuration([last]), fetch)


def _read(folder: Path) -> tuple[bytes, bytes]:
    """Return key and certificate chain (PEM), which belong together."""
    try:
        secret, chain = (folder / _KEY).read_bytes(), (folder / _CHAIN).read_bytes()
        key = serialization.load_pem_private_key(secret, password=None)
        certificates = x509.load_pem_x509_certificates(chain)
    except OSError as error:
        raise CertificateError(f"{error.filename}: {error.strerror}") from None
    except (ValueError, TypeError) as error:
        raise CertificateError(f"{folder}: {_CHAIN} and {_KEY} hold no certificate with its key: {error}") from None
    if key.public_key() != certificates[0].public_key():
        raise CertificateError(f"{folder}: {_KEY} is not the key of {_CHAIN}")
    return secret, chain
