"""The picker's ADS client: keeps a delta stream to the control plane open and feeds it to the directory.

While the control plane is away the directory stays as it is; connecting is tried again after a tenth of a second, and
never less often than once a second.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from picker.logs import Log
from picker.pools import Directory
from protos.pointsman.envoy.v1.discovery_pb2 import DeltaDiscoveryRequest, DeltaDiscoveryResponse

SERVER_NAME = "pointsman-control-plane"
"""The name in the control plane's certificate, wherever it is found."""

_METHOD = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
Metadata = tuple[tuple[str, str], ...]

_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 1.0
_CHANNEL_OPTIONS = (
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
    ("grpc.max_receive_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),
)


@dataclass(frozen=True, slots=True)
class Credentials:
    """How the control plane and the picker know each other. Files that are read anew for each stream.

    trust: the roots that the control plane's certificate may be of (PEM). The picker proves itself by one of both.
    token: such as one of its pod's service account. certificate: a folder with tls.crt and tls.key (PEM).
    """

    trust: Path
    token: Path | None = None
    certificate: Path | None = None

    def read(self) -> tuple[grpc.ChannelCredentials, bytes, Metadata]:
        """Return what a channel is secured with, what tells that from others, and what goes with each stream.

        OSError where a file cannot be read.
        """
        roots = self.trust.read_bytes()
        metadata = (("authorization", f"Bearer {self.token.read_text().strip()}"),) if self.token is not None else ()
        pair = [(self.certificate / name).read_bytes() for name in ("tls.key", "tls.crt")] if self.certificate else []
        # Files that were replaced in between do not fit, which the next stream mends: the key counts, too.
        marks = hashlib.sha256(b"\n".join((roots, *pair))).digest()
        return grpc.ssl_channel_credentials(roots, *pair), marks, metadata


async def follow_control_plane(
    address: str,
    directory: Directory,
    *,
    changed: Callable[[], None],
    log: Log,
    dice: Callable[[], float],
    credentials: Credentials | None = None,
) -> None:
    """Follow the control plane at `address` (``unix:/path`` or ``host:port``) until cancelled.

    Without credentials the connection is in plain text.
    """
    line = _Line(address, credentials)
    pause = _FIRST_PAUSE
    away = False
    try:
        while True:
            try:
                async for response in _converse(await line.call(), directory):
                    if away or pause != _FIRST_PAUSE:
                        log.event("Control plane back", address=address)
                    away, pause = False, _FIRST_PAUSE
                    changed()
                    if response.error_detail.message:
                        log.event("Configuration refused", type=response.type_url, reason=response.error_detail.message)
                reason = "stream ended"
            except grpc.aio.AioRpcError as error:
                reason = error.details() or error.code().name
            except OSError as error:
                reason = f"{error.filename}: {error.strerror}"
            if not away:
                away = True
                log.event("Control plane away", address=address, reason=reason)
            await asyncio.sleep(pause * (0.5 + 0.5 * dice()))
            pause = min(_LONGEST_PAUSE, pause * 2)
    finally:
        await line.close()


class _Line:
    """The channel to the control plane, made anew when the roots or the certificate are others."""

    def __init__(self, address: str, credentials: Credentials | None) -> None:
        self._address = address
        self._credentials = credentials
        self._secured_with = b""
        self._channel: grpc.aio.Channel | None = None

    async def call(self) -> Any:  # noqa: ANN401  (grpc has no types)
        """Begin a stream. OSError where a file cannot be read."""
        metadata: Metadata = ()
        if self._credentials is None:
            self._channel = self._channel or grpc.aio.insecure_channel(self._address, options=_CHANNEL_OPTIONS)
        else:
            security, marks, metadata = await asyncio.to_thread(self._credentials.read)
            if self._channel is None or marks != self._secured_with:
                await self.close()
                options = (*_CHANNEL_OPTIONS, ("grpc.ssl_target_name_override", SERVER_NAME))
                self._channel = grpc.aio.secure_channel(self._address, security, options=options)
                self._secured_with = marks
        return self._channel.stream_stream(
            _METHOD,
            request_serializer=DeltaDiscoveryRequest.SerializeToString,
            response_deserializer=DeltaDiscoveryResponse.FromString,
        )(metadata=metadata)

    async def close(self) -> None:
        """Close the channel."""
        if self._channel is not None:
            await self._channel.close()
            self._channel = None


async def _converse(call: Any, directory: Directory) -> Any:  # noqa: ANN401  (grpc has no types)
    """Run one stream; yields our answer to each response once it is sent."""
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
