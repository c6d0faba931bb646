"""What filters mean, apart from how Envoy is told."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from translators import ir
from translators.expressions import flaw, matches, origin, prefix_removal

names = st.sampled_from(["a", "b", "c"])
values = st.builds(ir.HeaderValue, names, st.sampled_from(["1", "2"]), beside=st.booleans())
some_changes = st.builds(ir.HeaderChanges, st.lists(names, max_size=2).map(tuple), st.lists(values).map(tuple))


def changed(headers: dict[str, list[str]], changes: ir.HeaderChanges) -> dict[str, list[str]]:
    """Change headers as Envoy does: removals first, then what is written, in order."""
    result = {name: found for name, found in headers.items() if name not in changes.remove}
    for each in changes.write:
        result[each.name] = [*(result.get(each.name, []) if each.beside else []), each.value]
    return result


@given(some_changes, some_changes, st.dictionaries(names, st.lists(st.just("0"), min_size=1, max_size=2)))
def test_two_changes_in_one_are_the_two_in_a_row(
    first: ir.HeaderChanges, second: ir.HeaderChanges, headers: dict[str, list[str]]
) -> None:
    assert changed(headers, first.then(second)) == changed(changed(headers, first), second)


@pytest.mark.parametrize(
    ("redirect", "port", "tls", "shown"),
    [
        # The port of the listener, unless it goes without saying.
        (ir.Redirect(302), 80, False, None),
        (ir.Redirect(302), 8080, False, 8080),
        (ir.Redirect(302), 443, True, None),
        (ir.Redirect(302), 8443, True, 8443),
        (ir.Redirect(302), 443, False, 443),
        # The port of the scheme.
        (ir.Redirect(302, scheme="https"), 80, False, None),
        (ir.Redirect(302, scheme="https", hostname="a"), 8080, False, None),
        (ir.Redirect(302, scheme="http"), 443, True, None),
        # In place of one that the client has written behind the host.
        (ir.Redirect(302, scheme="https"), 8080, False, 443),
        # The port asked for.
        (ir.Redirect(302, port=8080), 80, False, 8080),
        (ir.Redirect(302, hostname="a", port=80), 8080, False, None),
        (ir.Redirect(302, scheme="https", port=443), 80, False, None),
        (ir.Redirect(302, scheme="https", port=80), 80, False, 80),
    ],
)
def test_the_port_that_a_redirect_leads_to(redirect: ir.Redirect, port: int, *, tls: bool, shown: int | None) -> None:
    assert redirect.on(port, tls=tls).port == shown


def test_a_prefix_of_any_length_can_be_removed() -> None:
    assert flaw(prefix_removal("/" + "a" * 1023)) is None


@pytest.mark.parametrize(
    ("pattern", "covered", "others"),
    [
        (
            "https://*.example.com",
            ["https://a.example.com", "https://b.a.example.com", "https://A.Example.com"],
            ["https://example.com", "http://a.example.com", "https://a.example.com:8443", "https://aexample.com"],
        ),
        ("http://*:8080", ["http://a:8080"], ["http://a", "http://a:80:8080", "http://evil/:8080"]),
    ],
)
def test_a_star_in_an_origin_stands_for_labels(pattern: str, covered: list[str], others: list[str]) -> None:
    assert [each for each in (*covered, *others) if matches(origin(pattern), each)] == covered
