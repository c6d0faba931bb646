"""`pointsman up`: runs the gateway on a folder, says where it is and what changes, until Ctrl-C."""

import asyncio
import signal
import sys
from collections.abc import Iterable

from rich.console import Console
from rich.text import Text

from pointsman.banner import banner, changes
from pointsman.installation import Installation, Options, Report
from pointsman.logs import Line, Renderer, is_shown

# How the parts of a line are coloured on a terminal, by its first word.
_STYLES = {
    "Gateway": "bold",
    "problem:": "red",
    "solved:": "green",
    "note:": "yellow",
    "new:": "cyan",
    "gone:": "cyan",
    "curl": "bold green",
}


class Output:
    """Writes news to stdout and the children's logs to stderr, readable on a terminal and plain elsewhere."""

    def __init__(self, *, verbose: bool) -> None:
        self._verbose = verbose
        self._console = Console(soft_wrap=True, highlight=False, emoji=False, markup=False)
        self._render = Renderer(terminal=sys.stderr.isatty())

    def say(self, lines: Iterable[str]) -> None:
        """Print lines of news at once."""
        for line in lines:
            first = line.split(maxsplit=1)[0] if line.strip() else ""
            self._console.print(Text(line, style=_STYLES.get(first, "")))
        self._console.file.flush()

    def log(self, line: Line) -> None:
        """Print a child's line if it is of interest."""
        if is_shown(line, verbose=self._verbose):
            sys.stderr.write(self._render(line) + "\n")
            sys.stderr.flush()


async def run(options: Options) -> None:
    """Run until SIGINT, SIGTERM or SIGHUP.  Failure when the gateway cannot start."""
    output = Output(verbose=options.verbose)
    main = asyncio.current_task()
    loop = asyncio.get_running_loop()
    interrupted = asyncio.Event()

    def interrupt() -> None:
        # A second Ctrl-C must not cut the clean-up short.
        if not interrupted.is_set() and main is not None:
            interrupted.set()
            main.cancel()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, interrupt)
    try:
        async with Installation(options, announce=lambda text: output.say([text]), log=output.log) as installation:
            report = await installation.ready()
            output.say(banner(report))
            output.say(_addresses(installation))
            await _follow(installation, report, output)
    except asyncio.CancelledError:
        if not interrupted.is_set():
            raise


async def _follow(installation: Installation, report: Report, output: Output) -> None:
    async for found in installation.reports(report):
        output.say(changes(report, found))
        report = found


def _addresses(installation: Installation) -> list[str]:
    return [
        f"status http://{installation.admin}/status, or: pointsman status {installation.admin}",
        f"metrics http://{installation.admin}/metrics (control plane), http://{installation.metrics}/metrics (picker)",
        "Ctrl-C ends it",
    ]
