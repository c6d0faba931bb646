"""Keeps the installation's certificate authority: in a Secret of the controller's own namespace, which replicas share.

Whoever comes first makes it. What was read last stays in use whatever becomes of the Secret; one that was deleted is
made again, with what it had.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson
import structlog

from pointsman.authority import Authority
from pointsman.failure import Failure
from pointsman.identities import now
from sources.kubernetes import Api, ApiError, UnreachableError

NAME = "pointsman-authority"
"""The Secret's name."""

_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_CONFLICT, _NOT_FOUND = 409, 404
# Seconds between two looks at the Secret, and between two tries to reach it.
_INTERVAL = 60.0
_RETRY = 1.0

_log = structlog.get_logger("trust")


def namespace_of_pod() -> str:
    """Return the namespace of the pod that this process runs in, "" where it is in none."""
    try:
        return _NAMESPACE.read_text(encoding="utf-8").strip()
    except OSError:
        return ""


class Trust:
    """The Secret and what was read from it."""

    def __init__(self, api: Api, namespace: str, clock: Callable[[], datetime] = now) -> None:
        self._api = api
        self._namespace = namespace
        self._clock = clock
        self._path = f"/api/v1/namespaces/{namespace}/secrets"
        self._last: Authority | None = None
        self._trouble = ""

    @property
    def origin(self) -> str:
        """The Secret, for people."""
        return f"Secret {self._namespace}/{NAME}"

    async def load(self) -> Authority:
        """Return the authority, however long it takes to get at it. Failure where what is there cannot be read."""
        while True:
            found = await self._try()
            if found is not None:
                return found
            await asyncio.sleep(_RETRY)

    async def run(self, changed: Callable[[Authority], None]) -> None:
        """Look after it for ever; `changed` is told what is in force at each look."""
        while True:
            await asyncio.sleep(_INTERVAL)
            try:
                found = await self._try()
            except Failure as failure:
                self._complain(str(failure))
                found = None
            if (known := found or self._last) is not None:
                changed(known)

    async def _try(self) -> Authority | None:
        try:
            self._last = await self._settle()
        except ApiError as error:
            self._complain(f"{self.origin}: {error.message or error.reason}")
            return None
        except UnreachableError as error:
            self._complain(f"{self.origin}: the API server gives no answer: {error}")
            return None
        self._trouble = ""
        return self._last

    async def _settle(self) -> Authority:
        """Return what the Secret has, once it has what it should."""
        while True:
            try:
                item = orjson.loads(await self._api.get(f"{self._path}/{NAME}"))
            except ApiError as error:
                if error.status != _NOT_FOUND:
                    raise
                authority = (self._last or Authority.new(self._clock())).renewed(self._clock())
                if await self._write(self._api.post, self._path, authority, None):
                    return authority
                continue
            authority = self._read(item)
            renewed = authority.renewed(self._clock())
            if renewed is authority:
                return authority
            path, version = f"{self._path}/{NAME}", item["metadata"]["resourceVersion"]
            if await self._write(self._api.put, path, renewed, version):
                return renewed

    def _read(self, item: dict[str, Any]) -> Authority:
        try:
            return Authority.read({key: base64.b64decode(text) for key, text in (item.get("data") or {}).items()})
        except ValueError as error:
            raise Failure(f"{self.origin}: {error}") from None

    async def _write(self, send: Any, path: str, authority: Authority, version: str | None) -> bool:  # noqa: ANN401 - post or put
        """Write it; False where another replica was faster."""
        metadata = {"name": NAME, "namespace": self._namespace}
        if version is not None:
            metadata["resourceVersion"] = version
        data = {key: base64.b64encode(value).decode() for key, value in authority.write().items()}
        body = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "Opaque", "data": data}
        try:
            await send(path, body)
        except ApiError as error:
            if error.status == _CONFLICT:
                return False
            raise
        _log.info("authority written", object=self.origin, roots=len(authority.roots))
        return True

    def _complain(self, text: str) -> None:
        if self._trouble != text:
            _log.warning("authority not read", reason=text)
        self._trouble = text
