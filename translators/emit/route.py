"""One rule as a route of Envoy: what it matches, and what becomes of a request that it takes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from envoy_data_plane.envoy.config.route import v3 as route
from envoy_data_plane.envoy.extensions.retry.host.previous_hosts import v3 as previous_hosts
from envoy_data_plane.envoy.type.matcher import v3 as matcher
from envoy_data_plane.google.protobuf import Any

from translators import ir
from translators.emit.packing import milliseconds
from translators.features import (
    body_limit,
    cors,
    disaggregation,
    foreign_picker,
    header_modifier,
    local_replies,
    mirror,
    picker,
    redirect,
    token_usage,
    url_rewrite,
    websocket,
)
from translators.headers import EXAMINED

NOWHERE = "nowhere"
"""A cluster that never exists: the share of a broken backend goes there, and Envoy answers 500 (HTTPBackendRef)."""

# How long an exchange may be silent where no timeout of the route says so.
_POOL_IDLE = milliseconds(3_600_000)


def route_of(rule: ir.Route, limit: int) -> route.Route:
    """Return the route of a rule's match; `limit` is how many bytes of a body may be held."""
    conditions = conditions_of(rule.match)
    if rule.model is not None:
        conditions.append(_header(rule.model))
    metadata = local_replies.INFERENCE if rule.inference else None
    match = match_of(rule.match, conditions)
    shares = [share for share in rule.backends if share.weight > 0]
    if rule.redirect is not None and not rule.refusal:
        return route.Route(
            name=rule.name,
            match=match,
            redirect=redirect.action(rule.redirect),
            response_headers_to_add=header_modifier.written(rule.response_headers),
            response_headers_to_remove=header_modifier.removed(rule.response_headers),
        )
    if not rule.served:
        refusal = rule.refusal or "No backend of this rule can be reached."
        return route.Route(
            name=rule.name, match=match, metadata=metadata, direct_response=local_replies.answer(500, refusal)
        )
    # Envoy does what a share has to do first, so that the rule's part must be in it to come before the share's own.
    own = ir.NO_CHANGES if _apart(shares) else rule.request_headers
    own_of_response = ir.NO_CHANGES if _apart(shares) else rule.response_headers
    return route.Route(
        name=rule.name,
        match=match,
        metadata=metadata,
        route=_action(rule, shares),
        typed_per_filter_config={**_filters(rule, shares, limit), **(cors.on_route(rule.cors) if rule.cors else {})},
        request_headers_to_add=header_modifier.written(own),
        request_headers_to_remove=[EXAMINED, *header_modifier.removed(own)],
        response_headers_to_add=header_modifier.written(own_of_response),
        response_headers_to_remove=header_modifier.removed(own_of_response),
        request_body_buffer_limit=_kept(rule, limit),
    )


def _apart(shares: list[ir.Weighted]) -> bool:
    """Whether headers change with the share."""
    return any(share.request_headers or share.response_headers for share in shares)


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
    ours = picker.silent() if any(pool.asks_ours for pool in rule.pools) else {}
    others = foreign_picker.silent() if any(pool.asks_other for pool in rule.pools) else {}
    return {**held, **ours, **others}


def _ask(pool: ir.Pool, rule: ir.Route) -> Mapping[str, Any]:
    """Return what makes a route, or a weighted cluster, ask the picker of a pool."""
    if pool.asks_ours:
        return picker.on_share(pool, body=pool.wants_body(rule.model), mirrors=rule.mirrored_pools)
    return foreign_picker.on_share(pool)


def _action(rule: ir.Route, shares: list[ir.Weighted]) -> route.RouteAction:
    timeout = milliseconds(rule.timeout)
    action = route.RouteAction(
        timeout=timeout,
        request_mirror_policies=mirror.policies(rule.mirrors),
        # Without this the listener's five minutes of silence would end a request that waits for its first token.
        idle_timeout=timeout if rule.timeout else (_POOL_IDLE if rule.pools else None),
        cluster_not_found_response_code=route.RouteActionClusterNotFoundResponseCode.INTERNAL_SERVER_ERROR,
        upgrade_configs=websocket.off_route() if rule.pools else [],
    )
    if rule.attempt_timeout is not None:
        # A route's policy replaces its clusters', and a Service's share is not to be retried unasked.
        retries = all(isinstance(share.backend, ir.Pool) for share in shares)
        unsent = any(pool.split for pool in rule.pools)
        action.retry_policy = retry_policy(retries=retries, attempt_timeout=rule.attempt_timeout, unsent=unsent)
    if rule.rewrite is not None:
        url_rewrite.apply(rule.rewrite, action)
    apart = _apart(shares)
    if len(shares) == 1 and shares[0].backend is not None and not apart:
        action.cluster = shares[0].backend.cluster
    else:
        clusters = [_share(rule, share, apart=apart) for share in shares]
        action.weighted_clusters = route.WeightedCluster(clusters=clusters)
    return action


def _share(rule: ir.Route, share: ir.Weighted, *, apart: bool) -> route.WeightedClusterClusterWeight:
    config: Mapping[str, Any] = {}
    if isinstance(share.backend, ir.Pool):
        config = _ask(share.backend, rule)
    request = rule.request_headers.then(share.request_headers) if apart else ir.NO_CHANGES
    response = rule.response_headers.then(share.response_headers) if apart else ir.NO_CHANGES
    return route.WeightedClusterClusterWeight(
        name=share.backend.cluster if share.backend else NOWHERE,
        weight=share.weight,
        typed_per_filter_config=dict(config),
        request_headers_to_add=header_modifier.written(request),
        request_headers_to_remove=header_modifier.removed(request),
        response_headers_to_add=header_modifier.written(response),
        response_headers_to_remove=header_modifier.removed(response),
    )


def retry_policy(*, retries: bool, attempt_timeout: int | None = None, unsent: bool = False) -> route.RetryPolicy:
    """Return how requests to a pool are retried: on the endpoints that the picker named, before any byte of an answer.

    The picker names alternatives in order; when they are used up, the fallback must not choose a host that was tried.
    All attempts together take 0.4 s in the mean, which is time for Envoy to be told of pods that come in place of those
    that go. attempt_timeout: milliseconds. unsent: only where nothing was sent to the one before.
    """
    policy = route.RetryPolicy()
    if retries:
        policy = route.RetryPolicy(
            retry_on="connect-failure,refused-stream,reset,retriable-status-codes",
            retriable_status_codes=[503],
            num_retries=5,
            host_selection_retry_max_attempts=5,
            retry_host_predicate=[_not_tried_before()],
            retry_back_off=route.RetryPolicyRetryBackOff(
                base_interval=milliseconds(25), max_interval=milliseconds(250)
            ),
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


def match_of(match: ir.Match, headers: list[route.HeaderMatcher]) -> route.RouteMatch:
    """Return a match with these conditions on headers."""
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


def conditions_of(match: ir.Match) -> list[route.HeaderMatcher]:
    """Return the conditions of a match on headers and on the method."""
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
