"""InferenceObjective and InferenceModelRewrite, in both of the API groups that hold them."""

from typing import Annotated, Literal

from msgspec import Meta

from resources.fields import FieldError, Fields, Group, Kind, ReferenceName
from resources.inference import INFERENCE_GROUP, X_INFERENCE_GROUP
from resources.meta import Object

LLM_D_GROUP = "llm-d.ai"
_VERSIONS = ("v1alpha2",)


class StablePoolReference(Fields, frozen=True, kw_only=True):
    """A pool in the same namespace; one of v1 unless the group says otherwise."""

    group: Group = INFERENCE_GROUP
    kind: Kind = "InferencePool"
    name: ReferenceName


class InferenceObjectiveSpec(Fields, frozen=True, kw_only=True):
    """How important a request is that names the objective: 0 unless it says so, negative where it may be shed."""

    priority: Annotated[int, Meta(ge=-(1 << 31), lt=1 << 31)] | None = None
    pool_ref: StablePoolReference


class InferenceObjective(Object, frozen=True, kw_only=True):
    """What a request may ask of a pool, by a header with the objective's name."""

    GROUP = LLM_D_GROUP
    KIND = "InferenceObjective"
    VERSIONS = _VERSIONS

    spec: InferenceObjectiveSpec


class XInferenceObjective(Object, frozen=True, kw_only=True):
    """The same in the experimental group."""

    GROUP = X_INFERENCE_GROUP
    KIND = "InferenceObjective"
    VERSIONS = _VERSIONS

    spec: InferenceObjectiveSpec


class ModelMatch(Fields, frozen=True, kw_only=True):
    """A model as a request names it."""

    type: Literal["Exact"] = "Exact"
    value: Annotated[str, Meta(min_length=1)]


class RewriteMatch(Fields, frozen=True, kw_only=True):
    """A condition on a request."""

    model: ModelMatch


class RewriteTarget(Fields, frozen=True, kw_only=True):
    """A name to put in the model's place, and its share.

    The schema bounds no name; this bound is that of InferenceModel's targets, by which held bodies are given room.
    """

    model_rewrite: Annotated[str, Meta(min_length=1, max_length=253)]
    weight: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None


class RewriteRule(Fields, frozen=True, kw_only=True):
    """Matches, of which one is enough (none: every request), and the names of which one is drawn."""

    matches: tuple[RewriteMatch, ...] = ()
    targets: Annotated[tuple[RewriteTarget, ...], Meta(min_length=1)]

    def __post_init__(self) -> None:
        # No Rule: an API server takes none about lists without bounds.
        if len({target.weight is None for target in self.targets}) > 1:
            raise FieldError("targets", "weights must be set for all targets or for none")


class InferenceModelRewriteSpec(Fields, frozen=True, kw_only=True):
    """The pool whose requests are rewritten, and how."""

    pool_ref: StablePoolReference
    rules: tuple[RewriteRule, ...]


class InferenceModelRewrite(Object, frozen=True, kw_only=True):
    """Other names for the models that requests to a pool ask for."""

    GROUP = LLM_D_GROUP
    KIND = "InferenceModelRewrite"
    VERSIONS = _VERSIONS

    spec: InferenceModelRewriteSpec


class XInferenceModelRewrite(Object, frozen=True, kw_only=True):
    """The same in the experimental group."""

    GROUP = X_INFERENCE_GROUP
    KIND = "InferenceModelRewrite"
    VERSIONS = _VERSIONS

    spec: InferenceModelRewriteSpec
