"""The certificate authority of an installation: what proves control plane, Envoys and pickers to one another.

Pure: the clock's readings are arguments. A root that is to follow the present one is trusted some time before it signs,
so that everybody has heard of it by then; it is trusted until it expires.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

ROOTS, KEYS = "ca.crt", "ca.key"
"""The keys of the Secret's data: the roots and their private keys, in the same order, as PEM."""

Side = Literal["server", "client"]

_ROOT_LIFE = timedelta(days=10 * 365)
_LEAF_LIFE = timedelta(days=7)
# The clocks of two machines differ.
_SKEW = timedelta(minutes=5)
# Until every pod has the ConfigMap that names a new root: kubelet shows it within two minutes.
_SETTLING = timedelta(hours=1)
_END = b"-----END PRIVATE KEY-----\n"
_USAGES = {"server": ExtendedKeyUsageOID.SERVER_AUTH, "client": ExtendedKeyUsageOID.CLIENT_AUTH}


@dataclass(frozen=True, slots=True)
class Leaf:
    """A certificate and its private key, as PEM, and until when it is to be used."""

    chain: bytes
    key: bytes = field(repr=False)
    renew_at: datetime


@dataclass(frozen=True, slots=True)
class Root:
    """A root certificate and its private key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey = field(repr=False)

    @property
    def begin(self) -> datetime:
        """When it was made."""
        return self.certificate.not_valid_before_utc + _SKEW

    @property
    def end(self) -> datetime:
        """When it expires."""
        return self.certificate.not_valid_after_utc


@dataclass(frozen=True, slots=True)
class Authority:
    """The roots that are trusted, the oldest first."""

    roots: tuple[Root, ...]

    @classmethod
    def new(cls, now: datetime) -> Authority:
        """Make one with a root of its own."""
        return cls((_root(now),))

    @classmethod
    def read(cls, data: Mapping[str, bytes]) -> Authority:
        """Read what `write` gave. ValueError, which names the field and quotes nothing, for anything else."""
        try:
            certificates = x509.load_pem_x509_certificates(data[ROOTS])
        except KeyError:
            raise ValueError(f"data[{ROOTS}]: is missing") from None
        except ValueError:
            raise ValueError(f"data[{ROOTS}]: no certificates in PEM") from None
        keys = [_key(part + _END) for part in data.get(KEYS, b"").split(_END) if part.strip()]
        if len(keys) != len(certificates):
            raise ValueError(f"data[{KEYS}]: {len(keys)} keys for {len(certificates)} certificates")
        for certificate, key in zip(certificates, keys, strict=True):
            if certificate.public_key() != key.public_key():
                raise ValueError(f"data[{KEYS}]: a key that is not its certificate's")
        return cls(tuple(map(Root, certificates, keys)))

    def write(self) -> dict[str, bytes]:
        """Return the data of its Secret."""
        return {ROOTS: self.bundle, KEYS: b"".join(_pem(root.key) for root in self.roots)}

    @property
    def bundle(self) -> bytes:
        """The certificates that are trusted, as PEM."""
        return b"".join(root.certificate.public_bytes(Encoding.PEM) for root in self.roots)

    def renewed(self, now: datetime) -> Authority:
        """Return it without what has expired, and with a new root where the newest is past the middle of its life."""
        roots = tuple(root for root in self.roots if root.end > now)
        if not roots or now >= roots[-1].begin + (roots[-1].end - roots[-1].begin) / 2:
            roots = (*roots, _root(now))
        return self if roots == self.roots else Authority(roots)

    def issue(self, name: str, side: Side, now: datetime) -> Leaf:
        """Return a certificate for a name (a URI or a DNS name): of a server or of a client, and not of both."""
        root = self._signer(now)
        key = ec.generate_private_key(ec.SECP256R1())
        subject: x509.GeneralName = x509.UniformResourceIdentifier(name) if ":" in name else x509.DNSName(name)
        end = min(now + _LEAF_LIFE, root.end)
        builder = (
            _builder(now, end, key, x509.Name([]), root.certificate.subject)
            # Critical where the subject is empty (RFC 5280, 4.2.1.6).
            .add_extension(x509.SubjectAlternativeName([subject]), critical=True)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([_USAGES[side]]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(root.key.public_key()),
                critical=False,
            )
        )
        certificate = builder.sign(root.key, hashes.SHA256())
        return Leaf(certificate.public_bytes(Encoding.PEM), _pem(key), now + (end - now) / 3)

    def _signer(self, now: datetime) -> Root:
        """Return the newest root that everybody knows by now."""
        known = [root for root in self.roots if root.begin + _SETTLING <= now]
        return known[-1] if known else self.roots[0]


def merged(roots: Iterable[Root]) -> Authority:
    """Return the authority that trusts all of these, each once."""
    by_certificate = {root.certificate: root for root in roots}
    return Authority(tuple(sorted(by_certificate.values(), key=lambda root: root.begin)))


def _root(now: datetime) -> Root:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Pointsman {now:%Y-%m-%d %H:%M:%S}")])
    usage = x509.KeyUsage(
        key_cert_sign=True,
        crl_sign=True,
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    builder = (
        _builder(now, now + _ROOT_LIFE, key, name, name)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    return Root(builder.sign(key, hashes.SHA256()), key)


def _builder(
    now: datetime, end: datetime, key: ec.EllipticCurvePrivateKey, subject: x509.Name, issuer: x509.Name
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(end)
    )


def _key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    try:
        key = load_pem_private_key(pem, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ValueError(f"data[{KEYS}]: no private key in PEM") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError(f"data[{KEYS}]: a private key that is none of an elliptic curve")  # noqa: TRY004 - a value
    return key


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
