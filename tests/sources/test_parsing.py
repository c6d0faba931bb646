"""YAML and JSON as Kubernetes reads them, with lines, and without harm from hostile texts."""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sources.parsing import MAX_DEPTH, Parsed, Unparsable, parse_json, parse_yaml
from sources.scalars import resolve


def values(text: str) -> list[object]:
    documents = parse_yaml(text)
    assert all(isinstance(each, Parsed) for each in documents), documents
    return [each.value for each in documents if isinstance(each, Parsed)]


def wrong(text: str) -> tuple[int, str]:
    (document,) = parse_yaml(text)
    assert isinstance(document, Unparsable)
    return document.line, document.message


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("on", True), ("No", False), ("y", True), ("nO", "nO"), ("~", None), ("", None), ("null", None),
        ("0", 0), ("-7", -7), ("010", 8), ("0o10", 8), ("0x1F", 31), ("0b11", 3), ("1_000", 1000), ("08", 8),
        ("1.5", 1.5), ("1e3", 1000), ("8080.0", 8080), (".5", 0.5), ("1.2.3", "1.2.3"), ("12:30:45", "12:30:45"),
        ("2024-01-01", "2024-01-01"), ("2024-01-01T00:00:00Z", "2024-01-01T00:00:00Z"), ("-", "-"), ("1Mi", "1Mi"),
        ("10.0.0.1", "10.0.0.1"), ("0x", "0x"), ("1__", 1), ("0b_", "0b_"), ("=", "="),
    ],
)  # fmt: skip
def test_plain_scalars(text: str, value: object) -> None:
    found = resolve(text)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("text", [".inf", "-.Inf", ".nan", "1e999"])
def test_numbers_that_json_does_not_have(text: str) -> None:
    with pytest.raises(ValueError, match="number"):
        resolve(text)
    assert "cannot be parsed" in wrong(f"a: {text}")[1]


def test_quoted_and_tagged_scalars() -> None:
    assert values("a: 'on'\nb: \"1\"\nc: !!str 1\nd: ! 1\ne: !!int '7'\nf: !!timestamp 2024-01-01\ng: |\n  on\n") == [
        {"a": "on", "b": "1", "c": "1", "d": "1", "e": 7, "f": "2024-01-01", "g": "on\n"}
    ]


def test_keys_are_text() -> None:
    assert values("on: 1\n8080: 2\n1.5: 3\n") == [{"true": 1, "8080": 2, "1.5": 3}]


def test_several_documents() -> None:
    assert values("a: 1\n---\n# nothing\n---\nb: 2\n...\n---\nc: 3\n--- {d: 4}\n") == [
        {"a": 1},
        {"b": 2},
        {"c": 3},
        {"d": 4},
    ]


def test_directives_stay_with_their_document() -> None:
    assert values("%YAML 1.1\n# first\n---\na: 1\n") == [{"a": 1}]


def test_windows_line_ends_and_byte_order() -> None:
    assert values("a: 1\r\n---\r\nb: 2\r\n") == [{"a": 1}, {"b": 2}]


def test_a_separator_inside_a_text_block_is_text() -> None:
    assert values("a: |\n  x\n  ---\n  y\n") == [{"a": "x\n---\ny\n"}]


def test_one_bad_document_does_not_take_the_others_with_it() -> None:
    first, second, third = parse_yaml("a: 1\n---\nb: [1,\n---\nc: 3\n")
    assert isinstance(first, Parsed)
    assert isinstance(second, Unparsable)
    assert isinstance(third, Parsed)
    assert (third.value, third.line) == ({"c": 3}, 5)


def test_aliases_and_merges() -> None:
    text = "a: &x {p: 1, q: 2}\nb: *x\nc:\n  <<: *x\n  q: 3\nd:\n  <<: [*x, {r: 4}]\n"
    assert values(text) == [
        {"a": {"p": 1, "q": 2}, "b": {"p": 1, "q": 2}, "c": {"p": 1, "q": 3}, "d": {"p": 1, "q": 2, "r": 4}}
    ]


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", 3, "key 'a' stands twice in one mapping"),
        ("a:\n  b: {c: 1, c: 2}\n", 2, "key 'c' stands twice"),
        ("1: a\n'1': b\n", 2, "key '1' stands twice"),
        ("a: 1\nb: *x\n", 2, "alias 'x' has no anchor before it"),
        ("a: &x [*x]\n", 1, "alias 'x' has no anchor before it"),
        ("a: 1\n b: 2\n", 2, "cannot be parsed: "),
        ("a: 'b\n", 2, "cannot be parsed: "),
        ("a: !!python/object/apply:os.system [ls]\n", 1, "tag tag:yaml.org,2002:python"),
        ("a: !!binary aGk=\n", 1, "tag tag:yaml.org,2002:binary means nothing here"),
        ("? [a]\n: b\n", 1, "a key is no text"),
        ("~: b\n", 1, "a key is null"),
        ("a:\n  <<: 3\n", 2, "'<<' needs a mapping"),
        ("a: b\x00\n", 1, "characters that YAML does not allow"),
    ],
)
def test_complaints(text: str, line: int, message: str) -> None:
    found_line, found = wrong(text)
    assert message in found
    assert found_line == line


@pytest.mark.parametrize(
    "text", ["[" * 200_000, "{a: " * 200_000, "- " * 200_000, "".join(f"{' ' * i}a:\n" for i in range(500))]
)
def test_deep_nesting_is_refused_and_ends_nothing(text: str) -> None:
    assert f"nested deeper than {MAX_DEPTH} levels" in wrong(text)[1]


