"""What the objects that are made have in common: names, labels, owners, and a hash that tells forms apart."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

from resources import Key, Object
from translators.controllers import CONTROLLER_LABEL, label_of
from translators.infrastructure.patches import merge_patch

Json = dict[str, Any]

GATEWAY_NAME_LABEL = "gateway.networking.k8s.io/gateway-name"
"""On everything that is made for a Gateway (GEP-1762)."""

GATEWAY_NAMESPACE_LABEL = "pointsman.dev/gateway-namespace"
GATEWAY_CLASS_LABEL = "pointsman.dev/gateway-class"
"""On everything that is made for a GatewayClass whose Gateways share Envoys."""

MANAGED_BY_LABEL = "app.kubernetes.io/managed-by"
MANAGED_BY = "pointsman"
HASH_ANNOTATION = "pointsman.dev/applied"
"""The hash of the form in which an object was applied last."""

ADMIN_PORT, READINESS_PORT, DRAIN_PORT = 19000, 19001, 19002
_HASH_BYTES = 8


@dataclass(frozen=True, slots=True)
class ClientCertificate:
    """What pods of a service account prove themselves to the control plane by, as PEM."""

    chain: bytes
    key: bytes = field(repr=False)


def _certify_nobody(namespace: str, name: str) -> ClientCertificate:
    raise LookupError(f"there is no authority yet to certify service account {namespace}/{name}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Infrastructure:
    """What the operator decides about the things that are made.

    xds: where the control plane is found, "host:port". bootstrap: Envoy's, with names behind dollar signs. namespace:
    the one in which Envoys are made; "" for each Gateway's own. drain: seconds that an Envoy's requests have to end in,
    unless its EnvoyProxy says otherwise. roots: those that the control plane's certificate may be of (PEM).

    xds_mtls: where pods of `own_namespace`, which is the controller's, find the control plane: these prove themselves
    by a certificate, which `certify` gives for namespace and name of their service account; "" where they prove
    themselves by a token, as all others do.
    """

    xds: str
    bootstrap: str
    envoy_image: str
    pointsman_image: str
    namespace: str = ""
    drain: int = 60
    labels: Mapping[str, str] = field(default_factory=dict)
    roots: str = ""
    xds_mtls: str = ""
    own_namespace: str = ""
    certify: Callable[[str, str], ClientCertificate] = _certify_nobody


@dataclass(frozen=True, slots=True)
class Owner:
    """What an object is made for: `uid` is the API server's, `controller` the controllerName that it is ours by."""

    object: Object
    uid: str
    controller: str = ""

    @property
    def reference(self) -> Json:
        """The reference to it (meta/v1, OwnerReference)."""
        kind = self.object
        return {
            "apiVersion": f"{kind.GROUP}/{kind.VERSIONS[0]}",
            "kind": kind.KIND,
            "name": kind.key.name,
            "uid": self.uid,
        }


@dataclass(frozen=True, slots=True)
class Made:
    """An object to be there: `body` as the API has it, `origin` the object that it is made for."""

    key: Key
    api_version: str
    # That of a Secret has a private key in it.
    body: Mapping[str, Any] = field(repr=False)
    origin: Key

    @property
    def hash(self) -> str:
        """The hash of the form."""
        return str(self.body["metadata"]["annotations"][HASH_ANNOTATION])

    @property
    def controller(self) -> str:
        """The controllerName that it is made for, as its label has it."""
        return str(self.body["metadata"]["labels"].get(CONTROLLER_LABEL, ""))


def made(
    api_version: str,
    kind: str,
    namespace: str,
    name: str,
    content: Mapping[str, Any],
    *,
    labels: Mapping[str, str],
    annotations: Mapping[str, str],
    owners: Sequence[Owner],
    patch: Mapping[str, Any] | None = None,
) -> Made:
    """Return an object with its labels and its owners, patched (RFC 7386); it goes when the last of them has gone."""
    marks = {MANAGED_BY_LABEL: MANAGED_BY}
    if owners[0].controller:
        marks[CONTROLLER_LABEL] = label_of(owners[0].controller)
    metadata: Json = {"name": name, "namespace": namespace, "labels": {**labels, **marks}}
    metadata["annotations"] = dict(annotations)
    # An owner in another namespace does not count (meta/v1, OwnerReference).
    references = [each.reference for each in owners if each.object.key.namespace in {"", namespace} and each.uid]
    if references:
        metadata["ownerReferences"] = references
    body: Json = {"apiVersion": api_version, "kind": kind, "metadata": metadata, **content}
    if patch is not None:
        body = merge_patch(body, patch)
        # What tells that the object is ours is no matter of patches.
        body |= {"apiVersion": api_version, "kind": kind}
        body["metadata"] |= {"name": name, "namespace": namespace}
        body["metadata"].setdefault("labels", {}).update(marks)
    digest = blake2b(json.dumps(body, sort_keys=True).encode(), digest_size=_HASH_BYTES).hexdigest()
    body["metadata"].setdefault("annotations", {})[HASH_ANNOTATION] = digest
    group = api_version.rpartition("/")[0]
    return Made(Key(group, kind, namespace, name), api_version, body, owners[0].object.key)


def without_nothing(content: Mapping[str, Any]) -> Json:
    """Return a mapping without the values that say nothing."""
    return {name: value for name, value in content.items() if value not in (None, {}, [], ())}
