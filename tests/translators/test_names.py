"""Names of what is made in a cluster."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from translators.names import label_value, service_name

SUBDOMAINS = st.from_regex(
    r"[a-z0-9]([-a-z0-9]{,80}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{,80}[a-z0-9])?){,2}", fullmatch=True
)


@pytest.mark.parametrize("name", ["a", "chat-picker", "a1", "p" * 63])
def test_a_good_name_stays(name: str) -> None:
    assert (service_name(name), label_value(name)) == (name, name)


@pytest.mark.parametrize(
    ("name", "service", "value"),
    [
        ("llama-3.1-picker", "llama-3-1-picker-5099ab52", "llama-3.1-picker"),
        ("3b-picker", "x3b-picker-1c654c44", "3b-picker"),
        (f"{'p' * 60}-picker", f"{'p' * 54}-81493155", f"{'p' * 54}-81493155"),
        (f"{'p' * 53}.-{'q' * 20}", f"{'p' * 53}-0935a6d9", f"{'p' * 53}-0935a6d9"),
    ],
)
def test_another_one_ends_with_a_hash_that_never_changes(name: str, service: str, value: str) -> None:
    assert (service_name(name), label_value(name)) == (service, value)


@given(st.sets(SUBDOMAINS, min_size=2, max_size=5))
def test_they_are_good_and_distinct(names: set[str]) -> None:
    services, values = [{make(name) for name in names} for make in (service_name, label_value)]
    assert all(re.fullmatch("[a-z]([-a-z0-9]{,61}[a-z0-9])?", each) for each in services)
    assert all(re.fullmatch("[a-z0-9]([-.a-z0-9]{,61}[a-z0-9])?", each) for each in values)
    assert len(services) == len(values) == len(names)
    assert all(service_name(each) == each for each in services)
