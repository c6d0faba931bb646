"""The picker's log: structlog, one line for each event; readable on a terminal, JSON otherwise.

Lines that belong together (the requests of one access log message) are written together: `Lines` holds them until it is
flushed, so that a busy picker makes one system call for many.
"""

from __future__ import annotations

from typing import BinaryIO, TextIO

import orjson
import structlog
from structlog.typing import EventDict, FilteringBoundLogger, WrappedLogger

_DEBUG = 10
_INFO = 20


class Lines:
    """A buffer before a binary stream, flushed by the rim."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._pending: list[bytes] = []

    def write(self, line: bytes) -> None:
        """Hold a line."""
        self._pending.append(line)

    def flush(self) -> None:
        """Do nothing: the logger flushes after each line, `release` after each batch."""

    def release(self) -> None:
        """Write out what is held."""
        if self._pending:
            batch = b"".join(self._pending)
            self._pending.clear()
            try:
                self._stream.write(batch)
                self._stream.flush()
            except (OSError, ValueError):
                # A log that nobody reads any more is no reason to stop serving.
                return


class Log:
    """A logger and the buffer behind it; `explains` says whether decisions are written out in full."""

    def __init__(self, logger: FilteringBoundLogger, lines: Lines, *, explains: bool = False) -> None:
        self.logger = logger
        self.explains = explains
        self._lines = lines

    def event(self, event: str, **fields: object) -> None:
        """Write one line at once."""
        self.logger.info(event, **fields)
        self._lines.release()

    def explain(self, event: str, **fields: object) -> None:
        """Write one line at once, at debug level."""
        self.logger.debug(event, **fields)
        self._lines.release()

    def release(self) -> None:
        """Write out the lines that the logger holds."""
        self._lines.release()


def open_log(stream: TextIO, *, debug: bool = False) -> Log:
    """Log to a text stream with a binary buffer behind it, such as `sys.stderr`; `debug` explains every decision."""
    lines = Lines(stream.buffer)
    render: structlog.typing.Processor
    if stream.isatty():
        console = structlog.dev.ConsoleRenderer()

        def render(logger: WrappedLogger, method: str, event: EventDict) -> bytes:
            return str(console(logger, method, event)).encode()

    else:
        render = structlog.processors.JSONRenderer(serializer=orjson.dumps)
    logger = structlog.wrap_logger(
        structlog.BytesLogger(lines),  # type: ignore[arg-type]  # it writes and flushes, and needs no more of a file
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_DEBUG if debug else _INFO),
        cache_logger_on_first_use=True,
    )
    return Log(logger.bind(), lines, explains=debug)
