"""Which of several replicas leads: the one that holds a Lease (coordination.k8s.io/v1).

The official client has an election too, but it ends with the first connection that breaks, and gives nothing back.

Rules, and everything that affects who leads lives in this file:

1. A Lease that nobody holds, or that its holder has not renewed for `duration` seconds, may be taken. The time counts
   from when the last renewal was seen here: clocks of machines differ.
2. Whoever leads renews every `interval` seconds, and leads no longer once that has not succeeded for `deadline`
   seconds, which is less than `duration`: there are never two.
3. Whoever ends gives the Lease back, so that another one leads at once.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import orjson
import structlog

from sources.kubernetes.api import Api
from sources.kubernetes.errors import CONFLICT, NOT_FOUND, ApiError, UnreachableError

LEASES = "/apis/coordination.k8s.io/v1/namespaces/{}/leases"

DURATION, DEADLINE, INTERVAL = 10.0, 7.0, 2.0

_log = structlog.get_logger("replicas")


def moment() -> str:
    """Return the present as Kubernetes writes it (meta/v1, MicroTime)."""
    return dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class Election:
    """A candidate, `identity`, for the Lease `name`."""

    def __init__(self, api: Api, namespace: str, name: str, identity: str) -> None:
        self._api = api
        self._name = name
        self._namespace = namespace
        self._identity = identity
        self._path = LEASES.format(namespace)
        # The Lease as it was seen last, and since when it has been so.
        self._seen: tuple[str, str] | None = None
        self._seen_at = 0.0
        self._renewed_at = 0.0
        self._leading = False
        self._changed = asyncio.Event()
        # Why the API server lets it neither lead nor know who does.
        self.trouble = ""

    @property
    def leading(self) -> bool:
        """Whether this one leads."""
        return self._leading

    async def changed(self) -> None:
        """Wait until `leading` is different."""
        await self._changed.wait()

    async def run(self) -> None:
        """Stand for election, for ever; what is held at the end is given back."""
        try:
            while True:
                await self._attempt()
                await asyncio.sleep(INTERVAL)
        finally:
            if self._leading:
                self._lead(leading=False)
                with suppress(ApiError, UnreachableError, TimeoutError):
                    async with asyncio.timeout(INTERVAL):
                        await self._give_back()

    async def _attempt(self) -> None:
        now = asyncio.get_running_loop().time
        patience = self._renewed_at + DEADLINE - now() if self._leading else DEADLINE
        try:
            async with asyncio.timeout(max(patience, 0.0)):
                held = await self._take()
        except (ApiError, UnreachableError, TimeoutError) as error:
            if self._leading and now() >= self._renewed_at + DEADLINE:
                _log.warning("the Lease could not be renewed", reason=str(error))
                self._lead(leading=False)
            if isinstance(error, ApiError):
                self._suffer(f"Lease {self._namespace}/{self._name}: cannot be taken: {error.message or error.reason}")
            return
        self.trouble = ""
        if held:
            self._renewed_at = now()
        self._lead(leading=held)

    async def _take(self) -> bool:
        """Take or renew the Lease; tell whether it is held here."""
        now = asyncio.get_running_loop().time()
        try:
            lease = orjson.loads(await self._api.get(f"{self._path}/{self._name}"))
        except ApiError as error:
            if error.status != NOT_FOUND:
                raise
            return await self._write(None)
        spec = lease.get("spec") or {}
        holder = spec.get("holderIdentity") or ""
        seen = (holder, spec.get("renewTime") or "")
        if seen != self._seen:
            self._seen, self._seen_at = seen, now
        if holder not in {"", self._identity} and now - self._seen_at < DURATION:
            return False
        return await self._write(lease)

    async def _write(self, lease: Mapping[str, Any] | None) -> bool:
        spec = dict((lease or {}).get("spec") or {})
        at = moment()
        if spec.get("holderIdentity") != self._identity:
            changes = int(spec.get("leaseTransitions") or 0) + (lease is not None)
            spec |= {"holderIdentity": self._identity, "acquireTime": at, "leaseTransitions": changes}
        spec |= {"renewTime": at, "leaseDurationSeconds": int(DURATION)}
        metadata = (lease or {}).get("metadata") or {"name": self._name, "namespace": self._namespace}
        body = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}
        try:
            if lease is None:
                await self._api.post(self._path, body)
            else:
                # Its resourceVersion is in the metadata: of two that try, one succeeds.
                await self._api.put(f"{self._path}/{self._name}", body)
        except ApiError as error:
            if error.status == CONFLICT:
                return False
            raise
        self._seen, self._seen_at = (self._identity, at), asyncio.get_running_loop().time()
        return True

    async def _give_back(self) -> None:
        lease = orjson.loads(await self._api.get(f"{self._path}/{self._name}"))
        if (lease.get("spec") or {}).get("holderIdentity") == self._identity:
            spec = {**lease["spec"], "holderIdentity": "", "renewTime": moment()}
            await self._api.put(f"{self._path}/{self._name}", {**lease, "spec": spec})

    def _suffer(self, trouble: str) -> None:
        if trouble != self.trouble:
            self.trouble = trouble
            _log.warning("no part in the election", reason=trouble)

    def _lead(self, *, leading: bool) -> None:
        if leading == self._leading:
            return
        self._leading = leading
        _log.info("leads" if leading else "leads no longer", identity=self._identity)
        self._changed.set()
        self._changed = asyncio.Event()
