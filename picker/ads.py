"""The picker's ADS client: keeps a delta stream to the control plane open and feeds it to the directory.

While the control plane is away the directory stays as it is; connecting is tried again after a tenth of a second, and
never less often than once a second.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import grpc

from picker.logs import Log
from picker.pools import Directory
from protos.pointsman.envoy.v1.discovery_pb2 import DeltaDiscoveryRequest, DeltaDiscoveryResponse

_METHOD = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 1.0
_CHANNEL_OPTIONS = (
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
    ("grpc.max_receive_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),
)


async def follow_control_plane(
    address: str,
    directory: Directory,
    *,
    changed: Callable[[], None],
    log: Log,
    dice: Callable[[], float],
) -> None:
    """Follow the control plane at `address` (``unix:/path`` or ``host:port``) until cancelled."""
    async with grpc.aio.insecure_channel(address, options=_CHANNEL_OPTIONS) as channel:
        open_stream = channel.stream_stream(
            _METHOD,
            request_serializer=DeltaDiscoveryRequest.SerializeToString,
            response_deserializer=DeltaDiscoveryResponse.FromString,
        )
        pause = _FIRST_PAUSE
        away = False
        while True:
            try:
                async for response in _converse(open_stream, directory):
                    if away or pause != _FIRST_PAUSE:
                        log.event("Control plane back", address=address)
                    away, pause = False, _FIRST_PAUSE
                    changed()
                    if response.error_detail.message:
                        log.event("Configuration refused", type=response.type_url, reason=response.error_detail.message)
                reason = "stream ended"
            except grpc.aio.AioRpcError as error:
                reason = error.details() or error.code().name
            if not away:
                away = True
                log.event("Control plane away", address=address, reason=reason)
            await asyncio.sleep(pause * (0.5 + 0.5 * dice()))
            pause = min(_LONGEST_PAUSE, pause * 2)


async def _converse(open_stream: Callable[[], Any], directory: Directory) -> Any:  # noqa: ANN401  (grpc has no types)
    """Run one stream; yields our answer to each response once it is sent."""
    call = open_stream()
    try:
        for request in directory.connect():
            await call.write(request)
        while (response := await call.read()) is not grpc.aio.EOF:
            answer, *more = directory.receive(response)
            for request in (answer, *more):
                await call.write(request)
            yield answer
        # The status of a stream that ended with an error is raised here.
        await call.read()
    finally:
        call.cancel()
