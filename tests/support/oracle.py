"""An endpoint picker that is not Pointsman's, as the endpoint picker protocol has it: everything streams through it.

It sends each request to the endpoints that its header `x-wish` lists, puts them into header and metadata, renames the
model by `x-rename` ("old=new"), and tells the client in `x-served` which endpoint Envoy says it went to.

`x-trouble` makes it fail at a request: "fail" is an error of gRPC's, "end" a stream that ends without an answer, "hang"
no answer at all, "die" the end of the process, each when it should answer; "die-answering" is its end when the answer
passes; "unnamed" lets the request pass and names no endpoint, "confused" answers what was not asked.
"""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import grpc.aio
from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.service.ext_proc import v3 as ext_proc
from envoy_data_plane.google.protobuf import Struct

DESTINATION = "x-gateway-destination-endpoint"
SERVED = "x-gateway-destination-endpoint-served"
LB = "envoy.lb"
HINT = "envoy.lb.subset_hint"


@dataclass
class Oracle:
    """The picker as it runs.

    asked: the authority, and the paths of the requests that it was asked for. told: the endpoints that it was told to
    choose from, for each of them; None where it was told of none.
    """

    port: int = 0
    asked: list[tuple[str, str]] = field(default_factory=list)
    told: list[list[str] | None] = field(default_factory=list)


@asynccontextmanager
async def oracle(certificate: Path | None = None, port: int = 0) -> AsyncIterator[Oracle]:
    """Serve on a port of 127.0.0.1, by default a free one, with TLS where a file holds key and certificate."""
    server = grpc.aio.server()
    state = Oracle()
    handler = grpc.stream_stream_rpc_method_handler(
        _Exchange(state).process, request_deserializer=ext_proc.ProcessingRequest.parse, response_serializer=bytes
    )
    service = "envoy.service.ext_proc.v3.ExternalProcessor"
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {"Process": handler}),))
    if certificate is None:
        state.port = server.add_insecure_port(f"127.0.0.1:{port}")
    else:
        both = certificate.read_bytes()
        state.port = server.add_secure_port(f"127.0.0.1:{port}", grpc.ssl_server_credentials([(both, both)]))
    await server.start()
    try:
        yield state
    finally:
        await server.stop(0)


class OracleProcess:
    """The same as a process of its own, which can be killed, and stopped for a while. It listens on `port`, plainly."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> float:
        """Start it, and return when it listened (seconds of the event loop's clock)."""
        self._process = await asyncio.create_subprocess_exec(sys.executable, __file__, str(self.port))
        while not _listens(self.port):
            await asyncio.sleep(0.005)
        return asyncio.get_running_loop().time()

    async def kill(self) -> float:
        """Kill it, and return when it was dead."""
        assert self._process is not None
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()
        return asyncio.get_running_loop().time()

    async def gone(self) -> None:
        """Wait until it has ended by itself."""
        assert self._process is not None
        await self._process.wait()

    def stop(self) -> float:
        """Have it do nothing any more, its port still open, and return when that began."""
        return self._signal(signal.SIGSTOP)

    def go_on(self) -> float:
        """Have it go on where it stopped, and return when."""
        return self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> float:
        assert self._process is not None
        self._process.send_signal(number)
        return asyncio.get_running_loop().time()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def certificate(folder: Path, name: str = "picker") -> Path:
    """Make a key and a certificate that nobody vouches for; they are in files of their own, and in one together."""
    key, chain = folder / "key.pem", folder / "chain.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}"]
    command += ["-addext", f"subjectAltName=DNS:{name}"]
    subprocess.run([*command, "-keyout", str(key), "-out", str(chain)], check=True, capture_output=True)
    both = folder / "both.pem"
    both.write_bytes(key.read_bytes() + chain.read_bytes())
    return both


@dataclass
class _Exchange:
    state: Oracle

    async def process(
        self,
        requests: AsyncIterator[ext_proc.ProcessingRequest],
        context: grpc.aio.ServicerContext[ext_proc.ProcessingRequest, ext_proc.ProcessingResponse],
    ) -> AsyncIterator[ext_proc.ProcessingResponse]:
        headers: dict[str, str] = {}
        body = b""
        async for request in requests:
            if (begun := request.request_headers) is not None:
                headers = _headers(begun)
                self.state.asked.append((headers[":authority"], headers[":path"]))
                self.state.told.append(_subset(request))
            elif request.request_body is not None:
                body += request.request_body.body
            if _is_time_for_trouble(request, headers):
                if headers["x-trouble"] == "end":
                    return
                await _fail(headers["x-trouble"], context)
            for answer in _answers(request, headers, body):
                yield answer


