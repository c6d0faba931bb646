"""What an HTTPRoute does to requests and responses on their way: the filters of the Gateway API."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta

from resources.fields import (
    DnsLabel,
    FieldError,
    Fields,
    Group,
    HeaderName,
    Kind,
    Origin,
    Port,
    ReferenceName,
    Subdomain,
)

Method = Literal["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"]
AnyMethod = Literal["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "*"]

_REPEATABLE = frozenset({"RequestMirror", "ExtensionRef"})


class BackendObjectReference(Fields, frozen=True, kw_only=True):
    """A backend; no `namespace` means the route's own."""

    group: Group = ""
    kind: Kind = "Service"
    name: ReferenceName
    namespace: DnsLabel | None = None
    port: Port | None = None

    def __post_init__(self) -> None:
        if self.port is None and (self.group, self.kind) == ("", "Service"):
            raise FieldError("port", "is required when the backend is a Service")


class HTTPHeader(Fields, frozen=True, kw_only=True):
    """A header with the value that it gets."""

    name: HeaderName
    value: Annotated[str, Meta(min_length=1, max_length=4096)]


class HTTPHeaderFilter(Fields, frozen=True, kw_only=True):
    """Headers to set, to add a value to, and to remove; the case of names does not matter."""

    set: Annotated[tuple[HTTPHeader, ...], Meta(max_length=16)] = ()
    add: Annotated[tuple[HTTPHeader, ...], Meta(max_length=16)] = ()
    remove: Annotated[tuple[str, ...], Meta(max_length=16)] = ()

    def __post_init__(self) -> None:
        for field, names in (
            ("set", [each.name for each in self.set]),
            ("add", [each.name for each in self.add]),
            ("remove", list(self.remove)),
        ):
            _refuse_repetition(field, names)


class HTTPPathModifier(Fields, frozen=True, kw_only=True):
    """Another path in place of a request's, or in place of the prefix that a match is for."""

    type: Literal["ReplaceFullPath", "ReplacePrefixMatch"]
    replace_full_path: Annotated[str, Meta(max_length=1024)] | None = None
    replace_prefix_match: Annotated[str, Meta(max_length=1024)] | None = None

    def __post_init__(self) -> None:
        values = {"ReplaceFullPath": self.replace_full_path, "ReplacePrefixMatch": self.replace_prefix_match}
        for kind, value in values.items():
            if (self.type == kind) != (value is not None):
                field = kind[:1].lower() + kind[1:]
                raise FieldError(field, f"must be set if the type is {kind}, and only then")


class HTTPRequestRedirectFilter(Fields, frozen=True, kw_only=True):
    """Where to send the client; what is left out is as in the request."""

    scheme: Literal["http", "https"] | None = None
    hostname: Subdomain | None = None
    path: HTTPPathModifier | None = None
    port: Port | None = None
    status_code: Literal[301, 302, 303, 307, 308] = 302


class HTTPURLRewriteFilter(Fields, frozen=True, kw_only=True):
    """The host and the path that a backend sees."""

    hostname: Subdomain | None = None
    path: HTTPPathModifier | None = None


class HTTPCORSFilter(Fields, frozen=True, kw_only=True):
    """What scripts of other origins may do; `maxAge` is in seconds."""

    allow_origins: Annotated[tuple[Origin, ...], Meta(max_length=64)] = ()
    allow_credentials: bool = False
    allow_methods: Annotated[tuple[AnyMethod, ...], Meta(max_length=9)] = ()
    allow_headers: Annotated[tuple[HeaderName, ...], Meta(max_length=64)] = ()
    expose_headers: Annotated[tuple[HeaderName, ...], Meta(max_length=64)] = ()
    max_age: Annotated[int, Meta(ge=1, lt=1 << 31)] = 5

    def __post_init__(self) -> None:
        lists: dict[str, tuple[str, ...]] = {
            "allowOrigins": self.allow_origins,
            "allowMethods": self.allow_methods,
            "allowHeaders": self.allow_headers,
        }
        for field, values in lists.items():
            if "*" in values and len(values) > 1:
                raise FieldError(field, "'*' must stand alone")
            _refuse_repetition(field, values)


