"""The routes of one hostname, among them those that the gateway needs for itself.

In a virtual host that chooses by the model, the order is:

1. refusals of requests that were examined and whose body is no good;
2. the rules, in Gateway API's order of precedence; each rule that needs the model has an examining route right before
   it, so that a rule of higher precedence is reached first and its requests are never examined;
3. the list of models; answers to preflights; what examined requests are told when no rule took them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache

from envoy_data_plane.envoy.config.route import v3 as route
from envoy_data_plane.envoy.type.matcher import v3 as matcher

from translators import ir
from translators.emit.route import NOWHERE, conditions_of, match_of, route_of
from translators.expressions import matches
from translators.features import (
    body_limit,
    cors,
    foreign_picker,
    local_replies,
    model_finder,
    models_list,
    picker,
    token_usage,
)
from translators.headers import EXAMINED, MODEL
from translators.memo import Memo
from translators.settings import ModelFinder

_HELD_METHODS = ("POST", "PUT", "PATCH")
_MODELS = ir.PathMatch("Exact", models_list.PATH)

_EXAMINED = route.HeaderMatcher(name=EXAMINED, present_match=True)
_NOT_EXAMINED = route.HeaderMatcher(name=EXAMINED, present_match=True, invert_match=True)
_MULTIPART = matcher.StringMatcher(prefix="multipart/", ignore_case=True)
_IS_MULTIPART = route.HeaderMatcher(name="content-type", string_match=_MULTIPART)
_NO_MULTIPART = route.HeaderMatcher(
    name="content-type", string_match=_MULTIPART, invert_match=True, treat_missing_header_as_empty=True
)


def routes_of(host: ir.VirtualHost, finder: ModelFinder, limit: int, memo: Memo) -> Iterator[route.Route]:
    """Yield the routes of a hostname in order; `limit` is how many bytes of a body may be held."""
    if host.misdirected:
        yield _misdirected()
        return
    rules = memo.each(route_of, host.routes, limit)
    # Of ten thousand routes most may be plain ones, for which the gateway needs none for itself.
    inference = [rule for rule in host.routes if rule.pools or rule.model is not None]
    chooses = any(rule.model is not None for rule in inference)
    if chooses:
        yield from _refusals(finder)
    if inference:
        yield from _with_own(host, replace(host, routes=tuple(inference)), rules, finder, limit, memo)
    else:
        yield from rules
    for number, (match, policy) in enumerate(cors.preflights(host.routes)):
        yield memo(_preflight, f"preflight/{number}", match, policy)
    if chooses:
        yield from _unanswered()


def _with_own(
    host: ir.VirtualHost,
    inference: ir.VirtualHost,
    rules: Sequence[route.Route],
    finder: ModelFinder,
    limit: int,
    memo: Memo,
) -> Iterator[route.Route]:
    """Yield the rules of a hostname with the gateway's own routes among them; `inference` has those that need some."""
    models, sources = tuple(models_list.routable(inference).items()), models_list.sources(inference)
    lists = bool(models or sources.pools)
    foreign = any(pool.asks_other for rule in inference.routes for pool in rule.pools)
    examined: set[ir.Match] = set()
    listed = False
    for rule, made in zip(host.routes, rules, strict=True):
        if rule.model is not None:
            if rule.match not in examined:
                examined.add(rule.match)
                yield from memo.same(_examine, rule, finder, limit, foreign=foreign)
        elif rule.pools and rule.served and lists and not listed and _takes_models_list(rule.match):
            yield memo(_list_models, rule.name + "/models", rule.match, models, sources)
            listed = rule.match == ir.Match(rule.match.path)
        yield made
    if lists and not listed and any(rule.pools for rule in inference.routes):
        yield memo(_list_models, "models", ir.Match(_MODELS), models, sources)


