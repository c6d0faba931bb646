"""Clients that ask again and again while something happens, and remember what they were answered."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from io import BytesIO

import aiohttp
from running import Running

CHAT = "/v1/chat/completions"
DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; times are the event loop's. Status 0 stands for a broken connection or stream.

    served: what a picker of another's (`oracle`) says of who served; "" where it was not asked.
    """

    status: int
    began: float
    ended: float
    pod: str = ""
    served: str = ""
    request_id: str = ""
    body: bytes = b""
    error: str = ""

    @property
    def good(self) -> bool:
        return self.status == 200

    def code(self) -> str:
        """The error's code, if the body has OpenAI's error shape; fails otherwise."""
        error = json.loads(self.body)["error"]
        assert error.keys() == {"message", "type", "param", "code"}, error
        assert error["message"]
        code: str = error["code"]
        return code


@dataclass(frozen=True, slots=True)
class Question:
    """A chat completion; `padding` bytes make the prompt long."""

    model: str
    text: str = "hello"
    tokens: int = 2
    stream: bool = False
    padding: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)

    def body(self) -> bytes:
        content = self.text + "x" * self.padding
        fields = {"model": self.model, "messages": [{"role": "user", "content": content}], "max_tokens": self.tokens}
        return json.dumps(fields | ({"stream": True} if self.stream else {})).encode()


async def ask(session: aiohttp.ClientSession, url: str, question: Question) -> Answer:
    """Ask once; a stream that ends before its last event counts as broken."""
    clock = asyncio.get_running_loop().time
    began = clock()
    status, pod, served, request_id, body, error = 0, "", "", "", b"", ""
    headers = {"content-type": "application/json", **question.headers}
    try:
        async with session.post(url + CHAT, data=BytesIO(question.body()), headers=headers) as response:
            pod, request_id = response.headers.get("x-simulated-pod", ""), response.headers.get("x-request-id", "")
            served = response.headers.get("x-served", "")
            body = await response.read()
            status = response.status
    except (aiohttp.ClientError, ConnectionError, TimeoutError) as trouble:
        error = repr(trouble)
    if question.stream and status == 200 and not body.endswith(DONE):
        status, error = 0, "the stream ended early"
    return Answer(status, began, clock(), pod, served, request_id, body, error)


class Load:
    """The answers to clients that are still asking; `open` are their questions that wait for an answer."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.open: set[asyncio.Task[Answer]] = set()
        self._came = asyncio.Event()

    def add(self, answer: Answer) -> None:
        self.answers.append(answer)
        self._came.set()
        self._came = asyncio.Event()

    async def more(self, count: int, wanted: Callable[[Answer], bool] = lambda _: True) -> list[Answer]:
        """Wait for so many answers that are wanted, of requests made from now on."""
        now = asyncio.get_running_loop().time()
        async with asyncio.timeout(30):
            while True:
                found = [answer for answer in self.answers if answer.began >= now and wanted(answer)]
                if len(found) >= count:
                    return found
                await self._came.wait()

    @property
    def bad(self) -> list[Answer]:
        return [answer for answer in self.answers if not answer.good]


@asynccontextmanager
async def load(running: Running, *questions: Question, pause: float = 0.005) -> AsyncIterator[Load]:
    """Have a client for each question, on keep-alive connections; at the end every client gets its last answer.

    pause: seconds between an answer and the next question, so that the clients leave the machine to what is tested.
    """
    found = Load()
    stop = asyncio.Event()

    async def client(question: Question) -> None:
        while not stop.is_set():
            found.add(await ask(session, running.url, question))
            await asyncio.sleep(pause)

    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=60), timeout=aiohttp.ClientTimeout(total=30)
    ) as session:
        clients = [asyncio.create_task(client(question)) for question in questions]
        try:
            yield found
        finally:
            stop.set()
            await asyncio.gather(*clients)


@asynccontextmanager
async def arrivals(running: Running, questions: Iterable[Question], *, rate: float = 50) -> AsyncIterator[Load]:
    """Have so many requests a second arrive while there are questions, however long the answers take.

    At the end all have been answered.
    """
    found = Load()
    loop = asyncio.get_running_loop()

    def settle(task: asyncio.Task[Answer]) -> None:
        found.open.discard(task)
        if not task.cancelled():
            found.add(task.result())

    async def come() -> None:
        due = loop.time()
        for question in questions:
            task = asyncio.create_task(ask(session, running.url, question))
            found.open.add(task)
            task.add_done_callback(settle)
            due += 1 / rate
            await asyncio.sleep(due - loop.time())

    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=60)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=60)) as session:
        coming = asyncio.create_task(come())
        try:
            yield found
        finally:
            coming.cancel()
            while found.open:
                await asyncio.gather(*found.open)
