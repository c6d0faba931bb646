"""The certificates of listeners: which a listener may use, and whether Envoy can.

What Envoy would refuse is found out here, so that a mistake in one Secret has a name and touches nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from resources import (
    TLS_SECRET,
    Gateway,
    GatewayClass,
    Listener,
    Object,
    ReferenceGrant,
    Secret,
    SecretObjectReference,
    UnreadableSecret,
    World,
    is_subdomain,
)
from translators import ir
from translators.controllers import gateways_of
from translators.resolve.grants import Grants, grants_of, permits
from translators.resolve.index import Index

RESOLVED = "ResolvedRefs"
SecretName = tuple[str, str]
"""A Secret's namespace and name."""

_SMALLEST_RSA_KEY = 2048
_CURVES = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)


@dataclass(frozen=True, slots=True)
class Certificates:
    """What a listener has for its handshakes.

    names: those that Envoy is told of. Where not one can be read, they are all that may be used: Envoy goes on with
    what it had of them before, and without that it cannot answer.
    """

    names: tuple[str, ...] = ()
    found: tuple[ir.Certificate, ...] = ()
    problems: tuple[ir.Problem, ...] = ()


def certificates_of(index: Index, gateway: Gateway, listener: Listener, where: str) -> Certificates:
    """Follow the references of a listener of protocol HTTPS; `where` is its field."""
    if listener.tls is None or not listener.tls.certificate_refs:
        text = "a listener of protocol HTTPS needs a certificate"
        return Certificates(problems=(ir.Problem(RESOLVED, _INVALID, text, f"{where}.tls.certificateRefs"),))
    permitted: list[str] = []
    found: list[ir.Certificate] = []
    problems: list[ir.Problem] = []
    for field, secret in _references(index.grants, gateway, listener, where):
        if isinstance(secret, ir.Problem):
            problems.append(secret)
            continue
        permitted.append(ir.certificate_name(*secret))
        certificate = _read(index, *secret)
        if isinstance(certificate, str):
            problems.append(ir.Problem(RESOLVED, _INVALID, certificate, field))
        else:
            found.append(certificate)
    names = [each.name for each in found] or permitted
    return Certificates(tuple(dict.fromkeys(names)), tuple(dict.fromkeys(found)), tuple(problems))


def has_certificates(listener: Listener) -> bool:
    """Whether Envoy ends the TLS of a listener's clients."""
    return listener.protocol == "HTTPS"


def secrets_wanted(world: World, controllers: frozenset[str]) -> frozenset[SecretName]:
    """Return the Secrets that listeners of ours name, and may: the translation reads no others.

    They depend on GatewayClasses, Gateways and ReferenceGrants alone (`SECRETS_WANTED_BY`). Names that no object can
    have are left out.
    """
    grants = grants_of(world)
    return frozenset(
        secret
        for gateway in gateways_of(world, controllers)
        for listener in gateway.spec.listeners
        if has_certificates(listener)
        for _, secret in _references(grants, gateway, listener, "")
        if not isinstance(secret, ir.Problem) and is_subdomain(secret[1])
    )


SECRETS_WANTED_BY: tuple[type[Object], ...] = (GatewayClass, Gateway, ReferenceGrant)
"""The kinds on which `secrets_wanted` depends."""

_INVALID = "InvalidCertificateRef"


def _references(
    grants: Grants, gateway: Gateway, listener: Listener, where: str
) -> Iterator[tuple[str, SecretName | ir.Problem]]:
    """Yield the field of each reference, and the Secret or why it may not be read."""
    for number, ref in enumerate(listener.tls.certificate_refs if listener.tls else ()):
        field = f"{where}.tls.certificateRefs[{number}]"
        namespace = ref.namespace or gateway.key.namespace
        yield field, _refusal(grants, gateway, ref, namespace, field) or (namespace, ref.name)


def _refusal(
    grants: Grants, gateway: Gateway, ref: SecretObjectReference, namespace: str, where: str
) -> ir.Problem | None:
    if (ref.group, ref.kind) != ("", "Secret"):
        text = f"certificates of kind {ref.group or 'core'}/{ref.kind} are not supported, only Secrets"
        return ir.Problem(RESOLVED, _INVALID, text, where)
    own = gateway.key.namespace
    if namespace != own and not permits(
        grants, kind="Gateway", namespace=own, to_group="", to_kind="Secret", to_namespace=namespace, to_name=ref.name
    ):
        text = f"no ReferenceGrant in {namespace} permits a reference to Secret {namespace}/{ref.name}"
        return ir.Problem(RESOLVED, "RefNotPermitted", text, where)
    return None


def _read(index: Index, namespace: str, name: str) -> ir.Certificate | str:
    """Return a certificate, or what is wrong with its Secret."""
    secret = index.world.get(Secret, namespace, name)
    if secret is None:
        return f"Secret {namespace}/{name} does not exist"
    if isinstance(secret, UnreadableSecret):
        return f"{secret.key} cannot be read: {secret.reason}"
    if secret.type != TLS_SECRET:
        return f"{secret.key} is of type {secret.type}, not {TLS_SECRET}"
    chain, key = secret.data["tls.crt"], secret.data["tls.key"]
    if (flaw := _flaw(chain, key)) is not None:
        return f"{secret.key}: {flaw}"
    return ir.Certificate(ir.certificate_name(namespace, name), str(secret.key), chain, key)


@lru_cache(maxsize=1024)
def _flaw(chain: bytes, key: bytes) -> str | None:
    """Say why Envoy cannot use a chain and its key, or None. The words tell nothing of what is in the key."""
    return next(_flaws(chain, key), None)


def _flaws(chain: bytes, key: bytes) -> Iterator[str]:
    try:
        leaf = x509.load_pem_x509_certificates(chain)[0].public_key()
    except (ValueError, UnsupportedAlgorithm, IndexError):
        yield "tls.crt is no certificate in PEM"
        return
    try:
        private = load_pem_private_key(key, password=None, unsafe_skip_rsa_key_validation=True)
    except TypeError:
        yield "tls.key is encrypted"
        return
    except (ValueError, UnsupportedAlgorithm):
        yield "tls.key is no private key in PEM"
        return
    if isinstance(leaf, rsa.RSAPublicKey):
        if leaf.key_size < _SMALLEST_RSA_KEY:
            yield f"the RSA key has {leaf.key_size} bits, of which Envoy takes no less than {_SMALLEST_RSA_KEY}"
    elif isinstance(leaf, ec.EllipticCurvePublicKey):
        if not isinstance(leaf.curve, _CURVES):
            yield f"the key is on the curve {leaf.curve.name}, and Envoy takes P-256, P-384 and P-521"
    elif not isinstance(leaf, ed25519.Ed25519PublicKey):
        yield "the key is none that Envoy takes: RSA, ECDSA or Ed25519"
    if private.public_key() != leaf:
        yield "tls.key is not the key of the certificate in tls.crt"
