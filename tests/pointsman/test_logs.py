import json

import pytest

from pointsman.logs import Line, Renderer, is_shown, parse


def line(raw: bytes, process: str = "picker") -> Line:
    parsed = parse(process, raw)
    assert parsed is not None
    return parsed


def test_a_json_line_is_read() -> None:
    parsed = line(b'{"level":"warning","event":"Oh","pool":"default/qwen"}\n')
    assert (parsed.level, parsed.event, dict(parsed.fields)) == ("warning", "Oh", {"pool": "default/qwen"})


def test_envoys_names_of_levels_are_translated() -> None:
    assert line(b'{"level":"critical","event":"x"}').level == "critical"
    assert line(b'{"level":"warn","event":"x"}').level == "warning"


def test_an_empty_line_is_nothing() -> None:
    assert parse("picker", b"  \n") is None


@pytest.mark.parametrize("raw", [b"Traceback (most recent call last):", b"[1, 2]", b"\xff\xfe"])
def test_what_is_no_json_object_is_an_error_to_be_seen(raw: bytes) -> None:
    assert is_shown(line(raw), verbose=False)


def test_grpcs_chatter_is_quiet() -> None:
    raw = b"I0000 00:00:1795227823.925163   16263 config.cc:137] gRPC experiments"
    assert not is_shown(line(raw), verbose=False)
    assert is_shown(line(raw), verbose=True)


@pytest.mark.parametrize("event", ["Request Handled", "Endpoint avoided", "Endpoint back"])
def test_the_pickers_news_are_shown_though_they_are_no_warnings(event: str) -> None:
    assert is_shown(line(json.dumps({"level": "info", "event": event}).encode()), verbose=False)


def test_other_information_is_shown_on_demand() -> None:
    parsed = line(b'{"level":"info","event":"Picker ready"}')
    assert not is_shown(parsed, verbose=False)
    assert is_shown(parsed, verbose=True)


def test_envoys_expected_warnings_are_dropped_and_others_kept() -> None:
    alpha = line(b'{"level":"warning","event":"filter is work-in-progress"}', "envoy")
    other = line(b'{"level":"warning","event":"cannot bind"}', "envoy")
    assert not is_shown(alpha, verbose=False)
    assert is_shown(alpha, verbose=True)
    assert is_shown(other, verbose=False)


def test_a_line_is_written_as_json_with_its_process() -> None:
    rendered = json.loads(Renderer(terminal=False)(line(b'{"level":"info","event":"x","n":1}')))
    assert rendered == {"process": "picker", "level": "info", "event": "x", "n": 1}


def test_a_line_is_readable_on_a_terminal() -> None:
    rendered = Renderer(terminal=True)(line(b'{"level":"info","event":"Request Handled","pool":"p"}'))
    assert "picker: Request Handled" in rendered
    assert not rendered.startswith("{")
