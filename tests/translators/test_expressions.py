import pytest
from hypothesis import given
from hypothesis import strategies as st

from translators.expressions import LARGEST_PROGRAM, flaw, matches


@pytest.mark.parametrize("expression", [".*", "/v[0-9]+/(chat|files)/.*", "(?i)a", "é+", r"\pN", "a{1,20}", "$^"])
def test_what_re2_compiles_has_no_flaw(expression: str) -> None:
    assert flaw(expression) is None


@pytest.mark.parametrize("expression", ["a(?=b)", "(?<=a)b", "(", "[", "*", r"(a)\1", "a{1001}", "(?>a)", r"\Z"])
def test_what_re2_does_not_know_has_a_flaw(expression: str) -> None:
    assert flaw(expression)


def test_an_empty_expression_has_a_flaw_since_envoy_refuses_it() -> None:
    assert flaw("") == "it is empty"


def test_an_expression_may_be_too_large_for_envoy() -> None:
    assert flaw("a" * (LARGEST_PROGRAM // 2)) is None
    assert "too complex" in (flaw("(a|b|c|dd){100}") or "")


def test_an_expression_matches_the_whole_text() -> None:
    assert matches("lora-.*", "lora-1")
    assert not matches("lora", "lora-1")
    assert not matches("ora.*", "lora-1")


def test_a_dot_is_a_byte_as_in_envoy() -> None:
    assert matches("..", "é")


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_is_judged(expression: str) -> None:
    if flaw(expression) is None:
        matches(expression, "text")
