"""Relays TCP connections from the machine's loopback to an address in the cluster."""

import asyncio
import socket
from contextlib import suppress

from . import namespaces

_CHUNK = 1 << 16


def serve(listen: str, target: str) -> None:
    """Listen on ADDRESS:PORT of the machine, print which, and relay to ADDRESS:PORT in the cluster, for ever."""
    host, _, port = listen.rpartition(":")
    listener = socket.create_server((host, int(port)))
    address, number = listener.getsockname()
    print(f"{address}:{number}", flush=True)
    namespaces.enter("net")  # for the sockets that are made from here on
    host, _, port = target.rpartition(":")
    with suppress(KeyboardInterrupt):
        asyncio.run(_serve(listener, host, int(port)))


async def _serve(listener: socket.socket, host: str, port: int) -> None:
    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection(host, port)
        except OSError:
            writer.transport.abort()
            return
        with suppress(OSError):
            await asyncio.gather(_copy(reader, far_writer), _copy(far_reader, writer))
        writer.transport.abort()
        far_writer.transport.abort()

    async with await asyncio.start_server(relay, sock=listener) as server:
        await server.serve_forever()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy until the end, which is passed on."""
    while chunk := await reader.read(_CHUNK):
        writer.write(chunk)
        await writer.drain()
    writer.write_eof()
    await writer.drain()
