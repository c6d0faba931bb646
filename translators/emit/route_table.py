"""A chain's table of routes, kept from one translation to the next: only what is different is made again.

Ten thousand routes make a table of megabytes, of which a change concerns a line.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass

from envoy_data_plane.envoy.config.route import v3 as route

from translators import ir
from translators.emit.virtual_host import routes_of
from translators.memo import Memo
from translators.settings import ModelFinder

# Bytes.
_DEFAULT_ANSWER_LIMIT = 4096


@dataclass(frozen=True, slots=True, eq=False)
class _Host:
    """A hostname's message, what it was made from and with, and how long its longest answer may be (bytes)."""

    meaning: ir.VirtualHost
    message: route.VirtualHost
    memo: Memo
    longest: int


class RouteTable:
    """The virtual hosts of a chain."""

    def __init__(self) -> None:
        self._given: tuple[ModelFinder, int] | None = None
        self._meanings: tuple[ir.VirtualHost, ...] = ()
        # By the identity of the meanings.
        self._hosts: dict[int, _Host] = {}
        self._message = route.RouteConfiguration()

    def of(self, chain: ir.Chain, finder: ModelFinder, limit: int) -> route.RouteConfiguration:
        """Return a chain's table; `limit` is how many bytes of a body may be held.

        It is the same message where nothing in it is different.
        """
        if self._given == (finder, limit) and self._meanings is chain.hosts:
            return self._message
        if self._given != (finder, limit):
            self._hosts = {}
        hosts = self._renewed(chain, finder, limit)
        messages = [each.message for each in hosts]
        if self._given != (finder, limit) or not _are_same(self._message.virtual_hosts, messages):
            longest = max((each.longest for each in hosts), default=0)
            self._message = _configuration(chain.name, messages, longest)
        self._given, self._meanings = (finder, limit), chain.hosts
        self._hosts = dict(zip(map(id, chain.hosts), hosts, strict=True))
        return self._message

    def _renewed(self, chain: ir.Chain, finder: ModelFinder, limit: int) -> list[_Host]:
        known = list(map(self._hosts.get, map(id, chain.hosts)))
        fresh = {host.hostname for host, each in zip(chain.hosts, known, strict=True) if each is None}
        before = {each.meaning.hostname: each for each in self._hosts.values() if each.meaning.hostname in fresh}
        return [
            each if each is not None else _made(chain.name, host, before.get(host.hostname), finder, limit)
            for host, each in zip(chain.hosts, known, strict=True)
        ]


def _made(chain: str, host: ir.VirtualHost, known: _Host | None, finder: ModelFinder, limit: int) -> _Host:
    memo = known.memo if known is not None else Memo()
    routes = list(routes_of(host, finder, limit, memo))
    memo.turn()
    if known is not None and _are_same(known.message.routes, routes):
        return _Host(host, known.message, memo, known.longest)
    message = route.VirtualHost(name=f"{chain}/{host.hostname}", domains=[host.hostname])
    # Given to the constructor, each of them would be validated once more.
    message.routes = routes
    return _Host(host, message, memo, _longest_answer(routes))


def _configuration(name: str, hosts: list[route.VirtualHost], longest: int) -> route.RouteConfiguration:
    message = route.RouteConfiguration(
        name=name,
        ignore_port_in_host_matching=True,
        # A broken backend's share goes to a cluster that does not exist.
        validate_clusters=False,
        # The list of models, or what is wrong with a rule, may be longer than Envoy allows unasked.
        max_direct_response_body_size_bytes=longest if longest > _DEFAULT_ANSWER_LIMIT else None,
    )
    message.virtual_hosts = hosts
    return message


def _longest_answer(routes: Sequence[route.Route]) -> int:
    answers = (each.direct_response.body for each in routes if each.direct_response is not None)
    return max((len(body.inline_string or "") * 4 for body in answers if body is not None), default=0)


def _are_same(some: Sequence[object], others: Sequence[object]) -> bool:
    """Whether these are the very same objects: to compare messages by value takes longer than to make them."""
    return len(some) == len(others) and all(map(operator.is_, some, others))
