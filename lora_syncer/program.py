"""The syncer as a process: logs, signals, metrics' address."""

import asyncio
import signal
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress

import structlog
from aiohttp import ClientSession, TCPConnector

from lora_syncer.metrics import Metrics, serve
from lora_syncer.options import Settings, parse
from lora_syncer.syncer import Syncer

_log = structlog.get_logger("lora-syncer")


def main(argv: Sequence[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT; the exit status."""
    settings = parse(argv)
    _configure_logs()
    asyncio.run(_run(settings))
    return 0


def _configure_logs() -> None:
    terminal = sys.stderr.isatty()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            structlog.dev.ConsoleRenderer() if terminal else structlog.processors.JSONRenderer(),
        ],
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
    )


async def _run(settings: Settings) -> None:
    task = asyncio.current_task()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel if task else loop.stop)
    metrics = Metrics()
    leash = asyncio.create_task(_until_stdin_ends()) if settings.ends_with_stdin else None
    if leash is not None and task is not None:
        leash.add_done_callback(lambda _: task.cancel())
    with suppress(asyncio.CancelledError):
        async with AsyncExitStack() as stack:
            # vLLM closes idle connections at about the time when the syncer asks again: each question has its own.
            session = await stack.enter_async_context(ClientSession(connector=TCPConnector(force_close=True)))
            try:
                await stack.enter_async_context(serve(metrics, settings.localhost, settings.metrics_port))
            except OSError as error:
                # Adapters matter more than their metrics.
                _log.error("No metrics", port=settings.metrics_port, problem=str(error))
            await Syncer(settings, session, metrics).run()


async def _until_stdin_ends() -> None:
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while await reader.read(4096):
        pass
