"""A model server's HTTP API: its paths, the answers to them, and answers that are streamed.

This is what vLLM has; a dialect adds its own paths and writes refusals and metrics in its own way.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from uuid import uuid4

import orjson
from aiohttp import web

from simulator.adapters import Adapters
from simulator.dialects.vllm import metrics
from simulator.driver import Driver
from simulator.openai_answers import Events, Heading, models, rendered, whole
from simulator.openai_requests import Reader, Work
from simulator.refusals import RequestError, bad_request
from simulator.rooms import Door
from simulator.spec import ServerSpec

JSON = "application/json"
_METRICS = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
_TOO_LARGE = RequestError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "The body is too large.", "BadRequestError")

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class Api:
    """The API of one server. `headers` go with every answer, and `responsive` is clear while the server hangs."""

    OWNER = "vllm"

    def __init__(
        self,
        spec: ServerSpec,
        driver: Driver,
        reader: Reader,
        adapters: Adapters,
        door: Door,
        headers: Mapping[str, str],
        responsive: asyncio.Event,
    ) -> None:
        self.spec = spec
        self.driver = driver
        self.adapters = adapters
        self.door = door
        self._reader = reader
        self._headers = dict(headers)
        self._responsive = responsive
        self._created = int(time.time())
        self._routes = self.routes()
        self._paths = frozenset(path for _, path in self._routes)

    def routes(self) -> dict[tuple[str, str], Handler]:
        """Pair each method and path with what answers it."""
        routes: dict[tuple[str, str], Handler] = {
            ("POST", "/v1/chat/completions"): self._chat,
            ("POST", "/v1/completions"): self._complete,
            ("GET", "/v1/models"): self._models,
            ("GET", "/health"): self.alive,
            ("GET", "/ping"): self.alive,
            ("POST", "/ping"): self.alive,
            ("GET", "/metrics"): self._metrics,
        }
        if self.spec.dialect == "vllm":
            routes["POST", "/v1/chat/completions/render"] = self._render_chat
            routes["POST", "/v1/completions/render"] = self._render_completion
        if self.spec.adapters_at_run_time:
            routes["POST", "/v1/load_lora_adapter"] = self._load_adapter
            routes["POST", "/v1/unload_lora_adapter"] = self._unload_adapter
        return routes

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer any request."""
        handler = self._routes.get((request.method, request.path))
        if handler is None:
            return self.refusal(_unknown(known=request.path in self._paths))
        try:
            return await handler(request)
        except RequestError as error:
            return self.refusal(error)
        except web.HTTPRequestEntityTooLarge:
            return self.refusal(_TOO_LARGE)

    def refusal(self, error: RequestError) -> web.Response:
        """Write an error."""
        return self.json(error.body(), error.status)

    def json(self, body: bytes, status: HTTPStatus = HTTPStatus.OK) -> web.Response:
        """Write an answer that is encoded already."""
        return web.Response(body=body, status=status, content_type=JSON, headers=self._headers)

    async def alive(self, _: web.BaseRequest) -> web.StreamResponse:
        """Say that the server is there."""
        return web.Response(headers=self._headers)

    @asynccontextmanager
    async def turn(self, work: Work) -> AsyncIterator[Work]:
        """Give the part of the work that is this server's, when it is its turn."""
        yield work

    def render_metrics(self) -> bytes:
        """Write the present metrics."""
        return metrics.render(self.spec, self.driver)

    async def _models(self, _: web.BaseRequest) -> web.StreamResponse:
        return self.json(models(self.spec, self.adapters.modules, self._created, self.OWNER))

    async def _metrics(self, _: web.BaseRequest) -> web.StreamResponse:
        return web.Response(body=self.render_metrics(), headers=self._headers | _METRICS)

    async def _load_adapter(self, request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(text=self.adapters.load(await _json_body(request)), headers=self._headers)

    async def _unload_adapter(self, request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(text=self.adapters.unload(await _json_body(request)), headers=self._headers)

    async def _chat(self, request: web.BaseRequest) -> web.StreamResponse:
        return await self._generate(request, chat=True)

    async def _complete(self, request: web.BaseRequest) -> web.StreamResponse:
        return await self._generate(request, chat=False)

    async def _render_chat(self, request: web.BaseRequest) -> web.StreamResponse:
        ids = self._reader.render(await _json_body(request), chat=True)
        return self.json(orjson.dumps(rendered(_heading(chat=True), ids)))

    async def _render_completion(self, request: web.BaseRequest) -> web.StreamResponse:
        # A request may have several prompts: the answer is a list.
        ids = self._reader.render(await _json_body(request), chat=False)
        return self.json(orjson.dumps([rendered(_heading(chat=False), ids)]))

    async def _generate(self, request: web.BaseRequest, *, chat: bool) -> web.StreamResponse:
        work = self._reader.read(await _json_body(request), chat=chat)
        heading = _heading(chat=chat)
        async with self.turn(work) as part:
            return await (self._stream if part.stream else self._whole)(request, heading, part)

    async def _whole(self, _: web.BaseRequest, heading: Heading, work: Work) -> web.StreamResponse:
        answer = self.driver.submit(work)
        try:
            await answer.completed()
        finally:
            self.driver.leave(answer)
        return self.json(whole(heading, work, answer.cached))

    async def _stream(self, request: web.BaseRequest, heading: Heading, work: Work) -> web.StreamResponse:
        response = web.StreamResponse(headers=self._headers | {"Content-Type": "text/event-stream; charset=utf-8"})
        events = Events(heading, work)
        answer = self.driver.submit(work)
        try:
            # As from vLLM, the status and the headers do not wait for the first token.
            await response.prepare(request)
            sent = 0
            while sent < work.answer_tokens:
                made = await answer.more(sent)
                await self._responsive.wait()
                await response.write((b"" if sent else events.opening()) + events.tokens(sent, made))
                sent = made
            await response.write(events.closing(answer.cached))
            await response.write_eof()
        finally:
            self.driver.leave(answer)
        return response


def _heading(*, chat: bool) -> Heading:
    return Heading(f"{'chatcmpl' if chat else 'cmpl'}-{uuid4().hex}", int(time.time()))


async def _json_body(request: web.BaseRequest) -> bytes:
    if request.content_type != JSON:
        raise bad_request("Unsupported Media Type: Only 'application/json' is allowed")
    return await request.read()


def _unknown(*, known: bool) -> RequestError:
    if known:
        return RequestError(HTTPStatus.METHOD_NOT_ALLOWED, "Method Not Allowed", "MethodNotAllowedError")
    return RequestError(HTTPStatus.NOT_FOUND, "Not Found", "NotFoundError")
