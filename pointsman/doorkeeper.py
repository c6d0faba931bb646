"""Who is let in to the control plane of a cluster: pods of ours, each for what belongs to its service account.

A token that the API server has found to be right is known for a while, and until it expires where the API server gives
no answer: what was served goes on being served.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass

import orjson
import structlog
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from sources.kubernetes import ApiError, UnreachableError
from translators import Translation
from translators.identities import account_of
from translators.infrastructure import Account, accounts
from xds import PICKER, Peer, Permit, Refusal

Review = Callable[[str], Awaitable[tuple[str, str] | None]]
"""Finds out whose a token is: namespace and name of a service account. Raises ApiError, UnreachableError."""

_BEARER = "bearer "
# For how long a token that was right is taken without asking again (seconds).
_FRESH = 60.0
# How many tokens are asked about at once: strangers are not to keep the API server busy.
_AT_ONCE = 8
# For how long one who is who it says it is is kept waiting for the cluster to be read (seconds): an Envoy that is
# refused comes back later than it could be served, and one that waits on would not find another replica.
_PATIENCE = 10.0
_MOST_REMEMBERED = 10_000
# How much is repeated of what somebody says that is not let in (characters).
_LONGEST_TOLD = 200

_log = structlog.get_logger("doorkeeper")


@dataclass(frozen=True, slots=True)
class _Known:
    account: tuple[str, str]
    at: float
    expires: float


class Accounts:
    """The service account that each part belongs to, as the last translation has it; None before there is one.

    namespace: that of all Envoys, "" where each has its Gateway's.
    """

    def __init__(self, translation: Callable[[], Translation | None], namespace: str) -> None:
        self._translation = translation
        self._namespace = namespace
        self._found: tuple[Translation, Mapping[str, Account]] | None = None

    def __call__(self) -> Mapping[str, Account] | None:
        """Return it by part."""
        translation = self._translation()
        if translation is None:
            return None
        if self._found is None or self._found[0] is not translation:
            self._found = (translation, accounts(*translation.needs, self._namespace))
        return self._found[1]


class Doorkeeper:
    """Checks tokens and names in certificates, and what their owners ask for.

    accounts: the service account that each part belongs to; None while that is not known yet. known: waits until it is.
    clock: seconds since the epoch, as tokens have them.
    """

    def __init__(
        self,
        review: Review,
        accounts: Callable[[], Mapping[str, Account] | None],
        known: Callable[[], Awaitable[object]],
        clock: Callable[[], float] = time.time,
        patience: float = _PATIENCE,
    ) -> None:
        self._review = review
        self._accounts = accounts
        self._accounts_known = known
        self._patience = patience
        self._clock = clock
        self._known: dict[bytes, _Known] = {}
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._told: set[str] = set()
        self.refused: Counter[str] = Counter()

    async def admit(self, metadata: Mapping[str, str], names: tuple[str, ...] | None = None) -> Permit | Refusal:
        """Say whose stream it is (`xds.Admit`): whoever shows a certificate is who that says, whatever the token."""
        found = self._certified(names) if names is not None else await self._bears(metadata)
        if isinstance(found, Refusal):
            return self._refuse(found)
        if self._accounts() is None:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._patience):
                    await self._accounts_known()
        return lambda peer: self._permit(found, peer)

    @staticmethod
    def _certified(names: tuple[str, ...]) -> tuple[str, str] | Refusal:
        told = ", ".join(names)[:_LONGEST_TOLD] or "nobody"
        return account_of(names) or Refusal("UNAUTHENTICATED", f"the certificate is of no service account: {told}")

    async def _bears(self, metadata: Mapping[str, str]) -> tuple[str, str] | Refusal:
        given = metadata.get("authorization", "")
        if not given.lower().startswith(_BEARER):
            return Refusal("UNAUTHENTICATED", "no token was given")
        return await self._identify(given[len(_BEARER) :].strip())

    async def _identify(self, token: str) -> tuple[str, str] | Refusal:
        # Of a token nothing is kept but what tells it from others.
        digest = hashlib.sha256(token.encode()).digest()
        now = self._clock()
        known = self._known.get(digest)
        if known is not None and now - known.at < _FRESH:
            return known.account
        try:
            async with self._turns:
                account = await self._review(token)
        except (ApiError, UnreachableError) as error:
            if known is not None and now < known.expires:
                return known.account
            reason = error.reason if isinstance(error, ApiError) else "it gives no answer"
            return Refusal("UNAVAILABLE", f"the API server cannot be asked about tokens: {reason}")
        if account is None:
            self._known.pop(digest, None)
            return Refusal("UNAUTHENTICATED", "the token is of no service account, not for us, or no longer valid")
        if len(self._known) >= _MOST_REMEMBERED:
            self._known = {key: each for key, each in self._known.items() if each.expires > now}
        self._known[digest] = _Known(account, now, _expiry(token))
        return account

    def _permit(self, account: tuple[str, str], peer: Peer) -> Refusal | None:
        accounts = self._accounts()
        if accounts is None:
            return Refusal("UNAVAILABLE", "the cluster has not been read yet")
        owner = accounts.get(peer.group)
        kind = "the picker" if peer.role == PICKER else "the Gateway"
        if owner != Account(*account, picker=peer.role == PICKER):
            name, group = "/".join(account), peer.group[:_LONGEST_TOLD]
            text = f"service account {name} may not ask for what {kind} {group} is to have"
            return self._refuse(Refusal("PERMISSION_DENIED", text))
        return None

    def _refuse(self, refusal: Refusal) -> Refusal:
        self.refused[refusal.status] += 1
        # Whoever is refused asks again every second.
        if refusal.reason not in self._told and len(self._told) < _MOST_REMEMBERED:
            self._told.add(refusal.reason)
            _log.warning("client refused", status=refusal.status, reason=refusal.reason)
        return refusal


class Refusals(Collector):
    """How many streams were refused."""

    def __init__(self, doorkeeper: Doorkeeper) -> None:
        self._doorkeeper = doorkeeper

    def collect(self) -> Iterator[Metric]:
        """Yield every metric."""
        refused = CounterMetricFamily("pointsman_xds_refused_streams", "Clients not let in.", labels=["status"])
        for status, count in sorted(self._doorkeeper.refused.items()):
            refused.add_metric([status], count)
        yield refused


def _expiry(token: str) -> float:
    """Return when a token expires (RFC 7519, exp; seconds since the epoch), 0 where it does not say."""
    try:
        payload = token.split(".")[1]
        claims = orjson.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        return float(claims["exp"])
    except (IndexError, KeyError, TypeError, ValueError, binascii.Error):
        return 0.0
