"""What a pool's objects say of a request: the name to serve it under, whether it may be shed, whether it is refused.

1. *Target.*  The first rewrite that matches the model gives the targets, else the model's own InferenceModel does; one
   is drawn by weight.  A model without targets is served under its own name.
2. *Shedding.*  An objective that the request names, and the pool has, decides: a negative priority may be shed.  Else
   the model's criticality does: Sheddable may be.  Else the pool's word on models that it does not list.
3. *Refusal.*  Where a pool refuses models that it does not list, one that neither an InferenceModel nor a rewrite
   names is refused.  A request whose model nobody knows is not: there is no name to refuse.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from msgspec import Struct

from picker.models import Targets
from protos.pointsman.picker.v1 import pool_pb2

_SHEDDABLE, _REFUSED = pool_pb2.UNLISTED_SHEDDABLE, pool_pb2.UNLISTED_REFUSED
_NOTHING: Mapping[str, int] = MappingProxyType({})


class Model(Struct, frozen=True):
    """An InferenceModel: under which names it is served, and whether it may be shed."""

    targets: Targets
    sheddable: bool = False


class Rewrite(Struct, frozen=True):
    """An InferenceModelRewrite's rule; no models means every one."""

    models: frozenset[str]
    targets: Targets


class Rules(Struct, frozen=True):
    """All of a pool's; `unlisted` is a `pool_pb2.Unlisted`, `objectives` are priorities by name."""

    models: Mapping[str, Model] = MappingProxyType({})
    rewrites: tuple[Rewrite, ...] = ()
    objectives: Mapping[str, int] = _NOTHING
    unlisted: int = pool_pb2.UNLISTED_STANDARD

    @classmethod
    def of(cls, pool: pool_pb2.Pool) -> Rules:
        """Read the control plane's message."""
        return cls(
            {
                model.name: Model(_targets(model), model.criticality == pool_pb2.CRITICALITY_SHEDDABLE)
                for model in pool.models
            },
            tuple(Rewrite(frozenset(rewrite.models), _targets(rewrite)) for rewrite in pool.rewrites),
            {objective.name: objective.priority for objective in pool.objectives},
            pool.unlisted,
        )

    @property
    def names_models(self) -> bool:
        """Whether the model's name makes any difference here."""
        return bool(self.models or self.rewrites) or self.unlisted == _REFUSED

    def names(self, model: str) -> bool:
        """Whether an InferenceModel or a rewrite names the model, be it as a target."""
        if model in self.models:
            return True
        if any(model in rewrite.models or model in rewrite.targets.names for rewrite in self.rewrites):
            return True
        return any(model in known.targets.names for known in self.models.values())

    def target(self, model: str, dice: Callable[[], float]) -> str:
        """Draw the name under which servers know the model."""
        targets = self._targets(model)
        return (targets.draw(dice) if targets is not None else None) or model

    def sheds(self, model: str, objective: str) -> bool:
        """Tell whether a request may be refused when the pool is busy."""
        if objective:
            priority = self.objectives.get(objective)
            if priority is not None:
                return priority < 0
        known = self.models.get(model)
        return self.unlisted == _SHEDDABLE if known is None else known.sheddable

    def refuses(self, model: str) -> bool:
        """Tell whether a request for the model is refused at once."""
        return self.unlisted == _REFUSED and model != "" and model not in self.models and self._rewrite(model) is None

    def _targets(self, model: str) -> Targets | None:
        rewrite = self._rewrite(model)
        if rewrite is not None:
            return rewrite.targets
        known = self.models.get(model)
        return None if known is None else known.targets

    def _rewrite(self, model: str) -> Rewrite | None:
        for rewrite in self.rewrites:
            if not rewrite.models or model in rewrite.models:
                return rewrite
        return None


def _targets(of: pool_pb2.Model | pool_pb2.Rewrite) -> Targets:
    return Targets.of([(target.name, target.weight) for target in of.targets])
