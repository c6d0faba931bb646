"""Durations and quantities."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resources import Duration, Quantity


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [("0s", 0), ("24h", 86_400_000), ("1h30m", 5_400_000), ("500ms", 500), ("1h2m3s4ms", 3_723_004)],
)
def test_durations(text: str, milliseconds: int) -> None:
    assert Duration.parse(text) == milliseconds


@pytest.mark.parametrize("text", ["", "1", "1d", "1.5h", "-1s", "100000s", "1h1m1s1ms1s", "1 s", "1s\n"])
def test_no_durations(text: str) -> None:
    with pytest.raises(ValueError, match="expected a duration"):
        Duration.parse(text)


@given(st.integers(min_value=0, max_value=99_999 * 3_600_000))
def test_durations_are_written_as_they_are_read(milliseconds: int) -> None:
    assert Duration.parse(str(Duration(milliseconds))) == milliseconds


@pytest.mark.parametrize(
    ("text", "amount"),
    [("20Mi", 20 * 2**20), (4096, 4096), ("4096", 4096), ("1.5Ki", 1536), ("1k", 1000), ("1e3", 1000), ("100m", 1)],
)
def test_quantities(text: object, amount: int) -> None:
    assert Quantity.parse(text) == amount


@pytest.mark.parametrize("text", ["", "Mi", "20MB", "20 Mi", "-1", "1e999", "1ee3", "9Ei9", True, 1.5, None, "20Mi\n"])
def test_no_quantities(text: object) -> None:
    with pytest.raises((ValueError, TypeError)):
        Quantity.parse(text)
