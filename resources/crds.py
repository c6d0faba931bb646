"""CustomResourceDefinitions of the kinds that are read and that no package brings, made from their structs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from resources.envoy_proxy import EnvoyProxy
from resources.inference import InferenceModel, InferencePool, XInferencePool
from resources.meta import Object
from resources.objectives import InferenceModelRewrite, InferenceObjective, XInferenceModelRewrite, XInferenceObjective
from resources.policies import BackendTrafficPolicy, ClientTrafficPolicy
from resources.schemas import Schema, schema_of
from resources.traffic import InferenceTrafficPolicy

MANAGED_BY_LABEL = "app.kubernetes.io/managed-by"
MANAGER = "pointsman"

# Groups under these need a word on who approved the definition (Kubernetes, KEP-1111).
_PROTECTED = (".k8s.io", ".kubernetes.io")
_APPROVAL = {"api-approved.kubernetes.io": "unapproved, the part of the API that Pointsman reads"}

_Column = tuple[str, str, str]
"""Title, type, path."""


def _accepted(holder: str) -> _Column:
    return "Accepted", "string", f'.status{holder}.conditions[?(@.type=="Accepted")].status'


_AGE: _Column = ("Age", "date", ".metadata.creationTimestamp")
_POOL: _Column = ("Pool", "string", ".spec.poolRef.name")
_PRIORITY: _Column = ("Priority", "integer", ".spec.priority")


@dataclass(frozen=True, slots=True)
class _Listing:
    """How kubectl names and lists a kind: plural, short name, and the columns before the age."""

    plural: str
    short: str
    columns: tuple[_Column, ...] = ()


_LISTINGS: Mapping[type[Object], _Listing] = {
    BackendTrafficPolicy: _Listing("backendtrafficpolicies", "btp", (_accepted(".ancestors[*]"),)),
    ClientTrafficPolicy: _Listing("clienttrafficpolicies", "ctp", (_accepted(".ancestors[*]"),)),
    EnvoyProxy: _Listing("envoyproxies", "eproxy"),
    InferenceModel: _Listing(
        "inferencemodels",
        "infmodel",
        (
            ("Model", "string", ".spec.modelName"),
            _POOL,
            ("Criticality", "string", ".spec.criticality"),
            _accepted(""),
        ),
    ),
    InferenceModelRewrite: _Listing("inferencemodelrewrites", "infrewrite", (_POOL,)),
    InferenceObjective: _Listing("inferenceobjectives", "infobj", (_POOL, _PRIORITY)),
    InferencePool: _Listing("inferencepools", "infpool", (_accepted(".parents[*]"),)),
    InferenceTrafficPolicy: _Listing("inferencetrafficpolicies", "inftraffic", (_POOL, _accepted(".ancestors[*]"))),
    XInferenceModelRewrite: _Listing("inferencemodelrewrites", "xinfrewrite", (_POOL,)),
    XInferenceObjective: _Listing("inferenceobjectives", "xinfobj", (_POOL, _PRIORITY)),
    XInferencePool: _Listing("inferencepools", "xinfpool", (_accepted(".parent[*]"),)),
}


def definitions() -> tuple[dict[str, Any], ...]:
    """Return the definitions, by name."""
    made = [_definition(kind, listing) for kind, listing in _LISTINGS.items()]
    return tuple(sorted(made, key=lambda each: str(each["metadata"]["name"])))


def _definition(kind: type[Object], listing: _Listing) -> dict[str, Any]:
    metadata: dict[str, Any] = {
        "name": f"{listing.plural}.{kind.GROUP}",
        "labels": {MANAGED_BY_LABEL: MANAGER},
    }
    if kind.GROUP.endswith(_PROTECTED):
        metadata["annotations"] = dict(_APPROVAL)
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": metadata,
        "spec": {
            "group": kind.GROUP,
            "names": {
                "kind": kind.KIND,
                "listKind": f"{kind.KIND}List",
                "plural": listing.plural,
                "singular": kind.KIND.lower(),
                "shortNames": [listing.short],
                "categories": [MANAGER],
            },
            "scope": "Namespaced" if kind.NAMESPACED else "Cluster",
            "versions": [
                {
                    "name": version,
                    "served": True,
                    "storage": version == kind.VERSIONS[0],
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": [
                        {"name": name, "type": of_type, "jsonPath": path}
                        for name, of_type, path in (*listing.columns, _AGE)
                    ],
                    "schema": {"openAPIV3Schema": _schema(kind)},
                }
                for version in kind.VERSIONS
            ],
        },
    }


def _schema(kind: type[Object]) -> Schema:
    """Return the schema of an object: `metadata` is the API server's own affair, and statuses are not read."""
    found = schema_of(kind)
    spec = found["properties"]["spec"]
    return {
        "type": "object",
        "description": found["description"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": spec,
            "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
        },
        **({"required": ["spec"]} if "spec" in found.get("required", ()) else {}),
    }
