"""A gateway on a copy of an example's folder, for scripts that show what the example does and fail if it doesn't.

Such a script ends with `show(__file__, main)`, where main(example, findings) asks the example and adds what it found.
"""

import asyncio
import re
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import orjson
from prometheus_client.parser import text_string_to_metric_families
from rich import box
from rich.console import Console
from rich.table import Table

from pointsman.expectation import CHAT
from pointsman.failure import Failure
from pointsman.installation import Installation, Options, Report
from pointsman.logs import HANDLED, Line
from pointsman.ports import port_to_keep
from resources import Pod, World
from sources import FolderSource

_ANSWER_WITHIN = aiohttp.ClientTimeout(total=30)
# Seconds within which anything that a script waits for has happened, on a busy machine.
_PATIENCE = 10.0
_STEP = 0.02
_PLAIN_WIDTH = 160
_LISTENING = re.compile(r"\bport: 8080\b")
_OK = 200


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; `began` is the event loop's time in seconds.  Status 0 stands for a broken connection."""

    status: int
    began: float
    pod: str = ""
    request_id: str = ""
    body: bytes = b""

    @property
    def good(self) -> bool:
        """Whether a model server answered as it should."""
        return self.status == _OK

    @property
    def model(self) -> str:
        """The model that the server says it ran."""
        return str(orjson.loads(self.body)["model"])


class Findings:
    """What a script found, and whether all of it is as it should be."""

    def __init__(self) -> None:
        self._table = Table(box=box.SIMPLE_HEAD, show_edge=False)
        for title in ("what is shown", "seen", ""):
            self._table.add_column(title, overflow="fold")
        self.good = True

    def add(self, claim: str, seen: object, *, ok: bool) -> None:
        """Put down what was seen of a claim."""
        self.good = self.good and ok
        self._table.add_row(claim, str(seen), "ok" if ok else "WRONG", style="" if ok else "red")

    def print(self) -> None:
        """Print the table."""
        console = Console(highlight=False, emoji=False, markup=False)
        if not console.is_terminal:
            console.width = _PLAIN_WIDTH
        console.print(self._table)


