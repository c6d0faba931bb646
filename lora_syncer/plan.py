"""What is to be done: plan(config, present) -> actions, and the adapters that cannot be decided. Pure.

Doing what a plan says and planning again gives no action: reconciling is idempotent.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from lora_syncer.config import Adapter, Config


@dataclass(frozen=True, slots=True)
class Present:
    """What a server has: adapters by id with their sources (None if it does not tell them), and its own models."""

    adapters: Mapping[str, str | None] = field(default_factory=dict)
    models: frozenset[str] = frozenset()


class Kind(Enum):
    """What is done to an adapter."""

    LOAD = "load"
    REPLACE = "replace"
    UNLOAD = "unload"


@dataclass(frozen=True, slots=True)
class Action:
    """One thing to be done."""

    kind: Kind
    adapter: Adapter


@dataclass(frozen=True, slots=True)
class Conflict:
    """An adapter of which the configuration says contradictory things: it is left as it is."""

    id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Plan:
    """Loads stand before unloads, so that at no time fewer adapters are there than before and after."""

    actions: tuple[Action, ...] = ()
    conflicts: tuple[Conflict, ...] = ()


def plan(config: Config, present: Present) -> Plan:
    """Compare what shall be with what is."""
    conflicts = _conflicts(config, present)
    wanted = {adapter.id: adapter for adapter in config.wanted if adapter.id not in conflicts}
    loads = [action for adapter in wanted.values() if (action := _towards(adapter, present)) is not None]
    unloads = [
        Action(Kind.UNLOAD, Adapter(name, present.adapters[name] or ""))
        for name in config.unwanted
        if name in present.adapters and name not in conflicts
    ]
    return Plan((*loads, *unloads), tuple(Conflict(name, reason) for name, reason in conflicts.items()))


def _towards(adapter: Adapter, present: Present) -> Action | None:
    if adapter.id not in present.adapters:
        return Action(Kind.LOAD, adapter)
    if present.adapters[adapter.id] in {adapter.source, None}:
        return None
    return Action(Kind.REPLACE, adapter)


def _conflicts(config: Config, present: Present) -> dict[str, str]:
    sources: dict[str, set[str]] = {}
    for adapter in config.wanted:
        sources.setdefault(adapter.id, set()).add(adapter.source)
    found = {name: "it is in both ensureExist and ensureNotExist" for name in config.unwanted if name in sources}
    for name, different in sources.items():
        if len(different) > 1:
            found.setdefault(name, f"ensureExist gives it several sources: {', '.join(sorted(different))}")
    for name in (*sources, *config.unwanted):
        if name in present.models:
            found.setdefault(name, "it is the name of the server's base model")
    return found
