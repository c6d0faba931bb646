"""HTTPRoute of the Gateway API."""

from collections import Counter
from typing import Annotated, ClassVar, Literal

from msgspec import Meta
from msgspec.structs import force_setattr

from resources.durations import Duration
from resources.fields import (
    DnsLabel,
    FieldError,
    Fields,
    Group,
    HeaderName,
    Hostname,
    Kind,
    Port,
    ReferenceName,
    Subdomain,
    is_path,
)
from resources.filters import (
    BackendObjectReference,
    HTTPBackendFilter,
    HTTPRouteFilter,
    Method,
    check_filters,
)
from resources.gateway import GATEWAY_GROUP
from resources.meta import Object

_MAX_MATCHES = 128
# What a path of a match may not hold: a client's path is normalised before it is compared (Gateway API, HTTPPathMatch).
_FORBIDDEN_IN_PATH = ("//", "/./", "/../", "%2f", "%2F", "#")
_FORBIDDEN_PATH_ENDS = ("/..", "/.")


class ParentReference(Fields, frozen=True, kw_only=True):
    """What a route wants to be attached to; no `namespace` means the route's own."""

    group: Group = GATEWAY_GROUP
    kind: Kind = "Gateway"
    namespace: DnsLabel | None = None
    name: ReferenceName
    section_name: Subdomain | None = None
    port: Port | None = None


class HTTPPathMatch(Fields, frozen=True, kw_only=True):
    """A condition on the request's path."""

    type: Literal["Exact", "PathPrefix", "RegularExpression"] = "PathPrefix"
    value: Annotated[str, Meta(max_length=1024)] = "/"

    def __post_init__(self) -> None:
        if self.type == "RegularExpression":
            return
        if not self.value.startswith("/"):
            raise FieldError("value", "must start with '/'")
        if not is_path(self.value):
            raise FieldError("value", "must be a path: letters, digits, -._~!$&'()*+,;=:@/ and %XX")
        for part in _FORBIDDEN_IN_PATH:
            if part in self.value:
                raise FieldError("value", f"must not contain {part!r}")
        for end in _FORBIDDEN_PATH_ENDS:
            if self.value.endswith(end):
                raise FieldError("value", f"must not end with {end!r}")


class HTTPHeaderMatch(Fields, frozen=True, kw_only=True):
    """A condition on a header; the name's case does not matter."""

    type: Literal["Exact", "RegularExpression"] = "Exact"
    name: HeaderName
    value: Annotated[str, Meta(min_length=1, max_length=4096)]


class HTTPQueryParamMatch(Fields, frozen=True, kw_only=True):
    """A condition on a query parameter; the name's case matters."""

    type: Literal["Exact", "RegularExpression"] = "Exact"
    name: HeaderName
    value: Annotated[str, Meta(min_length=1, max_length=1024)]


class HTTPRouteMatch(Fields, frozen=True, kw_only=True):
    """Conditions that a request must all fulfil."""

    path: HTTPPathMatch = HTTPPathMatch()
    headers: Annotated[tuple[HTTPHeaderMatch, ...], Meta(max_length=16)] = ()
    query_params: Annotated[tuple[HTTPQueryParamMatch, ...], Meta(max_length=16)] = ()
    method: Method | None = None


class HTTPBackendRef(BackendObjectReference, frozen=True, kw_only=True):
    """Where a share of a rule's requests goes."""

    weight: Annotated[int, Meta(ge=0, le=1_000_000)] = 1
    filters: Annotated[tuple[HTTPBackendFilter, ...], Meta(max_length=16)] = ()

    def __post_init__(self) -> None:
        # No super() in a class with slots that msgspec makes anew.
        BackendObjectReference.__post_init__(self)
        check_filters(self.filters)


