import asyncio
import json
import socket
from collections.abc import Awaitable, Callable
from http import HTTPStatus

import pytest
from aiohttp import ClientConnectorError, ClientPayloadError, ClientSession, ClientTimeout, ServerDisconnectedError

from simulator import Mode, ModelServer, Timing

Start = Callable[..., Awaitable[ModelServer]]
CHAT: dict[str, object] = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
PATHS = ("/health", "/metrics", "/v1/models")
BRIEF = ClientTimeout(total=0.05)


async def status(client: ClientSession, server: ModelServer, path: str, timeout: ClientTimeout | None = None) -> int:  # noqa: ASYNC109
    async with client.get(server.site.url + path, timeout=timeout or ClientTimeout(5)) as response:
        await response.read()
        return response.status


async def switch(client: ClientSession, server: ModelServer, fault: dict[str, object], **headers: str) -> int:
    async with client.post(server.site.url + "/simulator/fault", json=fault, headers=headers) as response:
        return response.status


async def test_unavailable(start: Start, client: ClientSession) -> None:
    server = await start()
    assert await switch(client, server, {"mode": "unavailable"}) == HTTPStatus.NO_CONTENT
    assert [await status(client, server, path) for path in PATHS] == [HTTPStatus.SERVICE_UNAVAILABLE] * 3
    async with client.post(server.site.url + "/v1/chat/completions", json=CHAT) as response:
        assert response.status == HTTPStatus.SERVICE_UNAVAILABLE
    assert await switch(client, server, {"mode": "none"}) == HTTPStatus.NO_CONTENT
    assert await status(client, server, "/health") == HTTPStatus.OK


async def test_refuse_closes_the_socket_and_idle_connections(start: Start, client: ClientSession) -> None:
    server = await start()
    assert await status(client, server, "/health") == HTTPStatus.OK  # leaves an idle connection
    await server.switch(Mode.REFUSE)
    with pytest.raises((ClientConnectorError, ServerDisconnectedError)):
        await status(client, server, "/health")
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(server.site.host, server.site.port)
    await server.switch(Mode.NONE)
    assert await status(client, server, "/health") == HTTPStatus.OK


async def test_refusing_and_serving_in_quick_turns(start: Start, client: ClientSession) -> None:
    server = await start()
    for _ in range(5):
        await server.switch(Mode.REFUSE)
        await server.switch(Mode.NONE)
        assert await status(client, server, "/health") == HTTPStatus.OK


async def test_refuse_reads_the_rest_of_a_request_under_way(start: Start) -> None:
    server = await start(timing=Timing(prefill=0, decode=0, answer_tokens=1))
    reader, writer = await asyncio.open_connection(server.site.host, server.site.port)
    body = json.dumps(CHAT).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: m\r\ncontent-length: {len(body)}\r\n"
    writer.write(head.encode() + b"content-type: application/json\r\n\r\n" + body[:10])
    async with asyncio.timeout(5):
        while not server.busy:
            await asyncio.sleep(0)
        await server.switch(Mode.REFUSE)
        writer.write(body[10:])
        # To its end: the connection is closed.
        answer = await reader.read()
    assert answer.startswith(b"HTTP/1.1 200 OK")
    writer.close()


async def test_a_server_that_ends_reads_the_rest_of_a_request_under_way(start: Start) -> None:
    server = await start(timing=Timing(prefill=0, decode=0, answer_tokens=1))
    reader, writer = await asyncio.open_connection(server.site.host, server.site.port)
    body = json.dumps(CHAT).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: m\r\ncontent-length: {len(body)}\r\n"
    writer.write(head.encode() + b"content-type: application/json\r\n\r\n" + body[:10])
    async with asyncio.timeout(5):
        while not server.busy:
            await asyncio.sleep(0)
        ending = asyncio.create_task(server.stop(60.0))
        for _ in range(10):
            await asyncio.sleep(0)
        writer.write(body[10:])
        answer = await reader.read()
        await ending
    assert answer.startswith(b"HTTP/1.1 200 OK")
    writer.close()


async def test_a_connection_that_was_accepted_too_late_is_cut(start: Start) -> None:
    """An event loop may still accept one while the listener is being closed (uvloop)."""
    server = await start()
    await server.stop(5.0)
    ours, theirs = socket.socketpair()
    await asyncio.get_running_loop().connect_accepted_socket(server._http, theirs)  # noqa: SLF001
    reader, writer = await asyncio.open_connection(sock=ours)
    body = json.dumps(CHAT).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: m\r\ncontent-length: {len(body)}\r\n"
    writer.write(head.encode() + b"content-type: application/json\r\n\r\n" + body)
    async with asyncio.timeout(5):
        assert not await reader.read()
    writer.close()


async def test_refuse_finishes_what_is_under_way(start: Start, client: ClientSession) -> None:
    server = await start(timing=Timing(prefill=0, decode=0.005, answer_tokens=10))
    async with client.post(server.site.url + "/v1/chat/completions", json=CHAT | {"stream": True}) as response:
        await server.switch(Mode.REFUSE)
        assert (await response.read()).endswith(b"data: [DONE]\n\n")


