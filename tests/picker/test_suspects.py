from __future__ import annotations

import pytest

from picker.access_log import Outcome, suspects

OFFERED = ["a", "b", "c"]


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (Outcome("a", 1, 200, "via_upstream"), []),
        (Outcome("a", 1, 500, "via_upstream"), []),
        (Outcome("a", 1, 400, "via_upstream"), []),
        (Outcome("b", 2, 200, "via_upstream"), ["a"]),
        (Outcome("c", 3, 200, "via_upstream"), ["a", "b"]),
        (Outcome("b", 1, 200, "via_upstream"), ["a"]),
        (Outcome("d", 3, 200, "via_upstream"), ["a", "b", "c"]),
        (Outcome("a", 1, 503, "via_upstream"), ["a"]),
        (Outcome("c", 3, 503, "via_upstream"), ["a", "b", "c"]),
        (Outcome("b", 2, 503, "upstream_reset_before_response_started{connection_failure}"), ["a", "b"]),
        (Outcome("", 1, 503, "upstream_reset_before_response_started{connection_failure}"), ["a"]),
        (Outcome("a", 1, 0, "downstream_remote_disconnect"), []),
        (Outcome("", 0, 503, "no_healthy_upstream"), []),
    ],
)
def test_who_is_suspect(outcome: Outcome, expected: list[str]) -> None:
    assert suspects(outcome, OFFERED) == expected


def test_without_a_pick_only_the_one_that_served_badly_is_suspect() -> None:
    assert suspects(Outcome("z", 2, 200, "via_upstream"), []) == []
    assert suspects(Outcome("z", 2, 503, "via_upstream"), []) == ["z"]