class Example:
    """The gateway that runs on `folder`, a copy of the example's that may be edited."""

    def __init__(
        self,
        folder: Path,
        port: int,
        installation: Installation,
        session: aiohttp.ClientSession,
        handled: Mapping[str, Mapping[str, object]],
    ) -> None:
        self.folder = folder
        self.url = f"http://127.0.0.1:{port}"
        self._installation = installation
        self._session = session
        self._handled = handled

    async def ask(self, body: Mapping[str, object], *, at: str | None = None, host: str | None = None) -> Answer:
        """Ask for a chat completion, of the gateway or `at` a server's address, passing it by."""
        headers = {"content-type": "application/json", **({"host": host} if host else {})}
        url = self.url if at is None else f"http://{at}"
        began = asyncio.get_running_loop().time()
        try:
            async with self._session.post(url + CHAT, data=orjson.dumps(body), headers=headers) as response:
                received, found = await response.read(), response.headers
                pod, request_id = found.get("x-simulated-pod", ""), found.get("x-request-id", "")
                return Answer(response.status, began, pod, request_id, received)
        except (aiohttp.ClientError, ConnectionError, TimeoutError):
            return Answer(0, began)

    @asynccontextmanager
    async def asking(
        self, body: Mapping[str, object], *, clients: int, at: str | None = None, host: str | None = None
    ) -> AsyncIterator[list[Answer]]:
        """Have so many clients ask again and again; the list grows until the block is left, with their last answers.

        With `at`, the server's requests are given up when the block is left.
        """
        answers: list[Answer] = []
        stop = asyncio.Event()

        async def ask() -> None:
            while not stop.is_set():
                answers.append(await self.ask(body, at=at, host=host))

        tasks = [asyncio.create_task(ask()) for _ in range(clients)]
        try:
            yield answers
        finally:
            stop.set()
            if at is not None:
                for task in tasks:
                    task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def handled(self, answer: Answer) -> Mapping[str, object]:
        """Return the fields of the picker's line `Request Handled` about the request that was answered."""

        async def written() -> bool:
            return answer.request_id in self._handled

        await self.until(written)
        return self._handled[answer.request_id]

    async def report(self) -> Report:
        """Return how everything stands."""
        return await self._installation.ready()

    async def pods(self, pool: str) -> Mapping[str, str]:
        """Return the addresses of a pool's pods by name, of a pool in the namespace default."""
        report = await self.report()
        pools = [each for gateway in report["gateways"] for each in gateway["pools"]]
        found = {each["name"]: each["pods"] for each in pools}[f"default/{pool}"]
        return {pod["name"].partition("/")[2]: pod["address"] for pod in found}

    def simulated(self, *, port: int = 8000, **labels: str) -> Mapping[str, str]:
        """Return the addresses of simulated pods by name, of those that bear the labels, whether in a pool or not."""
        world = World().apply(FolderSource([self._installation.pods]).read().changes)
        return {
            pod.metadata.name: f"{pod.addresses[0]}:{pod.listening(port)}"
            for pod in world.all(Pod).values()
            if labels.items() <= pod.metadata.labels.items()
        }

    async def edit(self, file: str, change: Callable[[str], str]) -> None:
        """Change a manifest's text; return when Envoy and the picker have taken that in.

        Failure if that changes nothing or has a problem.
        """
        path = self.folder / file
        before = path.read_text(encoding="utf-8")
        text = change(before)
        if text == before:
            raise Failure(f"{file}: nothing to change")
        generation = (await self.report())["generation"]
        draft = path.with_name(f".{path.name}")
        draft.write_text(text, encoding="utf-8")
        draft.replace(path)

        async def read() -> bool:
            found = await self._installation.report()
            return found is not None and found["generation"] > generation

        await self.until(read)
        if problems := (await self.report())["problems"]:
            raise Failure("; ".join(problems))

    async def fail(self, address: str, mode: str) -> None:
        """Make a simulated server fail in this way (`simulator.faults.Mode`), or end that with "none"."""
        async with self._session.post(f"http://{address}/simulator/fault", json={"mode": mode}) as response:
            response.raise_for_status()

    async def metric(self, address: str, name: str, **labels: str) -> float:
        """Sum a metric's samples that have these labels, among others, at a server's address."""
        async with self._session.get(f"http://{address}/metrics") as response:
            text = await response.text()
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    async def picker_metric(self, name: str, **labels: str) -> float:
        """Sum a metric of the picker's as `metric` does."""
        return await self.metric(self._installation.metrics, f"pointsman_picker_{name}", **labels)

    @staticmethod
    async def until(condition: Callable[[], Awaitable[bool]], seconds: float = _PATIENCE) -> None:
        """Wait for a condition.  Failure when it does not come true in time."""
        try:
            async with asyncio.timeout(seconds):
                while not await condition():  # noqa: ASYNC110 - it comes true in other processes
                    await asyncio.sleep(_STEP)
        except TimeoutError:
            raise Failure(f"waited for {condition.__qualname__} for {seconds:g} s in vain") from None


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[Example]:
    """Run the gateway on a copy of `folder`, with simulated servers; what would listen on 8080 has a free port."""
    lines: dict[str, Mapping[str, object]] = {}

    def log(line: Line) -> None:
        if line.event == HANDLED:
            lines[str(line.fields.get("request_id"))] = line.fields

    def announce(text: str) -> None:
        sys.stderr.write(text + "\n")

    with tempfile.TemporaryDirectory(prefix="pointsman-example-") as made:
        copy, port = Path(made) / folder.name, port_to_keep()
        shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
        for file in copy.rglob("*.yaml"):
            file.write_text(_LISTENING.sub(f"port: {port}", file.read_text(encoding="utf-8")), encoding="utf-8")
        options = Options(folder=copy, simulate=True)
        connector = aiohttp.TCPConnector(limit=0)
        async with (
            Installation(options, announce=announce, log=log) as installation,
            aiohttp.ClientSession(connector=connector, timeout=_ANSWER_WITHIN) as session,
        ):
            await installation.ready()
            yield Example(copy, port, installation, session, lines)


Main = Callable[[Example, Findings], Awaitable[None]]


def show(script: str, main: Main) -> None:
    """Run `main` on the folder of `script`, print what it found, and exit: with 0 if all is as it should be, else 1."""
    findings = Findings()
    try:
        asyncio.run(_show(Path(script).resolve().parent, main, findings))
    except (Failure, OSError) as failure:
        findings.add("the script ran to its end", failure, ok=False)
    findings.print()
    sys.exit(0 if findings.good else 1)


async def _show(folder: Path, main: Main, findings: Findings) -> None:
    async with running(folder) as example:
        report = await example.report()
        said = [*report["problems"], *(f"note: {notice}" for notice in report["notices"])]
        findings.add("the manifests have no problems", "\n".join(said) or "none", ok=not report["problems"])
        await main(example, findings)


def chat(model: str, *texts: str, tokens: int = 4, **more: object) -> Mapping[str, object]:
    """Make the body of a chat completion; `texts` are the user's and the assistant's, in turn."""
    roles = ("user", "assistant")
    messages = [{"role": roles[place % 2], "content": text} for place, text in enumerate(texts)]
    return {"model": model, "messages": messages, "max_tokens": tokens, "temperature": 0, **more}
