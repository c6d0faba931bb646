"""One pool by itself: what the picker that it names has to know, where no control plane tells it."""

from __future__ import annotations

from dataclasses import dataclass

from resources import InferencePool, World, XInferencePool
from translators import ir
from translators.resolve.endpoints import endpoints_of_pool
from translators.resolve.index import Index
from translators.resolve.pools import advice_on, pool_for_others
from translators.translation import Resource, assignment_resource, pool_resource


@dataclass(frozen=True, slots=True)
class PoolAlone:
    """The pool and its endpoints, none where it cannot be picked for, and what is wrong with it, one line each."""

    pool: Resource | None
    endpoints: Resource | None
    problems: tuple[str, ...] = ()


def translate_pool(world: World, name: str) -> PoolAlone:
    """Translate the pool called `name`, "namespace/name"; where both versions of the API have one, that of v1."""
    namespace, _, short = name.partition("/")
    found = world.get(InferencePool, namespace, short) or world.get(XInferencePool, namespace, short)
    if found is None:
        return PoolAlone(None, None, (f"InferencePool {name}: does not exist",))
    index = Index.of(world)
    meaning = pool_for_others(index, found)
    if isinstance(meaning, ir.Problem):
        return PoolAlone(None, None, (f"{found.key}: {meaning}",))
    assignment = ir.Assignment(meaning.cluster, meaning.origin, endpoints_of_pool(index, found))
    advice = tuple(f"{found.key}: {each}" for each in advice_on(found))
    return PoolAlone(pool_resource(meaning), assignment_resource(assignment), advice)
