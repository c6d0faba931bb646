from __future__ import annotations

import tracemalloc
from collections import OrderedDict

from hypothesis import given
from hypothesis import strategies as st

from picker.prefixes import Prefixes

# Prompts over few letters share beginnings; a prompt's chain is its prefixes, by any injective hash.
WORDS = st.text("ab", max_size=12)


def chain(word: str) -> list[int]:
    return [hash(word[: length + 1]) for length in range(len(word))]


def common(word: str, other: str) -> int:
    return next(
        (place for place, (one, two) in enumerate(zip(word, other, strict=False)) if one != two),
        min(len(word), len(other)),
    )


@given(st.lists(WORDS, max_size=12), st.lists(WORDS, max_size=6), WORDS, st.integers(0, 14))
def test_a_match_is_the_longest_common_beginning(served: list[str], sent: list[str], word: str, near: int) -> None:
    prefixes = Prefixes()
    for other in served:
        prefixes.learn(chain(other))
    for other in sent:
        assert prefixes.expect(chain(other))
    assert prefixes.match(chain(word), near) == max((common(word, other) for other in served + sent), default=0)
    for other in sent:
        prefixes.withdraw(chain(other))
    assert prefixes.match(chain(word), near) == max((common(word, other) for other in served), default=0)


@given(st.integers(1, 20), st.lists(WORDS, max_size=30), WORDS)
def test_memory_is_bounded_and_what_is_left_is_of_beginnings(capacity: int, served: list[str], word: str) -> None:
    prefixes = Prefixes(capacity)
    kept: OrderedDict[str, None] = OrderedDict()
    for other in served:
        prefixes.learn(chain(other))
        for length in range(len(other), 0, -1):
            kept[other[:length]] = None
            kept.move_to_end(other[:length])
        while len(kept) > capacity:
            kept.popitem(last=False)
        assert len(prefixes) == len(kept) <= capacity
    known = 0
    while known < len(word) and word[: known + 1] in kept:
        known += 1
    assert prefixes.match(chain(word)) == known


@given(st.lists(WORDS, max_size=20))
def test_what_is_expected_is_bounded_too(sent: list[str]) -> None:
    prefixes = Prefixes(15)
    noted = [word for word in sent if prefixes.expect(chain(word))]
    assert len({link for word in noted for link in chain(word)}) <= 15
    for word in noted:
        prefixes.withdraw(chain(word))
    assert all(prefixes.match(chain(word)) == 0 for word in sent)


def test_a_restarted_pod_has_nothing() -> None:
    prefixes = Prefixes()
    prefixes.learn(chain("abab"))
    prefixes.forget()
    assert (len(prefixes), prefixes.match(chain("abab"))) == (0, 0)


def test_a_full_one_takes_less_than_three_mebibytes() -> None:
    tracemalloc.start()
    try:
        prefixes = Prefixes()
        for number in range(300):
            prefixes.learn([hash((number, place)) for place in range(100)])
        assert tracemalloc.get_traced_memory()[0] < 3 * 2**20
    finally:
        tracemalloc.stop()
