"""SGLang's API: OpenAI's paths, some of its own, and prefill and decode apart.

Any model's name is served: SGLang looks at it for an adapter ("base:adapter", or the adapter's name) and passes over
what it does not know.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import orjson
from aiohttp import web

from simulator.adapters import Adapters
from simulator.api import Api, Handler
from simulator.dialects.sglang import metrics
from simulator.openai_requests import Work
from simulator.refusals import RequestError, bad_request
from simulator.spec import Role


class SglangAdapters(Adapters):
    """The adapters of one server."""

    def find(self, model: str) -> str | None:
        """Name the adapter that answers for a model, None for the base model."""
        names = {module.name for module in self.modules}
        return next((name for name in (model, model.rpartition(":")[2]) if name in names), None)


class SglangApi(Api):
    """The API of one server."""

    OWNER = "sglang"

    def routes(self) -> dict[tuple[str, str], Handler]:
        """Pair each method and path with what answers it."""
        return {
            **super().routes(),
            ("GET", "/health_generate"): self.alive,
            ("GET", "/get_model_info"): self._model_info,
            ("GET", "/model_info"): self._model_info,
            ("GET", "/get_server_info"): self._server_info,
            ("GET", "/server_info"): self._server_info,
        }

    def refusal(self, error: RequestError) -> web.Response:
        """Write an error in SGLang's flat shape."""
        code = int(error.status)
        body = {"object": "error", "message": error.message, "type": error.kind, "param": error.param, "code": code}
        return self.json(orjson.dumps(body), error.status)

    def render_metrics(self) -> bytes:
        """Write the present metrics."""
        return metrics.render(self.spec, self.driver, self.door.waiting)

    @asynccontextmanager
    async def turn(self, work: Work) -> AsyncIterator[Work]:
        """Give the part of the work that is this server's, when it is its turn."""
        shared = self.spec.disaggregation
        if shared is None:
            yield work
        elif work.room is None:
            raise bad_request("Invalid request: Disaggregated request received without bootstrap room id.")
        elif shared.role is Role.DECODE:
            await self.door.receive(work.room, shared.patience)
            yield replace(work, transferred=True)
        else:
            async with self.door.send(work.room, shared.patience):
                yield replace(work, answer_tokens=1, stops=False)

    async def _model_info(self, _: web.BaseRequest) -> web.StreamResponse:
        body = {"model_path": self.spec.model, "tokenizer_path": self.spec.model, "is_generation": True}
        return self.json(orjson.dumps(body))

    async def _server_info(self, _: web.BaseRequest) -> web.StreamResponse:
        shared = self.spec.disaggregation
        body: dict[str, object] = {
            "model_path": self.spec.model,
            "served_model_name": self.spec.served_names[0],
            "context_length": self.spec.max_model_len,
            "page_size": self.spec.block_size,
            "max_running_requests": self.spec.max_num_seqs,
            "disaggregation_mode": shared.role.value if shared else "null",
            "disaggregation_bootstrap_port": shared.bootstrap_port if shared else None,
        }
        return self.json(orjson.dumps(body))
