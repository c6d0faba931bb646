"""HTTPRoutes: the meaning of their rules, and their order of precedence."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from resources import (
    HTTPHeaderMatch,
    HTTPQueryParamMatch,
    HTTPRequestMirrorFilter,
    HTTPRoute,
    HTTPRouteMatch,
    HTTPRouteRule,
    Listener,
)
from translators import ir
from translators.expressions import flaw
from translators.headers import MODEL
from translators.resolve import filters
from translators.resolve.backends import Backends, Reference
from translators.resolve.filters import RuleFilters
from translators.resolve.policies import NOT_BUILT, BackendSettings

ACCEPTED = "Accepted"
PARTLY = "PartiallyInvalid"
"""The condition of a route of which some rules work and others do not."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule of a route apart from the listener that it is attached to.

    refused: whether it answers 500 for what it asks for, and not just for want of a backend.
    """

    index: int
    name: str | None
    matches: tuple[tuple[int, ir.Match, ir.StringMatch | None], ...]
    backends: tuple[ir.Weighted, ...]
    timeout: int | None
    attempt_timeout: int | None
    problems: tuple[ir.Problem, ...]
    refusal: str
    refused: bool
    mirrors: tuple[ir.Mirror, ...]
    filters: RuleFilters


def rules_of(route: HTTPRoute, backends: Backends) -> tuple[Rule, ...]:
    """Return the meaning of a route's rules."""
    return tuple(_rule(route, index, rule, backends) for index, rule in enumerate(route.spec.rules))


def is_refused(rules: Sequence[Rule]) -> bool:
    """Whether a route is not accepted, whoever its parent is: not one of its rules works (RouteParentStatus)."""
    return bool(rules) and all(rule.refused for rule in rules)


def problems_of(rules: Sequence[Rule]) -> tuple[ir.Problem, ...]:
    """Return the problems of a route's rules. As long as one rule works, it is accepted without the others."""
    found = tuple(problem for rule in rules for problem in rule.problems)
    if is_refused(rules):
        return found
    return tuple(replace(each, condition=PARTLY) if each.condition == ACCEPTED else each for each in found)


def _rule(route: HTTPRoute, index: int, rule: HTTPRouteRule, backends: Backends) -> Rule:
    where = f"spec.rules[{index}]"
    types = {f"{where}.filters[{number}]": f"filter {step.type} " for number, step in enumerate(rule.filters)}
    problems: list[ir.Problem] = [
        ir.Problem(ACCEPTED, "UnsupportedValue", types.get(path, "") + NOT_BUILT, path)
        for path in route.unbuilt
        if path.startswith(where) or not path.startswith("spec.rules[")
    ]
    problems += filters.problems_of(rule.filters, f"{where}.filters")
    for number, ref in enumerate(rule.backend_refs):
        problems += filters.problems_of(ref.filters, f"{where}.backendRefs[{number}].filters")
    matches = []
    for number, match in enumerate(rule.matches):
        flaws = _flaws(match, f"{where}.matches[{number}]")
        problems += flaws
        if not flaws:
            matches.append((number, *_match(match)))
    refusal = "; ".join(f"HTTPRoute {route.key.namespace}/{route.key.name}: {problem}" for problem in problems)
    shares = []
    for number, ref in enumerate(rule.backend_refs):
        found = backends.find(Reference(route.key.namespace, ref, f"{where}.backendRefs[{number}]"))
        if isinstance(found, ir.Problem):
            problems.append(found)
        backend = None if isinstance(found, ir.Problem) else found
        headers = filters.headers_of(ref.filters)
        shares.append(ir.Weighted(ref.weight, backend, ref.kind == "InferencePool", headers.request, headers.response))
    split = any(isinstance(share.backend, ir.Pool) and share.backend.split for share in shares)
    mirrors, broken = _mirrors(route, rule, where, backends, split=split)
    problems += broken
    refused = bool(refusal)
    meant = filters.filters_of(rule)
    if not rule.backend_refs and not refusal and meant.redirect is None:
        refusal = f"HTTPRoute {route.key.namespace}/{route.key.name}: {where} has no backendRefs."
    timeouts = rule.timeouts
    return Rule(
        index=index,
        name=rule.name,
        matches=tuple(matches),
        backends=tuple(shares),
        timeout=timeouts.request,
        attempt_timeout=timeouts.backend_request or None,
        problems=tuple(problems),
        refusal=refusal,
        refused=refused,
        mirrors=mirrors,
        filters=meant,
    )


