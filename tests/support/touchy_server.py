"""A model server of the test's own, which fails at certain requests and is healthy otherwise.

It runs in the test's event loop, one server for each pod. What a request's prompt says decides what becomes of it:
"unavailable" is answered 503, "reset" is cut off, "hang" is never answered.
"""

import asyncio
from collections import Counter
from typing import Self

import orjson
from aiohttp import web

MODELS = {"object": "list", "data": [{"id": "touchy", "object": "model"}]}
METRICS = "vllm:num_requests_running 0\nvllm:num_requests_waiting 0\nvllm:kv_cache_usage_perc 0\n"
TROUBLE = ("unavailable", "reset", "hang")


class TouchyServer:
    """An asynchronous context: listens inside. `prompts` counts the requests by their first word.

    Unless `working` is set it takes completions and does nothing with them, and says that all is well.
    """

    def __init__(self, pod: str, address: str, port: int) -> None:
        self.working = asyncio.Event()
        self.working.set()
        self.prompts: Counter[str] = Counter()
        self.streams: set[asyncio.Transport] = set()
        self._headers = {"x-simulated-pod": pod}
        self.address = address
        self._port = port
        application = web.Application(client_max_size=1 << 26)
        application.router.add_post("/v1/chat/completions", self._chat)
        application.router.add_post("/v1/completions", self._chat)
        application.router.add_get("/v1/models", self._models)
        application.router.add_get("/health", self._health)
        application.router.add_get("/metrics", self._metrics)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        await web.TCPSite(self._runner, self.address, self._port).start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def die(self) -> None:
        """End as a killed process does: every connection is cut, and nothing listens any more."""
        for transport in self.streams:
            transport.abort()
        await self._runner.cleanup()

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body = orjson.loads(await request.read())
        prompt = body["messages"][0]["content"] if "messages" in body else body["prompt"]
        word = str(prompt).partition(" ")[0]
        self.prompts[word] += 1
        await self.working.wait()
        if word == "unavailable":
            return web.json_response({"error": "no"}, status=503, headers=self._headers)
        if word == "hang":
            await asyncio.Event().wait()
        if word == "reset" and isinstance(request.transport, asyncio.Transport):
            request.transport.abort()
        if body.get("stream"):
            return await self._stream(request, events=body["max_tokens"])
        return web.json_response({"model": "touchy", "choices": []}, headers=self._headers)

    async def _stream(self, request: web.Request, *, events: int) -> web.StreamResponse:
        response = web.StreamResponse(headers={**self._headers, "content-type": "text/event-stream"})
        await response.prepare(request)
        assert isinstance(request.transport, asyncio.Transport)
        self.streams.add(request.transport)
        for _ in range(events):
            await response.write(b"data: {}\n\n")
            await asyncio.sleep(0.01)
        await response.write(b"data: [DONE]\n\n")
        self.streams.discard(request.transport)
        return response

    async def _models(self, _: web.Request) -> web.Response:
        return web.json_response(MODELS)

    async def _health(self, _: web.Request) -> web.Response:
        return web.Response()

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(text=METRICS)
