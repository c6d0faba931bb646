"""What Envoys, pickers and the control plane itself are certified with: issued when asked for, renewed in good time.

Each replica of the control plane issues its own; whoever trusts the authority takes those of any.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar, cast

import grpc

from pointsman.authority import Authority, Side
from translators import identities
from translators.infrastructure import ClientCertificate
from xds import Sealed, seal

_SECRET = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"  # noqa: S105 - a type
_IDENTITY = "type.googleapis.com/pointsman.picker.v1.Identity"

T = TypeVar("T")


def now() -> datetime:
    """Return the time."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class _Issued:
    made: object
    renew_at: datetime


class Identities:
    """Certificates of one authority. origin: what is named where a client refuses one."""

    def __init__(self, authority: Authority, origin: str, clock: Callable[[], datetime] = now) -> None:
        self._authority = authority
        self._origin = origin
        self._clock = clock
        self._issued: dict[str, _Issued] = {}
        self._server, self._server_renew_at = self._certify()

    @property
    def roots(self) -> str:
        """What everybody is to trust, as PEM."""
        return self._authority.bundle.decode()

    @property
    def server(self) -> grpc.ServerCertificateConfiguration:
        """What the control plane shows at present; may be asked for from any thread."""
        return self._server

    def credentials(self) -> grpc.ServerCredentials:
        """Return what to serve with: each connection is shown the certificate of its time."""
        return grpc.dynamic_ssl_server_credentials(self._server, lambda: self._server)

    def mutual_credentials(self) -> grpc.ServerCredentials:
        """Return what to serve with where clients have to show a certificate of a root that is trusted at the time."""
        return grpc.dynamic_ssl_server_credentials(
            self._server, lambda: self._server, require_client_authentication=True
        )

    def take(self, authority: Authority) -> bool:
        """Look at the time, and take this authority from here on; tell whether there is anything to be sent anew."""
        moment = self._clock()
        # Private keys have no equality.
        changed = authority.bundle != self._authority.bundle
        if changed:
            self._authority = authority
            self._issued.clear()
        if changed or moment >= self._server_renew_at:
            self._server, self._server_renew_at = self._certify()
        due = [name for name, each in self._issued.items() if moment >= each.renew_at]
        for name in due:
            del self._issued[name]
        return changed or bool(due)

    def of_account(self, namespace: str, name: str) -> ClientCertificate:
        """Return what the pods of a service account prove themselves to the control plane by."""
        return self._of(identities.account_name(namespace, name), "client", ClientCertificate)

    def of_envoy(self, gateway: str) -> tuple[Sealed, ...]:
        """Return what an Envoy of a Gateway ("namespace/name") meets pickers with."""
        return self._of(identities.envoy_name(gateway), "client", self._secrets)

    def of_picker(self, cluster: str) -> tuple[Sealed, ...]:
        """Return what the pickers in a cluster of Envoys ("picker/namespace/service/port") meet these with."""

        def sealed(chain: bytes, key: bytes) -> tuple[Sealed, ...]:
            message = identities.identity(chain, key, self._authority.bundle)
            return (seal(_IDENTITY, cluster, message, self._origin),)

        return self._of(identities.picker_name(cluster), "server", sealed)

    def _secrets(self, chain: bytes, key: bytes) -> tuple[Sealed, ...]:
        made = identities.secrets(chain, key, self._authority.bundle)
        return tuple(seal(_SECRET, each.name, each, self._origin) for each in made)

    def _of(self, name: str, side: Side, make: Callable[[bytes, bytes], T]) -> T:
        found = self._issued.get(name)
        if found is None:
            leaf = self._authority.issue(name, side, self._clock())
            found = self._issued[name] = _Issued(make(leaf.chain, leaf.key), leaf.renew_at)
        # A name is of one kind, and what is made of its certificate, too.
        return cast("T", found.made)

    def _certify(self) -> tuple[grpc.ServerCertificateConfiguration, datetime]:
        leaf = self._authority.issue(identities.CONTROL_PLANE, "server", self._clock())
        return grpc.ssl_server_certificate_configuration(
            [(leaf.key, leaf.chain)], self._authority.bundle
        ), leaf.renew_at