def test_a_bomb_of_aliases_is_refused() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    assert "aliases add more than" in wrong("\n".join(lines))[1]


def test_messages_do_not_quote_values() -> None:
    for text in ("password: 'hunter2\n", "password: [hunter2\n", "password: hunter2\x07\n", "password: @hunter2\n"):
        assert "hunter2" not in wrong(text)[1]
        assert "hunter2" not in str(parse_json('{"password": "hunter2'))


class TestLines:
    text = "# first\n\na:\n  b:\n  - c: 1\n    d: 2\n  - e:\n      f: 3\n---\n\ng: 4\n"

    @pytest.mark.parametrize(
        ("steps", "line"),
        [
            ((), 3), (("a",), 3), (("a", "b"), 4), (("a", "b", 0), 5), (("a", "b", 0, "d"), 6),
            (("a", "b", 1, "e", "f"), 8), (("a", "b", 1, "missing"), 7), (("a", "b", 7), 4), (("missing", "b"), 3),
        ],
    )  # fmt: skip
    def test_of_fields(self, steps: tuple[str | int, ...], line: int) -> None:
        first, second = parse_yaml(self.text)
        assert isinstance(first, Parsed)
        assert first.line_of(steps) == line
        assert isinstance(second, Parsed)
        assert second.line_of(("g",)) == 11


class TestJson:
    def test_values_and_lines(self) -> None:
        first, second = parse_json('\n{"a": {"b": [1,\n 2.0]}}\n{"c": "\\/ \\ud83d\\ude00"}')
        assert isinstance(first, Parsed)
        assert (first.value, first.line_of(("a", "b", 1))) == ({"a": {"b": [1, 2]}}, 3)
        assert isinstance(second, Parsed)
        assert (second.value, second.line) == ({"c": "/ \U0001f600"}, 4)

    @pytest.mark.parametrize(
        ("text", "line", "message"),
        [
            ('{"a": 1,\n "a": 2}', 1, "key 'a' stands twice in one object"),
            ('{"a":\n 1,}', 2, "cannot be parsed: "),
            ('{"a": NaN}', 1, "NaN is no number of JSON"),
            ("[" * 100_000, 1, "nested deeper than"),
            ("[" * 100 + "]" * 100, 1, "nested deeper than"),
        ],
    )
    def test_complaints(self, text: str, line: int, message: str) -> None:
        (document,) = parse_json(text)
        assert isinstance(document, Unparsable)
        assert message in document.message
        assert document.line == line

    @given(
        st.recursive(
            st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8),
            lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
            max_leaves=10,
        )
    )
    def test_what_json_writes_is_read_back(self, value: Any) -> None:
        (document,) = parse_json(json.dumps(value))
        assert isinstance(document, Parsed)
        assert document.value == value


class TestTextInBraces:
    """It is JSON where it can be, and YAML otherwise."""

    @settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(
        st.dictionaries(
            st.text(max_size=8),
            st.recursive(
                st.none() | st.booleans() | st.integers() | st.floats(-1e9, 1e9) | st.text(max_size=8),
                lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
                max_leaves=10,
            ),
            max_size=4,
        ),
        st.sampled_from((None, 1)),
    )
    def test_it_says_what_the_same_says_as_yaml(self, value: dict[str, Any], indent: int | None) -> None:
        text = json.dumps(value, indent=indent)
        (document,) = parse_yaml(text)
        assert isinstance(document, Parsed)
        match parse_yaml("# YAML\n" + text):
            case (Parsed() as other,):
                assert other.value == document.value
                assert all(other.line_of((name,)) == document.line_of((name,)) + 1 for name in value)
            case _:
                # YAML has no escapes of half a character, and no DEL.
                assert "\\ud" in text or "\x7f" in text

    def test_a_field_has_its_line(self) -> None:
        (document,) = parse_yaml('{"a": {\n "b": [1,\n {"c": 2}]}}\n')
        assert isinstance(document, Parsed)
        assert [document.line_of(steps) for steps in ((), ("a",), ("a", "b", 1, "c"), ("a", "x"))] == [1, 1, 3, 1]

    def test_yaml_in_braces(self) -> None:
        assert values("{a: 1}") == [{"a": 1}]
        assert values('{"a": 1}\n---\n{"b": 2}\n') == [{"a": 1}, {"b": 2}]
        assert values('{"a": 1} # remark') == [{"a": 1}]

    @pytest.mark.parametrize(
        ("text", "line", "message"),
        [
            ('{"a": 1,\n "a": 2}', 2, "key 'a' stands twice in one mapping"),
            ('{"a":\n' * 100 + "1" + "}" * 100, 66, "nested deeper than"),
            ('{"a": [' + "[]," * 100 + '{"a":' * 65 + "1" + "}" * 65 + "]}", 1, "nested deeper than"),
            ('{"a": 1e999}', 1, "the number is too large"),
            ('{"a": 1} b', 1, "cannot be parsed: "),
        ],
    )
    def test_complaints(self, text: str, line: int, message: str) -> None:
        found_line, found = wrong(text)
        assert message in found
        assert found_line == line

    def test_as_deep_as_may_be(self) -> None:
        text = '{"a":' * MAX_DEPTH + "1" + "}" * MAX_DEPTH
        (document,) = parse_yaml(text)
        assert document == Parsed(json.loads(text), 1, json=text)


@given(st.text(alphabet=" \n-:#[]{}&*!|>'\"%@`ab1,?<~.\t", max_size=40))
def test_every_text_parses_or_is_told_of(text: str) -> None:
    for document in (*parse_yaml(text), *parse_json(text)):
        assert document.line >= 1
