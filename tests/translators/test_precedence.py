from typing import Literal

from translators import ir
from translators.headers import MODEL
from translators.resolve.routes import precedence

A = ir.StringMatch("a", "Exact", "1")
B = ir.StringMatch("b", "Exact", "1")
QWEN = ir.StringMatch(MODEL, "Exact", "qwen")


def rule(
    value: str = "/",
    kind: Literal["Exact", "PathPrefix", "RegularExpression"] = "PathPrefix",
    *,
    method: str | None = None,
    headers: tuple[ir.StringMatch, ...] = (),
    query: tuple[ir.StringMatch, ...] = (),
    model: ir.StringMatch | None = None,
) -> ir.Route:
    match = ir.Match(ir.PathMatch(kind, value), headers=headers, query=query, method=method)
    return ir.Route("", "", match, model, ())


def test_matches_are_tried_in_the_order_of_the_specification() -> None:
    order = [
        rule("/a", "Exact"),
        rule("/a.*", "RegularExpression"),
        rule("/a/b"),
        rule("/a", method="GET", headers=(A, B)),
        rule("/a", method="GET"),
        rule("/a", headers=(A, B)),
        rule("/a", headers=(A,), query=(A,)),
        rule("/a", headers=(A,)),
        rule("/a", query=(A, B)),
        rule("/a", query=(A,)),
        rule("/a"),
        rule("/"),
    ]
    mixed = [*order[6:], *order[:6]]
    assert sorted(mixed, key=precedence) == order


def test_the_condition_on_the_model_counts_as_a_header() -> None:
    assert precedence(rule(model=QWEN)) == precedence(rule(headers=(A,))) < precedence(rule())


def test_a_trailing_slash_makes_a_prefix_no_longer() -> None:
    assert precedence(rule("/a/")) == precedence(rule("/a"))
    assert precedence(rule("/a/", "Exact")) < precedence(rule("/a", "Exact"))
