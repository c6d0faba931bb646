"""TLS on the port that Envoys ask at, where they meet the picker over a network: each side shows a certificate.

The certificate is the control plane's to give and to renew: a new one is for new connections, and ends none.
"""

from __future__ import annotations

import os
import ssl
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from protos.pointsman.picker.v1.identity_pb2 import Identity


class Tls:
    """What is shown to Envoys, and which of them are let in."""

    def __init__(self) -> None:
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_3
        self.context.verify_mode = ssl.CERT_REQUIRED
        self.context.set_alpn_protocols(["h2"])
        self._identity: Identity | None = None

    def take(self, identity: Identity) -> None:
        """Use this identity from here on. ValueError, which quotes nothing, where it cannot be used."""
        if identity == self._identity:
            return
        try:
            with _as_file(identity.private_key + identity.certificate_chain) as path:
                self.context.load_cert_chain(path)
            # Roots that are no longer named stay until they expire.
            self.context.load_verify_locations(cadata=identity.trusted_roots.decode())
        except (ssl.SSLError, UnicodeDecodeError, OSError):
            raise ValueError("the control plane sent a certificate or roots that cannot be used") from None
        self._identity = identity

    def admits(self, certificate: Mapping[str, Any] | None) -> bool:
        """Whether a certificate that was found to be genuine (`SSLSocket.getpeercert`) is one of an Envoy."""
        prefix = self._identity.client_prefix if self._identity is not None else ""
        names = (certificate or {}).get("subjectAltName", ())
        return bool(prefix) and any(kind == "URI" and name.startswith(prefix) for kind, name in names)


@contextmanager
def _as_file(content: bytes) -> Iterator[str]:
    """Show bytes as a file, as the ssl module asks for, without a disk where the system can: no key is left behind."""
    if sys.platform == "linux":
        descriptor = os.memfd_create("certificate", os.MFD_CLOEXEC)
        try:
            os.write(descriptor, content)
            yield f"/proc/self/fd/{descriptor}"
        finally:
            os.close(descriptor)
    else:
        with tempfile.NamedTemporaryFile() as file:
            Path(file.name).write_bytes(content)
            yield file.name