@lru_cache(maxsize=1)
def _misdirected() -> route.Route:
    """Return what tells a client to ask on a connection of its own (RFC 9110, 421 Misdirected Request)."""
    return route.Route(
        name="misdirected", match=route.RouteMatch(prefix="/"), direct_response=local_replies.answer(421)
    )


def _preflight(name: str, match: ir.Match, policy: ir.Cors) -> route.Route:
    return route.Route(
        name=name,
        match=match_of(match, list(cors.PREFLIGHT)),
        # Never gone: the filter answers all preflights, but looks at no route that answers by itself.
        route=route.RouteAction(cluster=NOWHERE),
        typed_per_filter_config=dict(cors.on_route(policy)),
    )


def _takes_models_list(match: ir.Match) -> bool:
    path = match.path
    covered = (
        matches(path.value, models_list.PATH) if path.kind == "RegularExpression" else path.covers(models_list.PATH)
    )
    return covered and match.method in {None, "GET"}


@lru_cache(maxsize=2)
def _refusals(finder: ModelFinder) -> tuple[route.Route, ...]:
    return tuple(
        route.Route(
            name=f"refuse/{refusal.name}",
            match=route.RouteMatch(prefix="/", headers=[_EXAMINED, refusal.header]),
            direct_response=local_replies.answer(400, refusal.message),
            metadata=local_replies.INFERENCE,
        )
        for refusal in model_finder.refusals(finder)
    )


def _examine(rule: ir.Route, finder: ModelFinder, limit: int, *, foreign: bool) -> tuple[route.Route, ...]:
    """Return the routes that examine a rule's requests; those that can be no JSON are only marked as examined."""
    match = rule.match
    # The limit holds for all bodies that a later choice may hold, the multipart ones included.
    asked = {**picker.silent(), **(foreign_picker.silent() if foreign else {})}
    shared = {**asked, **token_usage.on_route(), **body_limit.on_route(limit)}
    return tuple(
        route.Route(
            name=f"{rule.name}/{step}",
            match=match_of(match, [*conditions_of(match), _NOT_EXAMINED, condition]),
            # Never answered: once examined, the request meets another route.
            direct_response=local_replies.answer(500),
            typed_per_filter_config={**model_finder.on_examining_route(finder, read_body=is_json), **shared},
            metadata=local_replies.INFERENCE,
        )
        for step, is_json, condition in (("examine", True, _NO_MULTIPART), ("pass", False, _IS_MULTIPART))
    )


@lru_cache(maxsize=1)
def _unanswered() -> tuple[route.Route, ...]:
    """Return what an examined request is told that no rule took."""
    known = route.HeaderMatcher(name=MODEL, present_match=True)
    methods = route.HeaderMatcher(
        name=":method",
        string_match=matcher.StringMatcher(safe_regex=matcher.RegexMatcher(regex="|".join(_HELD_METHODS))),
    )
    return tuple(
        route.Route(
            name=f"refuse/{name}",
            match=route.RouteMatch(prefix="/", headers=[_EXAMINED, *headers]),
            direct_response=local_replies.answer(status, message),
            metadata=local_replies.INFERENCE,
        )
        for name, headers, status, message in (
            ("unknown-model", [known], 404, ""),
            ("no-model", [methods], 400, model_finder.NO_MODEL),
            ("no-route", [], 404, "There is nothing here for this method and path."),
        )
    )


def _list_models(
    name: str, match: ir.Match, models: tuple[tuple[str, int], ...], sources: models_list.Sources
) -> route.Route:
    listing = replace(match, path=_MODELS, method="GET")
    return route.Route(
        name=name,
        match=match_of(listing, conditions_of(listing)),
        direct_response=models_list.action(dict(models)),
        response_headers_to_add=[models_list.CONTENT_TYPE],
        typed_per_filter_config=(
            # An empty list in the picker's absence would be a wrong one.
            dict(picker.on_models_list(sources.pools, sources.seat, fail_open=bool(models))) if sources.pools else {}
        ),
    )
