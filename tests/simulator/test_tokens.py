import msgspec
from hypothesis import given
from hypothesis import strategies as st

from simulator import tokens


def test_four_bytes_are_a_token_and_the_rest_is_one_more() -> None:
    assert [tokens.count(b"x" * length) for length in (0, 1, 4, 5, 8)] == [0, 1, 1, 2, 2]
    assert tokens.count(tokens.from_ids([1, 2, 3])) == 3


@given(st.integers(0, 200), st.integers(0, 200))
def test_an_answer_counts_as_many_tokens_as_it_was_made_of(start: int, length: int) -> None:
    text = tokens.answer(start, start + length)
    assert tokens.count(text) == length
    assert msgspec.json.decode(b'"' + text + b'"') == text.decode()


@given(st.binary(max_size=300), st.binary(max_size=300), st.binary(max_size=300))
def test_equal_beginnings_and_only_they_have_equal_hashes(head: bytes, left: bytes, right: bytes) -> None:
    one, two = tokens.block_hashes(head + left, 4, "m"), tokens.block_hashes(head + right, 4, "m")
    for place, (mine, yours) in enumerate(zip(one, two, strict=False)):
        end = (place + 1) * 16
        assert (mine == yours) == ((head + left)[:end] == (head + right)[:end])
    assert len(one) == len(head + left) // 16


def test_adapters_share_nothing() -> None:
    assert set(tokens.block_hashes(b"x" * 64, 4, "a")).isdisjoint(tokens.block_hashes(b"x" * 64, 4, "b"))