async def test_reset_comes_after_the_request_and_before_the_answer(start: Start) -> None:
    server = await start()
    await server.switch(Mode.RESET)
    reader, writer = await asyncio.open_connection(server.site.host, server.site.port)
    writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nhost: m\r\ncontent-length: 4\r\n\r\nbo")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.read(1), 0.05)
    writer.write(b"dy")
    with pytest.raises(ConnectionResetError):
        await reader.read(1)
    writer.close()


async def test_hang_answers_nothing_and_goes_on_where_it_stopped(start: Start, client: ClientSession) -> None:
    server = await start(timing=Timing(prefill=0, decode=0.01, answer_tokens=4))
    async with client.post(server.site.url + "/v1/chat/completions", json=CHAT | {"stream": True}) as response:
        await server.switch(Mode.HANG)
        for path in PATHS:
            with pytest.raises(TimeoutError):
                await status(client, server, path, BRIEF)
        waiting = asyncio.create_task(status(client, server, "/health"))
        assert await switch(client, server, {"mode": "none"}) == HTTPStatus.NO_CONTENT
        assert await waiting == HTTPStatus.OK
        assert (await response.read()).endswith(b"data: [DONE]\n\n")
    # The clock stood still: the requests above took longer than the whole answer.
    assert server.driver.seen.whole_request.total == pytest.approx(0.03)


async def test_a_hanging_server_stops(start: Start, client: ClientSession) -> None:
    server = await start()
    await server.switch(Mode.HANG)
    asking = asyncio.create_task(status(client, server, "/health"))
    with pytest.raises(TimeoutError):
        await status(client, server, "/health", BRIEF)
    async with asyncio.timeout(2):
        await server.stop(60.0)
    # aiohttp's client tries a GET again on a new connection.
    with pytest.raises((ClientConnectorError, ServerDisconnectedError)):
        await asking


async def test_a_crash_cuts_what_is_under_way_and_forgets_it(start: Start, client: ClientSession) -> None:
    server = await start(timing=Timing(prefill=0, decode=0.01, answer_tokens=1000))
    whole = asyncio.create_task(client.post(server.site.url + "/v1/chat/completions", json=CHAT))
    async with client.post(server.site.url + "/v1/chat/completions", json=CHAT | {"stream": True}) as response:
        await response.content.readline()
        assert server.busy == 2
        await server.switch(Mode.CRASH)
        with pytest.raises(ClientPayloadError):
            await response.read()
    with pytest.raises(ServerDisconnectedError):
        await whole
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(server.site.host, server.site.port)
    await server.switch(Mode.NONE)
    async with client.get(server.site.url + "/metrics") as response:
        page = await response.text()
    for name in ("vllm:num_requests_running", "vllm:generation_tokens_total", "vllm:request_success_total"):
        assert {float(line.split()[-1]) for line in page.splitlines() if line.startswith(name)} == {0}, name
    assert not server.busy


async def test_garbage_is_on_the_metrics_page_alone(start: Start, client: ClientSession) -> None:
    server = await start(timing=Timing(prefill=0, decode=0, answer_tokens=1))
    await server.switch(Mode.GARBAGE)
    pages = []
    for _ in range(12):
        async with client.get(server.site.url + "/metrics") as response:
            assert response.status == HTTPStatus.OK
            pages.append(await response.read())
    assert len(set(pages)) > 3
    assert [await status(client, server, path) for path in ("/health", "/v1/models")] == [HTTPStatus.OK] * 2
    async with client.post(server.site.url + "/v1/chat/completions", json=CHAT) as response:
        assert response.status == HTTPStatus.OK


@pytest.mark.parametrize("mode", ["refuse", "reset", "unavailable", "hang", "crash", "garbage"])
async def test_a_fault_ends_after_its_duration(start: Start, client: ClientSession, mode: str) -> None:
    server = await start()
    assert await switch(client, server, {"mode": mode, "duration": 0.05}) == HTTPStatus.NO_CONTENT
    assert server.mode is Mode(mode)
    async with asyncio.timeout(5):
        while server.mode is not Mode.NONE:
            await asyncio.sleep(0.005)
    assert await status(client, server, "/health") == HTTPStatus.OK


async def test_switching_is_checked(start: Start, client: ClientSession) -> None:
    server = await start()
    assert await switch(client, server, {"mode": "melt"}) == HTTPStatus.BAD_REQUEST
    assert await switch(client, server, {"mode": "hang", "pod": "another"}) == HTTPStatus.NOT_FOUND
    through_a_proxy = {"x-forwarded-proto": "http"}
    assert await switch(client, server, {"mode": "hang"}, **through_a_proxy) == HTTPStatus.FORBIDDEN
    assert server.mode is Mode.NONE
