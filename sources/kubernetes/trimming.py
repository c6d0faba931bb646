"""What is kept of an object of a cluster: the fields that a gateway uses, each text once.

Ten thousand Pods differ in few words. What is left out cannot wake the translation when it changes, either.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any, cast

from msgspec.structs import replace

from resources import ACTIVE_PORTS_ANNOTATIONS, PLAINTEXT_ANNOTATION, PORTS_ANNOTATION, Container, Object, Pod, PodSpec

# Written by kubectl at each change: the object once more.
_ANNOTATIONS_DROPPED = frozenset({"kubectl.kubernetes.io/last-applied-configuration"})
_POD_ANNOTATIONS = frozenset({*ACTIVE_PORTS_ANNOTATIONS, PLAINTEXT_ANNOTATION, PORTS_ANNOTATION})


# What tools and the server itself write about an object, by the kilobyte.
_METADATA_DROPPED = frozenset({"managedFields", "ownerReferences", "finalizers", "generateName", "selfLink"})
_CONTAINER_FIELDS = ("name", "ports", "restartPolicy")
_STATUS_FIELDS = ("phase", "podIP", "podIPs")


def slim(kind: type[Object], item: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return an object in the API's words without what `trim` would drop: decoding the rest would be in vain."""
    metadata = {name: value for name, value in (item.get("metadata") or {}).items() if name not in _METADATA_DROPPED}
    if kind is not Pod:
        return {**item, "metadata": metadata}
    spec, status = item.get("spec") or {}, item.get("status") or {}
    containers = {
        name: [{field: each[field] for field in _CONTAINER_FIELDS if field in each} for each in spec.get(name) or ()]
        for name in ("containers", "initContainers")
    }
    ready = [each for each in status.get("conditions") or () if each.get("type") == "Ready"]
    return {
        "apiVersion": item.get("apiVersion"),
        "kind": item.get("kind"),
        "metadata": metadata,
        "spec": containers,
        "status": {**{name: status[name] for name in _STATUS_FIELDS if name in status}, "conditions": ready},
    }


def trim(item: Object) -> Object:
    """Return the part of an object that is worth keeping."""
    return _TRIMMERS.get(type(item), _any)(item)


def _any(item: Object) -> Object:
    annotations = item.metadata.annotations
    kept = {name: value for name, value in annotations.items() if name not in _ANNOTATIONS_DROPPED}
    metadata = replace(item.metadata, labels=_interned(item.metadata.labels), annotations=kept)
    return replace(item, metadata=metadata)


def _pod(item: Object) -> Object:
    pod = cast("Pod", item)
    labels = _interned(pod.metadata.labels)
    annotations = {name: value for name, value in pod.metadata.annotations.items() if name in _POD_ANNOTATIONS}
    # A Pod's generation counts changes of its spec, of which nothing but ports is used.
    metadata = replace(pod.metadata, labels=labels, annotations=annotations, generation=0)
    containers = tuple(
        Container(name=sys.intern(each.name), ports=each.ports) for each in pod.spec.lasting if each.ports
    )
    ready = tuple(replace(each, reason="", message="") for each in pod.status.conditions if each.type == "Ready")
    rest = tuple(each for each in pod.status.pod_ips if each.ip != pod.status.pod_ip)
    status = replace(pod.status, phase=sys.intern(pod.status.phase), conditions=ready, pod_ips=rest)
    return replace(pod, metadata=metadata, spec=PodSpec(containers=containers), status=status)


def _interned(labels: Mapping[str, str]) -> Mapping[str, str]:
    return {sys.intern(name): sys.intern(value) for name, value in labels.items()}


_TRIMMERS: Mapping[type[Object], Callable[[Any], Object]] = {Pod: _pod}