def _mirrors(
    route: HTTPRoute, rule: HTTPRouteRule, where: str, backends: Backends, *, split: bool
) -> tuple[tuple[ir.Mirror, ...], list[ir.Problem]]:
    """Return a rule's mirrors; a broken one is left out, and the rule works without it (HTTPRequestMirrorFilter)."""
    mirrors: list[ir.Mirror] = []
    problems: list[ir.Problem] = []
    for number, each in enumerate(rule.filters):
        if (mirror := each.request_mirror) is None:
            continue
        field = f"{where}.filters[{number}].requestMirror.backendRef"
        found = backends.find(Reference(route.key.namespace, mirror.backend_ref, field))
        if isinstance(found, ir.Problem):
            problems.append(found)
        elif split or (isinstance(found, ir.Pool) and found.split):
            # The copy for the pod that prefills takes the place of others, and the two of one request must meet.
            text = "a pool with prefill and decode apart can be mirrored neither from nor to"
            problems.append(ir.Problem(ACCEPTED, "UnsupportedValue", text, field))
        elif share := _millionths(mirror):
            mirrors.append(ir.Mirror(found, share))
    return tuple(mirrors), problems


def _millionths(mirror: HTTPRequestMirrorFilter) -> int:
    if mirror.percent is not None:
        return mirror.percent * ir.WHOLE // 100
    if mirror.fraction is not None:
        share = round(mirror.fraction.numerator * ir.WHOLE / mirror.fraction.denominator)
        return max(share, 1) if mirror.fraction.numerator else 0
    return ir.WHOLE


def _flaws(match: HTTPRouteMatch, where: str) -> list[ir.Problem]:
    expressions = [(match.path.type, match.path.value, "path")]
    expressions += [(each.type, each.value, f"headers[{n}]") for n, each in enumerate(match.headers)]
    expressions += [(each.type, each.value, f"queryParams[{n}]") for n, each in enumerate(match.query_params)]
    return [
        ir.Problem(
            ACCEPTED,
            "UnsupportedValue",
            f"is no regular expression that Envoy takes (RE2): {error}",
            f"{where}.{field}.value",
        )
        for kind, value, field in expressions
        if kind == "RegularExpression" and (error := flaw(value))
    ]


def _match(match: HTTPRouteMatch) -> tuple[ir.Match, ir.StringMatch | None]:
    headers = _first_of_each(match.headers, fold_case=True)
    model = next((header for header in headers if header.name == MODEL), None)
    return (
        ir.Match(
            path=ir.PathMatch(match.path.type, match.path.value),
            headers=tuple(header for header in headers if header.name != MODEL),
            query=_first_of_each(match.query_params, fold_case=False),
            method=match.method,
        ),
        model,
    )


def _first_of_each(
    matches: Iterable[HTTPHeaderMatch | HTTPQueryParamMatch], *, fold_case: bool
) -> tuple[ir.StringMatch, ...]:
    """Of several matches on one name only the first counts (Gateway API, HTTPHeaderMatch.name)."""
    result: dict[str, ir.StringMatch] = {}
    for match in matches:
        name = match.name.lower() if fold_case else match.name
        result.setdefault(name, ir.StringMatch(name, match.type, match.value))
    return tuple(result.values())


def routes_of(
    route: HTTPRoute, rules: Sequence[Rule], settings: Sequence[BackendSettings], listener: Listener, refusal: str
) -> Iterable[tuple[ir.Route, Rule]]:
    """Yield a route for each match of each rule.

    settings: the policies of each rule on this listener. refusal: why the listener answers 500 for all, or "".
    """
    tls = listener.protocol == "HTTPS"
    name = f"httproute/{route.key.namespace}/{route.key.name}"
    for rule, policy in zip(rules, settings, strict=True):
        timeout = rule.timeout if rule.timeout is not None else policy.request_timeout
        for number, match, model in rule.matches:
            found = ir.Route(
                name=f"{name}/rule/{rule.index}/match/{number}",
                origin=str(route.key),
                match=match,
                model=model,
                backends=rule.backends,
                timeout=timeout or 0,
                attempt_timeout=rule.attempt_timeout,
                refusal=rule.refusal or policy.refusal or refusal,
                mirrors=rule.mirrors,
                request_headers=rule.filters.headers.request,
                response_headers=rule.filters.headers.response,
                redirect=rule.filters.redirect and rule.filters.redirect.on(listener.port, tls=tls),
                rewrite=rule.filters.rewrite,
                cors=rule.filters.cors,
            )
            yield found, rule


_PATH_ORDER = {"Exact": 0, "RegularExpression": 1, "PathPrefix": 2}


def precedence(route: ir.Route) -> tuple[int, int, bool, int, int]:
    """Order matches by Gateway API's precedence, the first in order being tried first (HTTPRouteRule.matches).

    An exact path, then the longest prefix; then a method, the most headers, the most query parameters. Expressions,
    whose place is left open there, stand between exact paths and prefixes. Ties keep the order of the routes' age and
    of rules and matches within a route, as long as the sort is stable.
    """
    match = route.match
    headers = len(match.headers) + (route.model is not None)
    length = len(match.path.value.rstrip("/")) if match.path.kind == "PathPrefix" else len(match.path.value)
    return (_PATH_ORDER[match.path.kind], -length, match.method is None, -headers, -len(match.query))