def _answers(
    request: ext_proc.ProcessingRequest, headers: dict[str, str], body: bytes
) -> Iterator[ext_proc.ProcessingResponse]:
    if request.request_headers is not None and request.request_headers.end_of_stream:
        yield _picked(headers)
    elif request.request_body is not None and request.request_body.end_of_stream:
        if headers.get("x-trouble") == "confused":
            yield ext_proc.ProcessingResponse(response_headers=ext_proc.HeadersResponse())
        unnamed = ext_proc.ProcessingResponse(request_headers=ext_proc.HeadersResponse())
        yield unnamed if headers.get("x-trouble") == "unnamed" else _picked(headers)
        yield ext_proc.ProcessingResponse(request_body=_streamed(_renamed(body, headers), end=True))
    elif request.response_headers is not None:
        yield ext_proc.ProcessingResponse(response_headers=_told(request))
    elif (chunk := request.response_body) is not None:
        yield ext_proc.ProcessingResponse(response_body=_streamed(chunk.body, end=chunk.end_of_stream))


def _is_time_for_trouble(request: ext_proc.ProcessingRequest, headers: dict[str, str]) -> bool:
    """Whether a message is the one at which there is to be trouble: the body's last one, or the answer's first."""
    trouble = headers.get("x-trouble", "")
    if trouble.endswith("answering"):
        return request.response_headers is not None
    return bool(trouble) and request.request_body is not None and request.request_body.end_of_stream


async def _fail(
    trouble: str, context: grpc.aio.ServicerContext[ext_proc.ProcessingRequest, ext_proc.ProcessingResponse]
) -> None:
    if trouble.startswith("die"):
        os._exit(1)
    if trouble == "fail":
        await context.abort(grpc.StatusCode.INTERNAL, "as wished")
    if trouble == "hang":
        await asyncio.Event().wait()


def _headers(begun: ext_proc.HttpHeaders) -> dict[str, str]:
    found = begun.headers.headers if begun.headers else []
    return {each.key: each.value or each.raw_value.decode() for each in found}


def _picked(headers: dict[str, str]) -> ext_proc.ProcessingResponse:
    wish = headers.get("x-wish", "")
    mutation = ext_proc.HeaderMutation(set_headers=list(_set({DESTINATION: wish})), remove_headers=["content-length"])
    response = ext_proc.CommonResponse(header_mutation=mutation, clear_route_cache=True)
    return ext_proc.ProcessingResponse(
        request_headers=ext_proc.HeadersResponse(response=response),
        dynamic_metadata=Struct.from_dict({LB: {DESTINATION: wish}}),
    )


def _renamed(body: bytes, headers: dict[str, str]) -> bytes:
    old, _, new = headers.get("x-rename", "").partition("=")
    return body.replace(f'"{old}"'.encode(), f'"{new}"'.encode()) if new else body


def _streamed(body: bytes, *, end: bool) -> ext_proc.BodyResponse:
    mutation = ext_proc.BodyMutation(streamed_response=ext_proc.StreamedBodyResponse(body=body, end_of_stream=end))
    return ext_proc.BodyResponse(response=ext_proc.CommonResponse(body_mutation=mutation))


def _subset(request: ext_proc.ProcessingRequest) -> list[str] | None:
    known = request.metadata_context.filter_metadata if request.metadata_context else {}
    if HINT not in known:
        return None
    listed = known[HINT].to_dict()["x-gateway-destination-endpoint-subset"]
    assert isinstance(listed, list)
    return [str(each) for each in listed]


def _told(request: ext_proc.ProcessingRequest) -> ext_proc.HeadersResponse:
    known = request.metadata_context.filter_metadata if request.metadata_context else {}
    served = known[LB].to_dict().get(SERVED, "") if LB in known else ""
    mutation = ext_proc.HeaderMutation(set_headers=list(_set({"x-served": str(served)})))
    return ext_proc.HeadersResponse(response=ext_proc.CommonResponse(header_mutation=mutation))


def _set(headers: dict[str, str]) -> Iterator[core.HeaderValueOption]:
    for name, value in headers.items():
        yield core.HeaderValueOption(header=core.HeaderValue(key=name, raw_value=value.encode()))


async def _serve(port: int) -> None:
    async with oracle(port=port):
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1])))
