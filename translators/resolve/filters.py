"""The filters of a rule: what they mean, and what of them cannot be told to Envoy."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from resources import (
    HTTPCORSFilter,
    HTTPHeader,
    HTTPHeaderFilter,
    HTTPPathModifier,
    HTTPRequestRedirectFilter,
    HTTPRouteFilter,
    HTTPRouteRule,
    is_header_name,
    is_path,
)
from translators import ir
from translators.expressions import flaw, origin

ACCEPTED = "Accepted"
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class HeaderFilters:
    """What becomes of the headers of requests and of answers."""

    request: ir.HeaderChanges = ir.NO_CHANGES
    response: ir.HeaderChanges = ir.NO_CHANGES


@dataclass(frozen=True, slots=True)
class RuleFilters:
    """What the filters of a rule do, apart from mirrors."""

    headers: HeaderFilters
    redirect: ir.Redirect | None
    rewrite: ir.UrlRewrite | None
    cors: ir.Cors | None


def filters_of(rule: HTTPRouteRule) -> RuleFilters:
    """Return the meaning of a rule's filters."""
    prefix = rule.matches[0].path.value.rstrip("/")
    redirects = (each.request_redirect for each in rule.filters)
    rewrites = (each.url_rewrite for each in rule.filters)
    cors = (each.cors for each in rule.filters)
    return RuleFilters(
        headers=headers_of(rule.filters),
        redirect=next((_redirect(each, prefix) for each in redirects if each), None),
        rewrite=next((ir.UrlRewrite(each.hostname, _path(each.path, prefix)) for each in rewrites if each), None),
        cors=next((_cors(each) for each in cors if each), None),
    )


def headers_of(filters: Iterable[HTTPRouteFilter]) -> HeaderFilters:
    """Return what filters do to headers."""
    request = response = ir.NO_CHANGES
    for each in filters:
        if each.request_header_modifier is not None:
            request = _changes(each.request_header_modifier)
        if each.response_header_modifier is not None:
            response = _changes(each.response_header_modifier)
    return HeaderFilters(request, response)


def problems_of(filters: Sequence[HTTPRouteFilter], where: str) -> Iterator[ir.Problem]:
    """Yield what of the filters at `where` cannot be done."""
    for number, each in enumerate(filters):
        field = f"{where}[{number}]"
        if each.request_header_modifier is not None:
            yield from _header_problems(each.request_header_modifier, f"{field}.requestHeaderModifier")
        if each.response_header_modifier is not None:
            yield from _header_problems(each.response_header_modifier, f"{field}.responseHeaderModifier")
        if each.path is not None:
            kind = "urlRewrite" if each.url_rewrite else "requestRedirect"
            yield from _path_problems(each.path, f"{field}.{kind}.path")
        if each.cors is not None:
            yield from _origin_problems(each.cors, f"{field}.cors")
            if any(other.request_redirect is not None for other in filters):
                text = "Envoy redirects without a look at CORS, so that a rule can have only one of the two"
                yield ir.Problem(ACCEPTED, "IncompatibleFilters", text, field)


def _changes(changes: HTTPHeaderFilter) -> ir.HeaderChanges:
    return ir.HeaderChanges(
        remove=tuple(dict.fromkeys(name.lower() for name in changes.remove)),
        write=(
            *(ir.HeaderValue(each.name.lower(), each.value) for each in _first_of_each(changes.set)),
            *(ir.HeaderValue(each.name.lower(), each.value, beside=True) for each in _first_of_each(changes.add)),
        ),
    )


def _first_of_each(headers: Iterable[HTTPHeader]) -> Iterable[HTTPHeader]:
    """Of names that differ in case only the first counts (HTTPHeader.name)."""
    found: dict[str, HTTPHeader] = {}
    for each in headers:
        found.setdefault(each.name.lower(), each)
    return found.values()


def _header_problems(changes: HTTPHeaderFilter, where: str) -> Iterator[ir.Problem]:
    written = [(f"{kind}[{n}]", each) for kind in ("set", "add") for n, each in enumerate(getattr(changes, kind))]
    names = [(f"{field}.name", each.name) for field, each in written]
    names += [(f"remove[{number}]", name) for number, name in enumerate(changes.remove)]
    for field, name in names:
        if name.lower() == "host":
            yield _problem("Host cannot be changed here, only by urlRewrite.hostname", f"{where}.{field}")
        elif not is_header_name(name):
            yield _problem(f"{name!r} is no header name", f"{where}.{field}")
    for field, each in written:
        if _CONTROL.search(each.value):
            yield _problem("must not have control characters", f"{where}.{field}.value")


def _path_problems(path: HTTPPathModifier, where: str) -> Iterator[ir.Problem]:
    if path.replace_full_path is not None:
        field, value = "replaceFullPath", path.replace_full_path
    else:
        field, value = "replacePrefixMatch", path.replace_prefix_match or "/"
    if not value.startswith("/") or not is_path(value):
        yield _problem("must be a path that starts with '/'", f"{where}.{field}")


def _origin_problems(cors: HTTPCORSFilter, where: str) -> Iterator[ir.Problem]:
    for number, each in enumerate(cors.allow_origins):
        if "*" in each and (error := flaw(origin(each))):
            yield _problem(f"cannot be matched by Envoy: {error}", f"{where}.allowOrigins[{number}]")


def _problem(message: str, where: str) -> ir.Problem:
    return ir.Problem(ACCEPTED, "UnsupportedValue", message, where)


def _redirect(redirect: HTTPRequestRedirectFilter, prefix: str) -> ir.Redirect:
    return ir.Redirect(
        status=redirect.status_code,
        scheme=redirect.scheme,
        hostname=redirect.hostname,
        port=redirect.port,
        path=_path(redirect.path, prefix),
    )


def _path(path: HTTPPathModifier | None, prefix: str) -> ir.PathChange | None:
    if path is None:
        return None
    if path.replace_full_path is not None:
        return ir.PathChange("whole", path.replace_full_path)
    return ir.PathChange("prefix", (path.replace_prefix_match or "").rstrip("/"), prefix)


def _cors(cors: HTTPCORSFilter) -> ir.Cors:
    return ir.Cors(
        origins=cors.allow_origins,
        methods=cors.allow_methods,
        headers=cors.allow_headers,
        exposed=cors.expose_headers,
        max_age=cors.max_age,
        credentials=cors.allow_credentials,
    )
