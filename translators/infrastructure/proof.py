"""How pods of ours prove who they are to the control plane, and how they know it.

In the controller's own namespace by a certificate of their service account, which lies in a Secret that is made for
them and is shown by the connection. In all other namespaces by a token of that account, which kubelet renews and which
is for the control plane alone: no Secret is written there. Kubelet shows what is renewed without another pod, and what
reads it opens the next connection, or stream, with it.

The roots that the control plane may be certified by are in the ConfigMap of what is made, in either case.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from translators.identities import AUDIENCE
from translators.infrastructure.objects import ClientCertificate, Infrastructure, Json

ROOTS_FILE, TRUST_FILE, TOKEN_FILE, CERTIFICATE_FILE = "ca.crt", "trust.yaml", "token.yaml", "certificate.yaml"
"""In the ConfigMap: the roots as PEM; as Envoy reads them (SDS): the roots, where its token is, or its certificate."""

FOLDER, TOKEN, CHAIN, KEY = "/var/run/secrets/pointsman.dev", "token", "tls.crt", "tls.key"
"""Where a pod finds its token, or its certificate and the key of that."""

MOUNT: Json = {"name": "identity", "mountPath": FOLDER, "readOnly": True}

_LIFE = 3600
_SECRET = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"  # noqa: S105 - a type
_HTTP = "type.googleapis.com/envoy.extensions.filters.http"
_GENERIC = "type.googleapis.com/envoy.extensions.http.injected_credentials.generic.v3.Generic"
# core/v1, SecretVolumeSource.defaultMode: of the pod's group, which has a user who is not root; else of whoever it is.
_OF_GROUP, _OF_ALL = 0o440, 0o444


@dataclass(frozen=True, slots=True)
class Proof:
    """How the pods of one service account prove themselves.

    xds: where they find the control plane, "host:port". file: name and content of what Envoy's bootstrap refers to
    beside the roots. names: what stands for this in the bootstrap's template. options: a picker's. secret: name and
    content of the Secret that has to be there.
    """

    xds: str
    file: tuple[str, str]
    names: Mapping[str, str]
    options: tuple[str, ...]
    secret: tuple[str, Json] | None = field(default=None, repr=False)

    def volume(self, security: Mapping[str, Any]) -> Json:
        """Return the volume of a pod of this security context."""
        if self.secret is not None:
            mode = _OF_GROUP if "fsGroup" in security else _OF_ALL
            items = [{"key": name, "path": name} for name in (CHAIN, KEY)]
            return {
                "name": "identity",
                "secret": {"secretName": self.secret[0], "defaultMode": mode, "items": items},
            }
        token = {"audience": AUDIENCE, "expirationSeconds": _LIFE, "path": TOKEN}
        return {"name": "identity", "projected": {"sources": [{"serviceAccountToken": token}]}}

    def envoys_files(self, roots: str) -> dict[str, str]:
        """Return what Envoy's bootstrap refers to, by names of files."""
        trust = {"@type": _SECRET, "name": "trust", "validation_context": {"trusted_ca": {"inline_string": roots}}}
        return {TRUST_FILE: _written(trust), **dict([self.file])}


def proof_of(namespace: str, account: str, config: str, infrastructure: Infrastructure) -> Proof:
    """Return how the pods of a service account prove themselves; `config` is where Envoy has its files."""
    if infrastructure.xds_mtls and namespace == infrastructure.own_namespace:
        return _by_certificate(account, config, infrastructure.xds_mtls, infrastructure.certify(namespace, account))
    return _by_token(config, infrastructure.xds)


def _by_token(config: str, xds: str) -> Proof:
    place = {"filename": f"{FOLDER}/{TOKEN}", "watched_directory": {"path": FOLDER}}
    token = {"@type": _SECRET, "name": "token", "generic_secret": {"secret": place}}
    credential = {
        "@type": _GENERIC,
        "header_value_prefix": "Bearer ",
        "credential": {"name": "token", "sds_config": _file(f"{config}/{TOKEN_FILE}", FOLDER)},
    }
    injector = {
        "@type": f"{_HTTP}.credential_injector.v3.CredentialInjector",
        "overwrite": True,
        "credential": {"name": "envoy.http.injected_credentials.generic", "typed_config": credential},
    }
    codec = {"@type": f"{_HTTP}.upstream_codec.v3.UpstreamCodec"}
    # Each stream is opened with the token of the time.
    filters = [
        {"name": "envoy.filters.http.credential_injector", "typed_config": injector},
        {"name": "envoy.filters.http.upstream_codec", "typed_config": codec},
    ]
    names = {"filter_list": json.dumps(filters), "certificate_list": "[]"}
    return Proof(xds, (TOKEN_FILE, _written(token)), names, ("--token", f"{FOLDER}/{TOKEN}"))


def _by_certificate(account: str, config: str, xds: str, certificate: ClientCertificate) -> Proof:
    pair = {
        "certificate_chain": {"filename": f"{FOLDER}/{CHAIN}"},
        "private_key": {"filename": f"{FOLDER}/{KEY}"},
        # Both change at one moment, by a link in the folder that is moved.
        "watched_directory": {"path": FOLDER},
    }
    shown = {"@type": _SECRET, "name": "certificate", "tls_certificate": pair}
    # A connection that there is stays; the next one is made with the certificate of the time.
    lists = [{"name": "certificate", "sds_config": _file(f"{config}/{CERTIFICATE_FILE}", config)}]
    data = {CHAIN: certificate.chain, KEY: certificate.key}
    # No kubernetes.io/tls: a listener of a Gateway may not be given it.
    content = {"type": "Opaque", "data": {name: base64.b64encode(value).decode() for name, value in data.items()}}
    return Proof(
        xds,
        (CERTIFICATE_FILE, _written(shown)),
        {"filter_list": "[]", "certificate_list": json.dumps(lists)},
        ("--certificate", FOLDER),
        (f"{account}-identity", content),
    )


def _file(path: str, watched: str) -> Json:
    return {
        "resource_api_version": "V3",
        "path_config_source": {"path": path, "watched_directory": {"path": watched}},
    }


def _written(resource: Json) -> str:
    return str(yaml.safe_dump({"resources": [resource]}, sort_keys=False))
