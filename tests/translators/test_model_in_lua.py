"""The script that finds a body's model: it finds what Python's JSON parser, which servers use, understands."""

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lua_script import examine

from translators.features.model_in_lua import LONGEST, NO_JSON, NO_NAME, PLAIN

_TEXTS = st.text() | st.sampled_from(["model", "{", "}", '"', "\\", '\\"', "[", "]", "\\u0022", ","])
_SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | _TEXTS
_KEYS = st.sampled_from(["model", "Model", "models", "messages"]) | _TEXTS
_DOCUMENTS = st.recursive(_SCALARS, lambda inner: st.lists(inner) | st.dictionaries(_KEYS, inner), max_leaves=12)
_OBJECTS = st.dictionaries(_KEYS, _DOCUMENTS, max_size=4)
_BLANKS = st.text(" \t\r\n", max_size=2)


def understood(body: bytes) -> tuple[str, bytes | None]:
    document = json.loads(body)
    model = document.get("model") if isinstance(document, dict) else None
    if model is None or isinstance(model, (dict, list)):
        return PLAIN, None
    if not isinstance(model, str) or not model:
        return NO_NAME, None
    try:
        name = model.encode()
    except UnicodeEncodeError:
        return NO_NAME, None
    if len(name) > LONGEST or any(unicodedata.category(character) == "Cc" for character in model):
        return NO_NAME, None
    return PLAIN, name


@st.composite
def _bodies(draw: st.DrawFn) -> bytes:
    """JSON in all its ways of writing, with keys that come twice."""
    ascii_only = draw(st.booleans())

    def spaced(sign: str) -> str:
        return draw(_BLANKS) + sign + draw(_BLANKS)

    def written(value: object) -> str:
        return json.dumps(value, ensure_ascii=ascii_only, separators=(spaced(","), spaced(":")))

    members = [item for part in draw(st.lists(_OBJECTS, max_size=3)) for item in part.items()]
    inside = spaced(",").join(spaced(":").join(map(written, item)) for item in members)
    return (spaced("{") + inside + spaced("}")).encode()


@given(_bodies())
def test_it_finds_what_servers_understand(body: bytes) -> None:
    assert examine(body) == understood(body)


@given(_DOCUMENTS)
def test_what_is_no_object_names_no_model(document: object) -> None:
    body = json.dumps(document).encode()
    assert examine(body) == understood(body)


@given(_bodies(), st.data())
def test_what_breaks_off_is_no_json(body: bytes, data: st.DataObject) -> None:
    body = body.strip()
    cut = body[: data.draw(st.integers(0, len(body) - 1))]
    assert examine(cut) == (NO_JSON, None)


@given(_bodies(), st.binary(min_size=1, max_size=3), st.data())
def test_a_name_is_always_one_that_a_header_may_carry(body: bytes, noise: bytes, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(body)))
    outcome, name = examine(body[:place] + noise + body[place:])
    assert (outcome == PLAIN) or name is None
    if name is not None:
        assert 0 < len(name) <= LONGEST
        assert not any(unicodedata.category(character) == "Cc" for character in name.decode())


@pytest.mark.parametrize(
    ("body", "outcome", "name"),
    [
        (b'{"model":"a"}', PLAIN, b"a"),
        (b'{"model":"a","model":"b"}', PLAIN, b"b"),
        (b'{"model":"a","model":null}', PLAIN, None),
        (rb'{"\u006d\u006F\u0064\u0065\u006c":"a"}', PLAIN, b"a"),
        (rb'{"model":"\ud83d\ude82\/\""}', PLAIN, '🚂/"'.encode()),
        (rb'{"model":"\ud83d"}', NO_NAME, None),
        (b'{"model":"\xff"}', NO_NAME, None),
        (b'{"model":"\xc0\xaf"}', NO_NAME, None),
        (rb'{"model":"\x"}', NO_JSON, None),
        (b'\xef\xbb\xbf{"model":"a"}', PLAIN, b"a"),
        (b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b',"model":"a"}', PLAIN, b"a"),
        (b'{"x":"' + rb"\\" * 100_000 + b'","model":"a"}', PLAIN, b"a"),
        (b'{"model":"' + b"a" * LONGEST + b'"}', PLAIN, b"a" * LONGEST),
        (b'{"model":"' + b"a" * LONGEST + b'a"}', NO_NAME, None),
        (b'{"model":"a",}', NO_JSON, None),
        (b'{"model":"a"} x', NO_JSON, None),
        (b'{"model":"a","x":01}', NO_JSON, None),
        (b'{"model":"a","x":1.}', NO_JSON, None),
        (b'{"model":"a","x":nil}', NO_JSON, None),
        (b'{"model":"a","x"}', NO_JSON, None),
        (b'{model:"a"}', NO_JSON, None),
        (b"", NO_JSON, None),
    ],
)
def test_cases(body: bytes, outcome: str, name: bytes | None) -> None:
    assert examine(body) == (outcome, name)
