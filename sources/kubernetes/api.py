"""Requests to an API server: the official client's configuration, authentication and transport, on raw JSON.

The client's generated models know none of the kinds that a gateway reads most, and cost memory for the others: bodies
stay bytes here, and whoever reads them decides what is kept.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Self

import aiohttp
import orjson
from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.config import ConfigException, load_incluster_config, load_kube_config

from sources.kubernetes.errors import ApiError, ConfigurationError, UnreachableError

Query = Mapping[str, str]

APPLY = "application/apply-patch+yaml"
"""The content type of server-side apply."""

JSON = "application/json"
METADATA = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
METADATA_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
"""What to accept in place of objects: their metadata."""

_IN_CLUSTER = "KUBERNETES_SERVICE_HOST"
# Seconds for a request that is not a watch; and between two bytes of a watch. An API server sends a bookmark about once
# a minute, though none of a kind that has not changed since it started. A longer silence is that, or a connection that
# died without a word.
_PATIENCE = 30.0
_SILENCE = 75.0
_CONNECT = 5.0
# Each watch has one, and there is one for each kind in each namespace and for each Secret: no limit.
_CONNECTIONS = 0


class Api:
    """One API server, as one user."""

    def __init__(self, client: ApiClient, silence: float = _SILENCE) -> None:
        self._client = client
        self._silence = silence

    @classmethod
    async def connect(
        cls, kubeconfig: Path | None = None, context: str | None = None, silence: float = _SILENCE
    ) -> Self:
        """Read a kubeconfig, by default KUBECONFIG's or ~/.kube/config; in a pod its service account instead.

        silence: seconds after which a watch that says nothing ends. Raises ConfigurationError. Nothing is sent yet.
        """
        configuration = Configuration(connection_pool_maxsize=_CONNECTIONS)
        try:
            if kubeconfig is None and _IN_CLUSTER in os.environ and "KUBECONFIG" not in os.environ:
                load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
            else:
                path = str(kubeconfig) if kubeconfig is not None else None
                await load_kube_config(  # type: ignore[no-untyped-call]
                    path, context, client_configuration=configuration, persist_config=False
                )
        except (ConfigException, OSError, ValueError) as error:
            raise ConfigurationError(f"no cluster: {str(error).strip().rstrip('.')}") from None
        return cls(ApiClient(configuration), silence)

    async def close(self) -> None:
        """Close all connections."""
        await self._client.close()  # type: ignore[no-untyped-call]

    async def get(self, path: str, query: Query | None = None, *, accept: str = JSON) -> bytes:
        """Return the body of a GET. Raises ApiError, UnreachableError."""
        async with self._request("GET", path, query, accept=accept) as response:
            return await response.read()

    async def post(self, path: str, body: Mapping[str, object]) -> bytes:
        """Create an object; return it. Raises ApiError, UnreachableError."""
        async with self._request("POST", path, body=body) as response:
            return await response.read()

    async def put(self, path: str, body: Mapping[str, object]) -> bytes:
        """Replace an object; return it. Raises ApiError, UnreachableError."""
        async with self._request("PUT", path, body=body) as response:
            return await response.read()

    async def delete(self, path: str, body: Mapping[str, object] | None = None) -> None:
        """Delete an object, of which `body` is the DeleteOptions. Raises ApiError, UnreachableError."""
        async with self._request("DELETE", path, body=body) as response:
            await response.read()

    async def apply(self, path: str, body: Mapping[str, object], *, manager: str, force: bool = True) -> bytes:
        """Apply an object server-side as this field manager; return it. Raises ApiError, UnreachableError."""
        query = {"fieldManager": manager, "force": "true" if force else "false"}
        async with self._request("PATCH", path, query, body=body, content_type=APPLY) as response:
            return await response.read()

    async def watch(self, path: str, query: Query, *, accept: str = JSON) -> AsyncIterator[bytes]:
        """Yield the lines of a watch until the server ends it, or falls silent. Raises ApiError, UnreachableError."""
        limits = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT, sock_read=self._silence)
        async with self._request("GET", path, {**query, "watch": "1"}, accept=accept, limits=limits) as response:
            rest = b""
            # Whoever watches goes on from where it was, over another connection.
            with suppress(aiohttp.SocketTimeoutError):
                async for chunk in response.content.iter_any():
                    *lines, rest = (rest + chunk).split(b"\n")
                    for line in lines:
                        if line:
                            yield line

    @asynccontextmanager
    async def _request(
        self,
        method: str,
        path: str,
        query: Query | None = None,
        *,
        body: Mapping[str, object] | None = None,
        content_type: str = JSON,
        accept: str = JSON,
        limits: aiohttp.ClientTimeout | None = None,
    ) -> AsyncGenerator[aiohttp.ClientResponse]:
        limits = limits or aiohttp.ClientTimeout(total=_PATIENCE, sock_connect=_CONNECT)
        try:
            prepared = await self._client.param_serialize(
                method,
                path,
                query_params=list(query.items()) if query else None,
                header_params={"Accept": accept, "Content-Type": content_type},
                body=dict(body) if body is not None else None,
                auth_settings=["BearerToken"],
            )
            response: aiohttp.ClientResponse = (
                await self._client.call_api(*prepared, _request_timeout=limits)
            ).response
            async with response:
                if not response.ok:
                    raise _refusal(response.status, await response.read(), response.headers.get("Retry-After", ""))
                yield response
        except (aiohttp.ClientError, TimeoutError, asyncio.IncompleteReadError, OSError) as error:
            raise UnreachableError(str(error) or type(error).__name__) from error


def _refusal(status: int, body: bytes, retry_after: str) -> ApiError:
    """Read what an API server says when it refuses (meta/v1, Status)."""
    said: Any = None
    with suppress(orjson.JSONDecodeError):
        said = orjson.loads(body)
    if not isinstance(said, dict):
        said = {"message": body[:200].decode("utf-8", "replace").strip()}
    wait = float(retry_after) if retry_after.isdecimal() else 0.0
    return ApiError(status, str(said.get("reason") or ""), str(said.get("message") or ""), wait)
