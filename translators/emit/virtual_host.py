"""The routes of one hostname, among them those that the gateway needs for itself.

In a virtual host that chooses by the model, the order is:

1. refusals of requests that were examined and whose body is no good;
2. the rules, in Gateway API's order of precedence; each rule that needs the model has an examining route right before
   it, so that a rule of higher precedence is reached first and its requests are never examined;
3. the list of models; what examined requests are told when no rule took them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import lru_cache

from envoy_data_plane.envoy.config.route import v3 as route
from envoy_data_plane.envoy.extensions.retry.host.previous_hosts import v3 as previous_hosts
from envoy_data_plane.envoy.type.matcher import v3 as matcher
from envoy_data_plane.google.protobuf import Any

from translators import ir
from translators.emit.packing import milliseconds
from translators.expressions import matches
from translators.features import (
    body_limit,
    disaggregation,
    foreign_picker,
    local_replies,
    mirror,
    model_finder,
    models_list,
    picker,
    token_usage,
)
from translators.headers import EXAMINED, MODEL
from translators.memo import Memo
from translators.settings import ModelFinder

NOWHERE = "nowhere"
"""A cluster that never exists: the share of a broken backend goes there, and Envoy answers 500 (HTTPBackendRef)."""

# How long an exchange may be silent where no timeout of the route says so.
_POOL_IDLE = milliseconds(3_600_000)
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
    chooses = any(rule.model is not None for rule in host.routes)
    models = models_list.routable(host)
    if chooses:
        yield from _refusals(finder)
    foreign = any(pool.picker for rule in host.routes for pool in rule.pools)
    examined: set[ir.Match] = set()
    listed = False
    for rule in host.routes:
        if rule.model is not None:
            if rule.match not in examined:
                examined.add(rule.match)
                yield from memo(_examine, rule.name, rule.match, finder, limit, foreign=foreign)
        elif rule.pools and rule.served and models and not listed and _takes_models_list(rule.match):
            yield memo(_list_models, rule.name + "/models", rule.match, tuple(models.items()))
            listed = rule.match == ir.Match(rule.match.path)
        yield memo(_route, rule, limit)
    if models and not listed and any(rule.pools for rule in host.routes):
        yield memo(_list_models, "models", ir.Match(_MODELS), tuple(models.items()))
    if chooses:
        yield from _unanswered()


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
            match=route.RouteMatch(
                prefix="/", headers=[_EXAMINED, *refusal.headers], dynamic_metadata=list(refusal.metadata)
            ),
            direct_response=local_replies.answer(400, refusal.message),
            metadata=local_replies.INFERENCE,
        )
        for refusal in model_finder.refusals(finder)
    )


def _examine(name: str, match: ir.Match, finder: ModelFinder, limit: int, *, foreign: bool) -> tuple[route.Route, ...]:
    """Return the routes that examine a rule's requests; those that can be no JSON are only marked as examined."""
    # The limit holds for all bodies that a later choice may hold, the multipart ones included.
    asked = {**picker.silent(), **(foreign_picker.silent() if foreign else {})}
    shared = {**asked, **token_usage.on_route(), **body_limit.on_route(limit)}
    return tuple(
        route.Route(
            name=f"{name}/{step}",
            match=_match(match, [*_conditions(match), _NOT_EXAMINED, condition]),
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


def _list_models(name: str, match: ir.Match, models: tuple[tuple[str, int], ...]) -> route.Route:
    listing = replace(match, path=_MODELS, method="GET")
    return route.Route(
        name=name,
        match=_match(listing, _conditions(listing)),
        direct_response=models_list.action(dict(models)),
        response_headers_to_add=[models_list.CONTENT_TYPE],
    )


def _route(rule: ir.Route, limit: int) -> route.Route:
    conditions = _conditions(rule.match)
    if rule.model is not None:
        conditions.append(_header(rule.model))
    metadata = local_replies.INFERENCE if rule.inference else None
    match = _match(rule.match, conditions)
    shares = [share for share in rule.backends if share.weight > 0]
    if not rule.served:
        refusal = rule.refusal or "No backend of this rule can be reached."
        return route.Route(
            name=rule.name, match=match, metadata=metadata, direct_response=local_replies.answer(500, refusal)
        )
    return route.Route(
        name=rule.name,
        match=match,
        metadata=metadata,
        route=_action(rule, shares),
        typed_per_filter_config=dict(_filters(rule, shares, limit)),
        request_headers_to_remove=[EXAMINED],
        request_body_buffer_limit=_kept(rule, limit),
    )


def _kept(rule: ir.Route, limit: int) -> int | None:
    """Return how much of a body is kept for retries; one that is longer goes through once (envoy.config.route.v3)."""
    if not rule.pools:
        return None
    # After an examination Envoy measures by this what the picker sends back, too.
    return limit + body_limit.ROOM_TO_RENAME if _rewrites(rule) else limit


def _rewrites(rule: ir.Route) -> bool:
    """Whether the picker sees the bodies of this rule, and may send back others."""
    return any(pool.wants_body(rule.model) for pool in rule.pools)


def _filters(rule: ir.Route, shares: list[ir.Weighted], limit: int) -> Mapping[str, Any]:
    if not rule.pools:
        return {}
    held = {**token_usage.on_route(), **(body_limit.on_picking_route(limit) if _rewrites(rule) else {})}
    only = shares[0].backend
    if len(shares) == 1 and isinstance(only, ir.Pool):
        return {**held, **_ask(only, rule)}
    ours = picker.silent() if any(pool.picker is None for pool in rule.pools) else {}
    others = foreign_picker.silent() if any(pool.picker for pool in rule.pools) else {}
    return {**held, **ours, **others}


def _ask(pool: ir.Pool, rule: ir.Route) -> Mapping[str, Any]:
    """Return what makes a route, or a weighted cluster, ask the picker of a pool."""
    if pool.picker is None:
        return picker.on_share(pool, body=pool.wants_body(rule.model), mirrors=rule.mirrored_pools)
    return {} if pool.picker_away else foreign_picker.on_share(pool.picker, fail_open=pool.fail_open)


def _action(rule: ir.Route, shares: list[ir.Weighted]) -> route.RouteAction:
    timeout = milliseconds(rule.timeout)
    action = route.RouteAction(
        timeout=timeout,
        request_mirror_policies=mirror.policies(rule.mirrors),
        # Without this the listener's five minutes of silence would end a request that waits for its first token.
        idle_timeout=timeout if rule.timeout else (_POOL_IDLE if rule.pools else None),
        cluster_not_found_response_code=route.RouteActionClusterNotFoundResponseCode.INTERNAL_SERVER_ERROR,
    )
    if rule.attempt_timeout is not None:
        # A route's policy replaces its clusters', and a Service's share is not to be retried unasked.
        retries = all(isinstance(share.backend, ir.Pool) for share in shares)
        unsent = any(pool.split for pool in rule.pools)
        action.retry_policy = retry_policy(retries=retries, attempt_timeout=rule.attempt_timeout, unsent=unsent)
    if len(shares) == 1 and shares[0].backend is not None:
        action.cluster = shares[0].backend.cluster
    else:
        action.weighted_clusters = route.WeightedCluster(clusters=[_share(rule, share) for share in shares])
    return action


def _share(rule: ir.Route, share: ir.Weighted) -> route.WeightedClusterClusterWeight:
    config: Mapping[str, Any] = {}
    if isinstance(share.backend, ir.Pool):
        config = _ask(share.backend, rule)
    name = share.backend.cluster if share.backend else NOWHERE
    return route.WeightedClusterClusterWeight(name=name, weight=share.weight, typed_per_filter_config=dict(config))


def retry_policy(*, retries: bool, attempt_timeout: int | None = None, unsent: bool = False) -> route.RetryPolicy:
    """Return how requests to a pool are retried: on the endpoints that the picker named, before any byte of an answer.

    The picker names alternatives in order; when they are used up, the fallback must not choose a host that was tried.
    attempt_timeout: milliseconds. unsent: only where nothing was sent to the one before.
    """
    policy = route.RetryPolicy()
    if retries:
        policy = route.RetryPolicy(
            retry_on="connect-failure,refused-stream,reset,retriable-status-codes",
            retriable_status_codes=[503],
            num_retries=3,
            host_selection_retry_max_attempts=5,
            retry_host_predicate=[_not_tried_before()],
            retry_back_off=route.RetryPolicyRetryBackOff(base_interval=milliseconds(5), max_interval=milliseconds(20)),
        )
        if unsent:
            policy.retry_on, policy.retriable_status_codes = disaggregation.RETRY_ON, []
    if attempt_timeout is not None:
        policy.per_try_timeout = milliseconds(attempt_timeout)
    return policy


@lru_cache(maxsize=1)
def _not_tried_before() -> route.RetryPolicyRetryHostPredicate:
    return route.RetryPolicyRetryHostPredicate(
        name="envoy.retry_host_predicates.previous_hosts",
        typed_config=Any.pack(previous_hosts.PreviousHostsPredicate()),
    )


def _match(match: ir.Match, headers: list[route.HeaderMatcher]) -> route.RouteMatch:
    result = route.RouteMatch(headers=headers, query_parameters=[_query(query) for query in match.query])
    path = match.path
    if path.kind == "Exact":
        result.path = path.value
    elif path.kind == "RegularExpression":
        result.safe_regex = matcher.RegexMatcher(regex=path.value)
    elif path.value.rstrip("/"):
        result.path_separated_prefix = path.value.rstrip("/")
    else:
        result.prefix = "/"
    return result


def _conditions(match: ir.Match) -> list[route.HeaderMatcher]:
    conditions = [_header(header) for header in match.headers]
    if match.method is not None:
        conditions.append(route.HeaderMatcher(name=":method", string_match=matcher.StringMatcher(exact=match.method)))
    return conditions


def _header(header: ir.StringMatch) -> route.HeaderMatcher:
    return route.HeaderMatcher(name=header.name, string_match=_text(header))


def _query(query: ir.StringMatch) -> route.QueryParameterMatcher:
    return route.QueryParameterMatcher(name=query.name, string_match=_text(query))


def _text(match: ir.StringMatch) -> matcher.StringMatcher:
    if match.kind == "Exact":
        return matcher.StringMatcher(exact=match.value)
    return matcher.StringMatcher(safe_regex=matcher.RegexMatcher(regex=match.value))
