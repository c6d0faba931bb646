from __future__ import annotations

import io

import orjson
from picker_worlds import Stderr

from picker.logs import open_log


def test_elsewhere_a_line_is_json() -> None:
    stderr = Stderr()
    open_log(stderr).event("Endpoint avoided", pod="default/a")
    [line] = stderr.lines("Endpoint avoided")
    assert line.pop("timestamp").endswith("Z")
    assert line == {"event": "Endpoint avoided", "pod": "default/a", "level": "info"}


def test_lines_are_held_until_the_batch_is_complete() -> None:
    stderr = Stderr()
    log = open_log(stderr)
    log.logger.info("Request Handled", number=1)
    log.logger.info("Request Handled", number=2)
    assert stderr.lines("Request Handled") == []
    log.release()
    assert [line["number"] for line in stderr.lines("Request Handled")] == [1, 2]


def test_on_a_terminal_a_line_is_to_be_read() -> None:
    class Terminal(io.TextIOWrapper):
        def isatty(self) -> bool:
            return True

    raw = io.BytesIO()
    terminal = Terminal(raw)
    open_log(terminal).event("Request Handled", pool="default/qwen")
    text = raw.getvalue().decode()
    assert "Request Handled" in text
    assert "default/qwen" in text
    assert text.endswith("\n")
    assert orjson.dumps("pool") not in raw.getvalue()


def test_a_reader_that_is_gone_stops_nothing() -> None:
    stderr = Stderr()
    log = open_log(stderr)
    stderr.buffer.close()
    log.event("Request Handled")
