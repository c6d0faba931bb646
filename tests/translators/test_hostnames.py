import pytest
from hypothesis import given
from hypothesis import strategies as st

from translators.resolve.hostnames import covers, meet, patterns, specificity

some_hostnames = st.sampled_from(
    ["*", "*.com", "*.a.com", "*.b.a.com", "com", "a.com", "b.a.com", "c.b.a.com", "aa.com", "*.aa.com"]
)


@pytest.mark.parametrize(
    ("one", "other", "both"),
    [
        ("*", "a.com", "a.com"),
        ("*", "*.a.com", "*.a.com"),
        ("*", "*", "*"),
        ("a.com", "a.com", "a.com"),
        ("*.com", "b.a.com", "b.a.com"),
        ("*.com", "*.a.com", "*.a.com"),
        ("*.a.com", "a.com", None),
        ("*.a.com", "b.aa.com", None),
        ("a.com", "b.com", None),
        ("*.a.com", "*.b.com", None),
    ],
)
def test_two_hostnames_meet_in_the_more_specific_one(one: str, other: str, both: str | None) -> None:
    assert meet(one, other) == meet(other, one) == both


@given(some_hostnames, some_hostnames)
def test_what_meets_is_covered_by_both(one: str, other: str) -> None:
    if both := meet(one, other):
        assert covers(one, both)
        assert covers(other, both)


@given(some_hostnames, some_hostnames)
def test_what_is_covered_is_at_least_as_specific(pattern: str, hostname: str) -> None:
    if covers(pattern, hostname):
        assert specificity(hostname) >= specificity(pattern)


def test_a_whole_name_is_more_specific_than_a_longer_wildcard() -> None:
    order = ["*", "*.com", "*.example.com", "a.com", "aa.com"]
    assert sorted(order, key=specificity) == order


@given(st.lists(some_hostnames), some_hostnames)
def test_the_patterns_of_a_hostname_are_all_that_cover_it_the_most_specific_first(
    others: list[str], hostname: str
) -> None:
    found = patterns(hostname)
    assert {each for each in others if covers(each, hostname)} <= set(found)
    assert all(covers(each, hostname) for each in found)
    assert list(found) == sorted(found, key=specificity, reverse=True)
