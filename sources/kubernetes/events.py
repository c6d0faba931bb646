"""Kubernetes Events about objects: few, and none twice within a while."""

from __future__ import annotations

import asyncio
import datetime as dt
import secrets
from collections import OrderedDict

import structlog

from resources import KINDS, Key
from sources.kubernetes.api import Api
from sources.kubernetes.errors import ApiError, UnreachableError

# Seconds within which an Event is not said again, and how many are remembered for that.
_SILENCE = 600.0
_MEMORY = 4096
# Events that wait; beyond that the newest are dropped: whoever makes a thousand mistakes at once sees the first ones.
_QUEUE = 200
# Seconds between two of them.
_SPACING = 0.1
_NOTE_LIMIT = 1024
# Events about cluster-scoped objects are in this namespace (events/v1, Event).
_CLUSTER_NAMESPACE = "default"

_log = structlog.get_logger("kubernetes")


class Events:
    """Posts Events, as `controller` on behalf of `instance`."""

    def __init__(self, api: Api, *, controller: str, instance: str) -> None:
        self._api = api
        self._controller = controller
        self._instance = instance
        self._said: OrderedDict[tuple[Key, str, str], float] = OrderedDict()
        self._queue: asyncio.Queue[dict[str, object]] = asyncio.Queue(_QUEUE)

    def post(self, key: Key, uid: str, *, warning: bool, reason: str, note: str) -> None:
        """Have an Event posted about an object, unless it was said a short while ago."""
        now = asyncio.get_running_loop().time()
        identity = (key, reason, note)
        if now - self._said.get(identity, -_SILENCE) < _SILENCE or self._queue.full():
            return
        self._said[identity] = now
        self._said.move_to_end(identity)
        while len(self._said) > _MEMORY:
            self._said.popitem(last=False)
        self._queue.put_nowait(self._event(key, uid, warning=warning, reason=reason, note=note))

    async def run(self) -> None:
        """Post, for ever."""
        while True:
            event = await self._queue.get()
            metadata = event["metadata"]
            namespace = metadata["namespace"] if isinstance(metadata, dict) else _CLUSTER_NAMESPACE
            try:
                await self._api.post(f"/apis/events.k8s.io/v1/namespaces/{namespace}/events", event)
            except (ApiError, UnreachableError) as error:
                # Events are a courtesy: what they say is in the statuses too.
                _log.debug("event not posted", reason=str(error))
            await asyncio.sleep(_SPACING)

    def _event(self, key: Key, uid: str, *, warning: bool, reason: str, note: str) -> dict[str, object]:
        namespace = key.namespace or _CLUSTER_NAMESPACE
        kind = KINDS[key.group, key.kind]
        version = kind.VERSIONS[0]
        return {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": f"{key.name[:200]}.{secrets.token_hex(8)}", "namespace": namespace},
            "regarding": {
                "apiVersion": f"{key.group}/{version}" if key.group else version,
                "kind": key.kind,
                "namespace": key.namespace,
                "name": key.name,
                "uid": uid,
            },
            "eventTime": dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "reportingController": self._controller,
            "reportingInstance": self._instance,
            "action": "Configure",
            "type": "Warning" if warning else "Normal",
            "reason": reason,
            "note": note[:_NOTE_LIMIT],
        }
