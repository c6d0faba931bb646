"""Certificates for tests, made anew for each run: no key of this repository is worth anything."""

import base64
import datetime as dt
import ssl
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

_Edwards = ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey
PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | _Edwards


@dataclass(frozen=True)
class Pair:
    """A certificate that nobody vouches for, and its key, in PEM."""

    chain: bytes
    key: bytes

    def secret(self, name: str, namespace: str = "default") -> dict[str, object]:
        """The Secret that holds both."""
        data = {"tls.crt": base64.b64encode(self.chain).decode(), "tls.key": base64.b64encode(self.key).decode()}
        metadata = {"name": name, "namespace": namespace}
        return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "kubernetes.io/tls", "data": data}

    def trusted(self) -> ssl.SSLContext:
        """What a client needs that trusts this certificate and no other."""
        context = ssl.create_default_context(cadata=self.chain.decode())
        context.set_alpn_protocols(["http/1.1"])
        return context

    def write(self, folder: Path) -> tuple[Path, Path]:
        """Write both to files, for servers."""
        chain, key = folder / "tls.crt", folder / "tls.key"
        chain.write_bytes(self.chain)
        key.write_bytes(self.key)
        return chain, key


@cache
def pair(*names: str, serial: int = 1, key: str = "P-256", password: bytes = b"") -> Pair:
    """A certificate for these hostnames, the same for the same arguments.

    key: P-224, P-256, P-384, P-521, RSA-BITS, Ed25519, Ed448.
    """
    private = _key(key)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
    now = dt.datetime.now(dt.UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(private.public_key())
        .serial_number(serial)
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=2))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(private, None if isinstance(private, _Edwards) else SHA256())
    )
    protection: KeySerializationEncryption = BestAvailableEncryption(password) if password else NoEncryption()
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, protection)
    return Pair(built.public_bytes(Encoding.PEM), pem)


def _key(kind: str) -> PrivateKey:
    if kind == "Ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    if kind == "Ed448":
        return ed448.Ed448PrivateKey.generate()
    if kind.startswith("RSA-"):
        return rsa.generate_private_key(65537, int(kind.removeprefix("RSA-")))
    return ec.generate_private_key(_CURVES[kind])


_CURVES = {"P-224": ec.SECP224R1(), "P-256": ec.SECP256R1(), "P-384": ec.SECP384R1(), "P-521": ec.SECP521R1()}


def filled(text: str) -> str:
    """Put certificates into manifests: the base64 of one in place of "CERTIFICATE(a)", and of its key for "KEY(a)"."""
    for name, make in PAIRS.items():
        made = make()
        text = text.replace(f"CERTIFICATE({name})", base64.b64encode(made.chain).decode())
        text = text.replace(f"KEY({name})", base64.b64encode(made.key).decode())
    return text


def blanked(text: str) -> str:
    """Undo `filled` for certificates."""
    for name, make in PAIRS.items():
        text = text.replace(base64.b64encode(make().chain).decode(), f"CERTIFICATE({name})")
    return text


PAIRS = {
    "a": lambda: pair("a.example.com"),
    "b": lambda: pair("b.example.com"),
    "short": lambda: pair("a.example.com", key="RSA-1024"),
    "curve": lambda: pair("a.example.com", key="P-224"),
    "encrypted": lambda: pair("a.example.com", password=b"locked"),
}
