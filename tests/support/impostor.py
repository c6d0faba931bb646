"""Somebody who listens where our picker should, and answers nonsense."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Self

import grpc
import grpc.aio

from protos.pointsman.envoy.v1.ext_proc_pb2 import ProcessingRequest, ProcessingResponse

TROUBLES = ("fail", "end", "confused", "unnamed", "garbled")
"""An error of gRPC's; the stream's end without an answer; an answer to what was not asked; no endpoint; no gRPC."""

_SERVICE = "envoy.service.ext_proc.v3.ExternalProcessor"


class Impostor:
    """Listens on a Unix socket while it is entered.  `asked` counts the requests, or the connections if garbled."""

    def __init__(self, where: Path, trouble: str) -> None:
        self.asked = 0
        self._where = where
        self._trouble = trouble
        self._server: Any = None

    async def __aenter__(self) -> Self:
        if self._trouble == "garbled":
            self._server = await asyncio.start_unix_server(self._garble, self._where)
            return self
        self._server = grpc.aio.server()
        handler = grpc.stream_stream_rpc_method_handler(
            self._process, ProcessingRequest.FromString, ProcessingResponse.SerializeToString
        )
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE, {"Process": handler}),))
        self._server.add_insecure_port(f"unix:{self._where}")
        await self._server.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._trouble == "garbled":
            self._server.close()
        else:
            await self._server.stop(0)
        self._where.unlink(missing_ok=True)

    async def _process(
        self, requests: AsyncIterator[ProcessingRequest], context: Any
    ) -> AsyncIterator[ProcessingResponse]:
        async for request in requests:
            self.asked += 1
            if self._trouble == "fail":
                await context.abort(grpc.StatusCode.INTERNAL, "nonsense")
            if self._trouble == "end":
                return
            response = ProcessingResponse()
            kind = "response_headers" if self._trouble == "confused" else request.WhichOneof("request")
            getattr(response, kind).SetInParent()
            yield response

    async def _garble(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.asked += 1
        writer.write(b"220 nonsense ready\r\n" * 10)
        writer.close()
