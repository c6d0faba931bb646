"""JSON bodies as clients might write them, and their pieces as they might arrive, for properties."""

import json
from collections.abc import Iterable
from itertools import pairwise

from hypothesis import strategies as st

KEYS = st.one_of(st.sampled_from(["model", "models", "messages", 'a"model', "\\model", "modèl"]), st.text(max_size=5))
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8) | st.sampled_from(
    ['"model": "x"', "\\", '"', "{", "]"]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=12,
)


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """A JSON object with some spelling: spacing, escapes, key order and repeated keys as a client might write them."""
    document = draw(st.dictionaries(KEYS, VALUES, max_size=4))
    items = list(document.items()) + draw(st.lists(st.tuples(st.just("model"), TEXT | VALUES), max_size=2))
    items = draw(st.permutations(items))
    ascii_only = draw(st.booleans())
    space = draw(st.sampled_from(["", " ", "\n\t "]))
    parts = []
    for key, value in items:
        name = json.dumps(key, ensure_ascii=ascii_only)
        if key == "model" and draw(st.booleans()):
            name = '"mod\\u0065l"'
        parts.append(f"{name}{space}:{space}{json.dumps(value, ensure_ascii=ascii_only)}")
    return f"{space}{{{space}{f'{space},{space}'.join(parts)}{space}}}{space}".encode()


def cut(body: bytes, places: Iterable[int]) -> list[bytes]:
    """The body in pieces, of which some may be empty."""
    ends = [0, *sorted(min(place, len(body)) for place in places), len(body)]
    return [body[start:end] for start, end in pairwise(ends)]
