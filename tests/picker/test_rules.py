from __future__ import annotations

import random
from collections import Counter

from picker.rules import Rules
from protos.pointsman.picker.v1 import pool_pb2

UNLISTED = (pool_pb2.UNLISTED_SHEDDABLE, pool_pb2.UNLISTED_STANDARD, pool_pb2.UNLISTED_REFUSED)


def rules(unlisted: pool_pb2.Unlisted.ValueType = pool_pb2.UNLISTED_STANDARD) -> Rules:
    pool = pool_pb2.Pool(name="p", unlisted=unlisted)
    pool.models.add(name="plain")
    pool.models.add(name="critical", criticality=pool_pb2.CRITICALITY_CRITICAL).targets.add(name="v1", weight=1)
    pool.models.add(name="cheap", criticality=pool_pb2.CRITICALITY_SHEDDABLE)
    pool.objectives.add(name="batch", priority=-1)
    pool.objectives.add(name="zero", priority=0)
    return Rules.of(pool)


def test_criticality_and_the_word_on_others_say_who_may_be_shed() -> None:
    assert [rules().sheds(model, "") for model in ("plain", "critical", "cheap", "other", "")] == [
        False,
        False,
        True,
        False,
        False,
    ]
    assert [rules(unlisted).sheds("other", "") for unlisted in UNLISTED] == [True, False, False]
    assert not rules(pool_pb2.UNLISTED_SHEDDABLE).sheds("plain", "")


def test_an_objective_that_the_pool_has_overrides_the_model() -> None:
    assert rules().sheds("critical", "batch")
    assert not rules().sheds("cheap", "zero")
    assert rules().sheds("cheap", "unheard-of")


def test_only_models_with_a_name_that_nobody_lists_are_refused() -> None:
    assert [rules(unlisted).refuses("other") for unlisted in UNLISTED] == [False, False, True]
    refusing = rules(pool_pb2.UNLISTED_REFUSED)
    assert not refusing.refuses("plain")
    assert not refusing.refuses("")
    assert refusing.names_models
    assert not Rules().names_models


def test_the_first_rewrite_that_matches_applies_by_weight() -> None:
    pool = pool_pb2.Pool(name="p", unlisted=pool_pb2.UNLISTED_REFUSED)
    pool.models.add(name="a").targets.add(name="never", weight=1)
    first = pool.rewrites.add(models=["a", "b"])
    first.targets.add(name="x", weight=9)
    first.targets.add(name="y", weight=1)
    made = Rules.of(pool)
    dice = random.Random(2).random  # noqa: S311  (dice)
    drawn = Counter(made.target("a", dice) for _ in range(1000))
    assert set(drawn) == {"x", "y"}
    assert 60 < drawn["y"] < 150
    assert made.target("c", dice) == "c"
    assert not made.refuses("b")
    assert made.refuses("c")
    pool.rewrites.add().targets.add(name="all", weight=1)
    made = Rules.of(pool)
    assert (made.target("c", dice), made.refuses("c")) == ("all", False)
    assert made.target("b", dice) in "xy"
