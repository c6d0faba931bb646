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
        self._hosts: dict[str, _Host] = {}
        self._message: route.RouteConfiguration | None = None

    def of(self, chain: ir.Chain, finder: ModelFinder, limit: int) -> route.RouteConfiguration:
        """Return a chain's table; `limit` is how many bytes of a body may be held.

        It is the same message where nothing in it is different.
        """
        if self._given != (finder, limit):
            self._given, self._hosts = (finder, limit), {}
        kept = self._hosts
        self._hosts = {
            host.hostname: known
            if (known := kept.get(host.hostname)) is not None and known.meaning is host
            else _made(chain.name, host, known, finder, limit)
            for host in chain.hosts
        }
        messages = [each.message for each in self._hosts.values()]
        if self._message is None or not _are_same(self._message.virtual_hosts, messages):
            longest = max((each.longest for each in self._hosts.values()), default=0)
            self._message = _configuration(chain.name, messages, longest)
        return self._message


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
