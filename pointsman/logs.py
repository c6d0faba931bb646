"""Structured logs: how a command writes its own, and how `up` reads its children's.

A child's log is a pipe, so its lines are JSON objects (Envoy's too, see `bootstrap`); a terminal gets readable lines.
"""

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import orjson
import structlog
from structlog.typing import EventDict

HANDLED = "Request Handled"
"""The event of the picker's one line for each request."""

# The picker's other news that the user of `up` is glad to have.
_NEWS = {
    HANDLED,
    "Endpoint avoided",
    "Endpoint back",
    "Adapter loaded",
    "Adapter replaced",
    "Adapter unloaded",
}
_QUIET = {"trace", "debug", "info", "notset"}
# Envoy names levels in its own way.
_LEVELS = {"warn": "warning", "err": "error", "fatal": "critical"}
# gRPC's C core writes abseil's log format: severity, month and day, time.
_ABSEIL = re.compile(r"^(?:[IW]\d{4} \d\d:\d\d:\d\d|WARNING: All log messages before absl::InitializeLog)")
# Envoy says at start that the AI Protocol Manager is alpha; docs/decisions says why that is accepted.
_EXPECTED = re.compile(
    r"work-in-progress|is in alpha|caught ENVOY_SIGTERM|gRPC config stream to pointsman-control-plane closed",
    re.IGNORECASE,
)


def configure() -> None:
    """Log to stderr: readable lines on a terminal, JSON lines anywhere else."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            *(
                (structlog.dev.ConsoleRenderer(),)
                if sys.stderr.isatty()
                else (structlog.processors.format_exc_info, structlog.processors.JSONRenderer(_json))
            ),
        ],
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
    )


def _json(value: object, **_: object) -> str:
    return orjson.dumps(value, default=str).decode()


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a child: `fields` are what its JSON has besides level and event."""

    process: str
    level: str
    event: str
    fields: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))


def parse(process: str, raw: bytes) -> Line | None:
    """Read a child's line; None when it is empty.  A line that is no JSON object is what a crash prints: an error."""
    text = raw.decode(errors="replace").rstrip()
    if not text:
        return None
    try:
        fields = orjson.loads(text)
    except orjson.JSONDecodeError:
        fields = None
    if not isinstance(fields, dict):
        return Line(process, "info" if _ABSEIL.match(text) else "error", text)
    level = str(fields.pop("level", "info")).lower()
    return Line(process, _LEVELS.get(level, level), str(fields.pop("event", "")), MappingProxyType(fields))


def is_shown(line: Line, *, verbose: bool) -> bool:
    """Tell whether `up` passes the line on: warnings, errors and handled requests do; everything does when verbose."""
    if verbose or line.event in _NEWS:
        return True
    return line.level not in _QUIET and not (line.process == "envoy" and _EXPECTED.search(line.event))


class Renderer:
    """Writes lines for a terminal, or as JSON with the process's name added."""

    def __init__(self, *, terminal: bool) -> None:
        self._console = structlog.dev.ConsoleRenderer() if terminal else None

    def __call__(self, line: Line) -> str:
        """Return the text of `line`."""
        fields: EventDict = {"process": line.process, "level": line.level, "event": line.event, **line.fields}
        if self._console is None:
            return _json(fields)
        del fields["process"]
        fields["event"] = f"{line.process}: {line.event}"
        rendered: str = self._console(None, "", fields)
        return rendered