class HTTPRouteTimeouts(Fields, frozen=True, kw_only=True):
    """How long a request, and one try of it, may take; 0 means for ever."""

    request: Duration | None = None
    backend_request: Duration | None = None

    def __post_init__(self) -> None:
        if self.request and self.backend_request is not None and self.backend_request > self.request:
            raise FieldError("backendRequest", "must not be longer than request")


class HTTPRouteRule(Fields, frozen=True, kw_only=True):
    """Matches, of which one is enough, and what becomes of a request that fulfils one."""

    UNBUILT: ClassVar[frozenset[str]] = frozenset({"retry", "sessionPersistence"})

    name: Subdomain | None = None
    matches: Annotated[tuple[HTTPRouteMatch, ...], Meta(max_length=64)] = (HTTPRouteMatch(),)
    filters: Annotated[tuple[HTTPRouteFilter, ...], Meta(max_length=16)] = ()
    backend_refs: Annotated[tuple[HTTPBackendRef, ...], Meta(max_length=16)] = ()
    timeouts: HTTPRouteTimeouts = HTTPRouteTimeouts()

    def __post_init__(self) -> None:
        # A rule without matches takes every request (Gateway API, HTTPRouteRule.matches).
        if not self.matches:
            force_setattr(self, "matches", (HTTPRouteMatch(),))
        check_filters(self.filters)
        for index, each in enumerate(self.filters):
            if each.request_redirect is not None and self.backend_refs:
                raise FieldError(f"filters[{index}]", "a rule with RequestRedirect must have no backendRefs")
            if each.path is None or each.path.type != "ReplacePrefixMatch":
                continue
            if len(self.matches) > 1 or self.matches[0].path.type != "PathPrefix":
                field = f"filters[{index}].{'requestRedirect' if each.request_redirect else 'urlRewrite'}.path"
                raise FieldError(field, "ReplacePrefixMatch needs just one match, with a path of type PathPrefix")


class HTTPRouteSpec(Fields, frozen=True, kw_only=True):
    """Parents, hostnames and rules of a route; no hostname means all of the listener's."""

    UNBUILT: ClassVar[frozenset[str]] = frozenset({"useDefaultGateways"})

    parent_refs: Annotated[tuple[ParentReference, ...], Meta(max_length=32)] = ()
    hostnames: Annotated[tuple[Hostname, ...], Meta(max_length=16)] = ()
    rules: Annotated[tuple[HTTPRouteRule, ...], Meta(max_length=16)] = (HTTPRouteRule(),)

    def __post_init__(self) -> None:
        _check_parents(self.parent_refs)
        if sum(len(rule.matches) for rule in self.rules) > _MAX_MATCHES:
            raise FieldError("rules", f"more than {_MAX_MATCHES} matches in one route")
        names = Counter(rule.name for rule in self.rules if rule.name is not None)
        for index, rule in enumerate(self.rules):
            if rule.name is not None and names[rule.name] > 1:
                raise FieldError(f"rules[{index}].name", f"rule name {rule.name!r} is used twice")


class HTTPRoute(Object, frozen=True, kw_only=True):
    """Rules that lead HTTP requests from gateways to backends."""

    GROUP = GATEWAY_GROUP
    KIND = "HTTPRoute"
    VERSIONS = ("v1", "v1beta1")

    spec: HTTPRouteSpec


def _check_parents(parents: tuple[ParentReference, ...]) -> None:
    """Several references to one parent must each name a section or a port of their own (Gateway API, parentRefs)."""
    sections: dict[tuple[str, str, str | None, str], list[tuple[str | None, int | None]]] = {}
    for index, ref in enumerate(parents):
        seen = sections.setdefault((ref.group, ref.kind, ref.namespace, ref.name), [])
        section = (ref.section_name, ref.port)
        if seen and (section == (None, None) or (None, None) in seen):
            raise FieldError(f"parentRefs[{index}]", "two references to one parent need a sectionName or a port each")
        if section in seen:
            raise FieldError(f"parentRefs[{index}]", "the same section of the same parent is referred to twice")
        seen.append(section)
