"""What other objects declare for a pool: its models, the rewriting of their names, and what requests may ask for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from resources import InferenceModel, InferenceObjective, Object, RewriteRule
from translators import ir
from translators.resolve.index import AnyObjective, AnyRewrite, Index, PoolKey
from translators.resolve.pool_kinds import AnyPool, all_pools

ACCEPTED = "Accepted"


@dataclass(frozen=True, slots=True)
class DeclaredState:
    """An object that declares something for a pool, and its problem."""

    object: Object
    problem: ir.Problem | None


def key_of(pool: AnyPool) -> PoolKey:
    """Return how declarations name a pool."""
    key = pool.key
    return key.group, key.namespace, key.name


def models_of(index: Index, pool: AnyPool) -> tuple[ir.Model, ...]:
    """Return the models that are declared for a pool."""
    return tuple(
        ir.Model(
            name=declared.spec.model_name,
            criticality=declared.spec.criticality or "Standard",
            targets=tuple(ir.Target(target.name, target.weight or 1) for target in declared.spec.target_models),
            created=_created(declared),
        )
        for declared in _owners(index.models.get(key_of(pool), ())).values()
    )


def objectives_of(index: Index, pool: AnyPool) -> tuple[ir.Objective, ...]:
    """Return the objectives that requests to a pool may name."""
    owners = _namesakes(index.objectives.get(key_of(pool), ()))
    return tuple(ir.Objective(name, each.spec.priority or 0) for name, each in sorted(owners.items()))


def rewrites_of(index: Index, pool: AnyPool) -> tuple[ir.Rewrite, ...]:
    """Return the rewriting rules of a pool in order of precedence.

    A rule that names models beats one for all of them; then the oldest object counts, then the order within it
    (InferenceModelRewriteSpec, precedence).
    """
    found = [
        _rewrite(rule, _created(each)) for each in index.rewrites.get(key_of(pool), ()) for rule in each.spec.rules
    ]
    return tuple(sorted(found, key=lambda rewrite: not rewrite.models))


def _rewrite(rule: RewriteRule, created: int) -> ir.Rewrite:
    return ir.Rewrite(
        models=tuple(dict.fromkeys(match.model.value for match in rule.matches)),
        targets=tuple(ir.Target(target.model_rewrite, target.weight or 1) for target in rule.targets),
        created=created,
    )


def states(index: Index) -> Iterator[DeclaredState]:
    """Yield how each of these objects stands."""
    pools = {key_of(pool) for pool in all_pools(index.world)}
    for key, models in index.models.items():
        owners = _owners(models)
        for model in models:
            problem = _pool_problem(key, pools)
            owner = owners[model.spec.model_name]
            if problem is None and owner is not model:
                text = f"{owner.key} has this modelName already"
                problem = ir.Problem(ACCEPTED, "ModelNameInUse", text, "spec.modelName")
            yield DeclaredState(model, problem)
    for key, objectives in index.objectives.items():
        namesakes = _namesakes(objectives)
        for objective in objectives:
            problem = _pool_problem(key, pools)
            owner_ = namesakes[objective.key.name]
            if problem is None and owner_ is not objective:
                text = f"the object of this name in the group {owner_.key.group} counts"
                problem = ir.Problem(ACCEPTED, "Conflicted", text, "metadata.name")
            yield DeclaredState(objective, problem)
    for key, rewrites in index.rewrites.items():
        for rewrite in rewrites:
            yield DeclaredState(rewrite, _pool_problem(key, pools))


def _owners(models: tuple[InferenceModel, ...]) -> dict[str, InferenceModel]:
    """Return who owns each name: the oldest InferenceModel that claims it (v1alpha2, InferenceModel)."""
    owners: dict[str, InferenceModel] = {}
    for model in models:
        owners.setdefault(model.spec.model_name, model)
    return owners


def _namesakes(objectives: tuple[AnyObjective, ...]) -> dict[str, AnyObjective]:
    """Return which objective a request means by a name: where both API groups have one, that of the newer group."""
    found: dict[str, AnyObjective] = {}
    for each in objectives:
        if isinstance(each, InferenceObjective) or each.key.name not in found:
            found[each.key.name] = each
    return found


def _pool_problem(key: PoolKey, pools: set[PoolKey]) -> ir.Problem | None:
    if key in pools:
        return None
    group, namespace, name = key
    text = f"InferencePool {namespace}/{name} ({group}) does not exist"
    return ir.Problem(ACCEPTED, "PoolNotFound", text, "spec.poolRef")


def _created(declared: InferenceModel | AnyRewrite) -> int:
    at = declared.metadata.creation_timestamp
    return int(at.timestamp()) if at else 0
