"""What all Kubernetes objects share: identity and metadata."""

import datetime as dt
from collections.abc import Mapping
from typing import ClassVar, Literal

import msgspec

from resources.fields import DnsLabel, Fields, Subdomain


class Key(msgspec.Struct, frozen=True, order=True):
    """The identity of an object in a cluster or a folder; `namespace` is "" for a cluster-scoped kind."""

    group: str
    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"


class ObjectMeta(Fields, frozen=True, kw_only=True):
    """The part of `metadata` that a gateway reads."""

    SILENT: ClassVar[frozenset[str]] = frozenset(
        {"uid", "resourceVersion", "managedFields", "ownerReferences", "finalizers", "generateName", "selfLink",
         "deletionGracePeriodSeconds"},
    )  # fmt: skip

    name: Subdomain
    namespace: DnsLabel | None = None
    labels: Mapping[str, str] = {}
    annotations: Mapping[str, str] = {}
    creation_timestamp: dt.datetime | None = None
    generation: int = 0
    deletion_timestamp: dt.datetime | None = None


class Object(Fields, frozen=True, kw_only=True):
    """A Kubernetes object of a kind that Pointsman knows.

    `unbuilt` holds the paths of the fields that the object sets and that its API knows, but Pointsman has not built.
    A `LENIENT` kind has fields by the hundred that mean nothing to a gateway; none of them is reported.
    """

    GROUP: ClassVar[str]
    KIND: ClassVar[str]
    VERSIONS: ClassVar[tuple[str, ...]]
    NAMESPACED: ClassVar[bool] = True
    LENIENT: ClassVar[bool] = False
    SILENT: ClassVar[frozenset[str]] = frozenset({"apiVersion", "kind", "status"})

    metadata: ObjectMeta
    unbuilt: tuple[str, ...] = ()

    @property
    def key(self) -> Key:
        """The object's identity."""
        return Key(self.GROUP, self.KIND, self.metadata.namespace or "", self.metadata.name)

    @classmethod
    def trimmed(cls, raw: Mapping[str, object]) -> Mapping[str, object]:
        """Return a document of this kind without what is not even to be looked at."""
        return raw

    def __hash__(self) -> int:
        # Equal objects have equal identities; labels are mappings, which have no hash of their own.
        return hash(self.key)


class LabelSelectorRequirement(Fields, frozen=True, kw_only=True):
    """One expression of a label selector."""

    key: str
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    values: tuple[str, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether an object with these labels is chosen."""
        if self.operator == "Exists":
            return self.key in labels
        if self.operator == "DoesNotExist":
            return self.key not in labels
        if self.operator == "In":
            return self.key in labels and labels[self.key] in self.values
        return self.key not in labels or labels[self.key] not in self.values


class LabelSelector(Fields, frozen=True, kw_only=True):
    """A label selector; an empty one chooses everything."""

    match_labels: Mapping[str, str] = {}
    match_expressions: tuple[LabelSelectorRequirement, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether an object with these labels is chosen."""
        return self.match_labels.items() <= labels.items() and all(e.matches(labels) for e in self.match_expressions)

    def __hash__(self) -> int:
        return hash((frozenset(self.match_labels.items()), self.match_expressions))
