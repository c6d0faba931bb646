"""How pods of ours prove who they are to the control plane, and how they know it: no Secret is needed for either.

A token of the pod's service account, which kubelet renews, is for the control plane alone. The roots that it may be
certified by are in the ConfigMap of what is made; kubelet shows new ones without another pod.
"""

from __future__ import annotations

from typing import Any

import yaml

from translators.identities import AUDIENCE

ROOTS_FILE, TRUST_FILE, TOKEN_FILE = "ca.crt", "trust.yaml", "token.yaml"
"""In the ConfigMap: the roots as PEM; the roots, and where the token is, as Envoy reads them (SDS)."""

TOKEN_FOLDER, TOKEN = "/var/run/secrets/pointsman.dev", "token"
_LIFE = 3600
_SECRET = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"  # noqa: S105 - a type

VOLUME: dict[str, Any] = {
    "name": "identity",
    "projected": {
        "sources": [{"serviceAccountToken": {"audience": AUDIENCE, "expirationSeconds": _LIFE, "path": TOKEN}}],
    },
}
"""The volume of a pod with the token."""

MOUNT: dict[str, Any] = {"name": "identity", "mountPath": TOKEN_FOLDER, "readOnly": True}


def envoys_files(roots: str) -> dict[str, str]:
    """Return what Envoy's bootstrap refers to, by names of files."""
    trust = {"@type": _SECRET, "name": "trust", "validation_context": {"trusted_ca": {"inline_string": roots}}}
    place = {"filename": f"{TOKEN_FOLDER}/{TOKEN}", "watched_directory": {"path": TOKEN_FOLDER}}
    token = {"@type": _SECRET, "name": "token", "generic_secret": {"secret": place}}
    return {TRUST_FILE: _written(trust), TOKEN_FILE: _written(token)}


def _written(resource: dict[str, Any]) -> str:
    return str(yaml.safe_dump({"resources": [resource]}, sort_keys=False))