class Fraction(Fields, frozen=True, kw_only=True):
    """A share of requests."""

    numerator: Annotated[int, Meta(ge=0, lt=1 << 31)]
    denominator: Annotated[int, Meta(ge=1, lt=1 << 31)] = 100

    def __post_init__(self) -> None:
        if self.numerator > self.denominator:
            raise FieldError("numerator", "must not be greater than the denominator")


class HTTPRequestMirrorFilter(Fields, frozen=True, kw_only=True):
    """Where copies of requests go, and of how many: all, unless `percent` or `fraction` says otherwise."""

    backend_ref: BackendObjectReference
    percent: Annotated[int, Meta(ge=0, le=100)] | None = None
    fraction: Fraction | None = None

    def __post_init__(self) -> None:
        if self.percent is not None and self.fraction is not None:
            raise FieldError("fraction", "only one of percent and fraction may be set")


class HTTPRouteFilter(Fields, frozen=True, kw_only=True):
    """A step between request and backend.

    A type that is unknown decodes too, so that the rule which asks for it can answer 500 instead of going without.
    """

    BUILT_TYPES: ClassVar[frozenset[str]] = frozenset(
        {"CORS", "RequestHeaderModifier", "RequestMirror", "RequestRedirect", "ResponseHeaderModifier", "URLRewrite"}
    )

    type: Annotated[str, Meta(min_length=1)]
    request_header_modifier: HTTPHeaderFilter | None = None
    response_header_modifier: HTTPHeaderFilter | None = None
    request_mirror: HTTPRequestMirrorFilter | None = None
    request_redirect: HTTPRequestRedirectFilter | None = None
    url_rewrite: HTTPURLRewriteFilter | None = None
    cors: HTTPCORSFilter | None = None
    extension_ref: Mapping[str, Any] | None = None
    external_auth: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        values: dict[str, tuple[str, object]] = {
            "CORS": ("cors", self.cors),
            "RequestHeaderModifier": ("requestHeaderModifier", self.request_header_modifier),
            "RequestMirror": ("requestMirror", self.request_mirror),
            "RequestRedirect": ("requestRedirect", self.request_redirect),
            "ResponseHeaderModifier": ("responseHeaderModifier", self.response_header_modifier),
            "URLRewrite": ("urlRewrite", self.url_rewrite),
        }
        for kind, (field, value) in values.items():
            if (self.type == kind) != (value is not None):
                raise FieldError(field, f"must be set if the type is {kind}, and only then")

    @property
    def path(self) -> HTTPPathModifier | None:
        """The path that the filter replaces, if it does."""
        changes = self.request_redirect or self.url_rewrite
        return changes.path if changes else None

    def __hash__(self) -> int:
        # The mappings of what is not built have no hash.
        return hash((self.type, self.request_mirror, self.request_redirect, self.url_rewrite))


class HTTPBackendFilter(HTTPRouteFilter, frozen=True, kw_only=True):
    """A step between a rule and one of its backends."""

    BUILT_TYPES: ClassVar[frozenset[str]] = frozenset({"RequestHeaderModifier", "ResponseHeaderModifier"})

    def __hash__(self) -> int:
        return super().__hash__()


def check_filters(filters: Iterable[HTTPRouteFilter]) -> None:
    """Raise FieldError where a filter stands twice, or beside one that it excludes."""
    seen: set[str] = set()
    for index, each in enumerate(filters):
        if each.type in seen and each.type not in _REPEATABLE:
            raise FieldError(f"filters[{index}]", f"the filter {each.type} stands twice")
        seen.add(each.type)
        if {"RequestRedirect", "URLRewrite"} <= seen:
            raise FieldError(f"filters[{index}]", "only one of RequestRedirect and URLRewrite may be used")


def _refuse_repetition(field: str, names: Iterable[str]) -> None:
    repeated = next((name for name, count in Counter(names).items() if count > 1), None)
    if repeated is not None:
        raise FieldError(field, f"{repeated} stands twice")
