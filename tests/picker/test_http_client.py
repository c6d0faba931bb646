from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import cast

import pytest

from picker.http_client import Answer, Connection


@asynccontextmanager
async def server(answers: Sequence[Sequence[bytes]]) -> AsyncIterator[tuple[Connection, list[int]]]:
    """Answer with the given pieces; each outer item is one connection's, a piece ending in "!" closes it after that."""
    connections: list[int] = []

    served: set[asyncio.Task[object]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.add(cast("asyncio.Task[object]", asyncio.current_task()))
        pieces = answers[len(connections)]
        connections.append(0)
        for piece in pieces:
            try:
                await reader.readuntil(b"\r\n\r\n")
            except (asyncio.IncompleteReadError, ConnectionError):
                break
            connections[-1] += 1
            for part in piece.removesuffix(b"!").split(b"|"):
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(0)
            if piece.endswith(b"!"):
                break
        else:
            with suppress(ConnectionError):
                await reader.read()
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    connection = Connection(f"127.0.0.1:{listening.sockets[0].getsockname()[1]}")
    try:
        yield connection, connections
    finally:
        connection.close()
        listening.close()
        await listening.wait_closed()
        await asyncio.gather(*served)


FIXED = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel|lo"
CHUNKED = b"HTTP/1.1 503 No\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel|\r\n2;x=y\r\nlo\r\n0\r\n|\r\n"


async def test_answers_of_both_kinds_over_one_connection() -> None:
    async with server([[FIXED, CHUNKED, FIXED]]) as (connection, connections):
        assert await connection.get("/a") == Answer(200, b"hello")
        assert await connection.get("/b") == Answer(503, b"hello")
        assert await connection.get("/c") == Answer(200, b"hello")
        assert connections == [3]


async def test_a_body_to_the_end_of_the_connection() -> None:
    async with server([[b"HTTP/1.0 200 OK\r\n\r\nhel|lo!"], [FIXED]]) as (connection, connections):
        assert await connection.get("/") == Answer(200, b"hello")
        assert await connection.get("/") == Answer(200, b"hello")
        assert connections == [1, 1]


async def test_a_connection_that_the_server_closed_meanwhile_is_opened_again() -> None:
    async with server([[FIXED + b"!"], [FIXED]]) as (connection, connections):
        assert (await connection.get("/")).status == 200
        assert (await connection.get("/")).status == 200
        assert connections == [1, 1]


async def test_a_server_that_closes_without_an_answer() -> None:
    async with server([[b"!"]]) as (connection, _):
        with pytest.raises(ConnectionResetError):
            await connection.get("/")


async def test_half_an_answer_is_no_answer() -> None:
    async with server([[b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel!"]]) as (connection, _):
        with pytest.raises(ConnectionResetError):
            await connection.get("/")


@pytest.mark.parametrize("nonsense", [b"SSH-2.0-OpenSSH\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n"])
async def test_what_is_no_http(nonsense: bytes) -> None:
    async with server([[nonsense]]) as (connection, _):
        with pytest.raises(OSError, match="no HTTP answer"):
            await connection.get("/")


async def test_nobody_there() -> None:
    async with server([]) as (connection, _):
        pass
    with pytest.raises(OSError, match=r"refused|Connect call failed"):
        await connection.get("/")


async def test_a_question_given_up_takes_its_connection_along() -> None:
    async with server([[b"HTTP/1.1 200 OK\r\n"], [FIXED]]) as (connection, connections):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await connection.get("/")
        assert await connection.get("/") == Answer(200, b"hello")
        assert connections == [1, 1]
