"""The ground that every typed Kubernetes struct stands on: its base class and the kinds of text and number in it.

The limits are those of the APIs' own schemas, so that a folder refuses what an API server would refuse.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta


class Fields(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A struct of an API: attributes are the API's names in snake case.

    `UNBUILT` names the fields that the API knows and Pointsman has not built yet: their paths are recorded in the
    object's `unbuilt`. Where `BUILT_TYPES` names the values of `type` that are built, a struct of any other type is
    recorded there itself. `SILENT` names fields that carry nothing for a gateway: they are passed over without a word.
    Every other name is reported as ignored. `RULES` are the rules between its fields that an API server can check too.
    """

    UNBUILT: ClassVar[frozenset[str]] = frozenset()
    BUILT_TYPES: ClassVar[frozenset[str] | None] = None
    SILENT: ClassVar[frozenset[str]] = frozenset()
    RULES: ClassVar[tuple["Rule", ...]] = ()


class FieldError(ValueError):
    """A rule between fields is broken; `field` (the API's name, "" for the struct itself) is where to mend it."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule between the fields of a struct: what FieldError says of it, and the rule itself in CEL, over `self`."""

    field: str
    message: str
    expression: str

    def broken(self) -> FieldError:
        """Return the error."""
        return FieldError(self.field, self.message)


_DNS_LABEL = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?\Z"
_SUBDOMAIN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\Z"
_GROUP = r"^(|[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*)\Z"
_KIND = r"^[a-zA-Z]([-a-zA-Z0-9]*[a-zA-Z0-9])?\Z"
_HOSTNAME = r"^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\Z"
_HEADER_NAME = r"^[A-Za-z0-9!#$%&'*+\-.^_`|~]+\Z"
_CONTROLLER = (
    r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
    r"/[A-Za-z0-9/\-._~%!$&'()*+,;=:]+\Z"
)
_PROTOCOL = r"^([a-zA-Z0-9]([-a-zA-Z0-9]*[a-zA-Z0-9])?|[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]+)*/[A-Za-z0-9]+)\Z"
# "*", or a scheme, a host that may begin with "*", and perhaps a port.
_ORIGIN = r"^(\*|https?://((\*\.)?([a-zA-Z0-9\-]+\.)*[a-zA-Z0-9\-]+|\*)(:[0-9]{1,5})?)\Z"
_LABEL_KEY = (
    r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?"
    r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?\Z"
)
_LABEL_VALUE = r"^(|[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)\Z"

# A user reads these words in place of the regular expression.
PATTERN_WORDS: Mapping[str, str] = {
    _DNS_LABEL: "a DNS label: lower-case letters, digits and '-'",
    _SUBDOMAIN: "a DNS name: lower-case letters, digits, '-' and '.'",
    _GROUP: "an API group: lower-case letters, digits, '-' and '.'",
    _KIND: "a kind: letters, digits and '-'",
    _HOSTNAME: "a lower-case DNS name, possibly with the leading label '*'",
    _HEADER_NAME: "a header name",
    _CONTROLLER: "a domain and a path, like example.com/controller",
    _PROTOCOL: "a protocol's name, possibly after a domain and '/'",
    _ORIGIN: "an origin, like https://*.example.com, or '*'",
    _LABEL_KEY: "a label's key",
    _LABEL_VALUE: "a label's value",
}

DnsLabel = Annotated[str, Meta(min_length=1, max_length=63, pattern=_DNS_LABEL)]
Subdomain = Annotated[str, Meta(min_length=1, max_length=253, pattern=_SUBDOMAIN)]
ReferenceName = Annotated[str, Meta(min_length=1, max_length=253)]
Group = Annotated[str, Meta(max_length=253, pattern=_GROUP)]
Kind = Annotated[str, Meta(min_length=1, max_length=63, pattern=_KIND)]
Hostname = Annotated[str, Meta(min_length=1, max_length=253, pattern=_HOSTNAME)]
HeaderName = Annotated[str, Meta(min_length=1, max_length=256, pattern=_HEADER_NAME)]
ControllerName = Annotated[str, Meta(min_length=1, max_length=253, pattern=_CONTROLLER)]
Protocol = Annotated[str, Meta(min_length=1, max_length=255, pattern=_PROTOCOL)]
Port = Annotated[int, Meta(ge=1, le=65535)]
Origin = Annotated[str, Meta(min_length=1, max_length=253, pattern=_ORIGIN)]
LabelKey = Annotated[str, Meta(min_length=1, max_length=317, pattern=_LABEL_KEY)]
LabelValue = Annotated[str, Meta(max_length=63, pattern=_LABEL_VALUE)]
Labels = Mapping[LabelKey, LabelValue]

_subdomain = re.compile(_SUBDOMAIN)
_header_name = re.compile(_HEADER_NAME)
# The characters of a path (RFC 3986, pchar), as the API server takes them.
_path = re.compile(r"(?:[-A-Za-z0-9/._~!$&'()*+,;=:@]|%[0-9a-fA-F]{2})+\Z")
_MAX_SUBDOMAIN = 253


def check_address(field: str, text: str) -> None:
    """Raise FieldError unless the text is an IP address."""
    try:
        ip_address(text)
    except ValueError:
        raise FieldError(field, f"expected an IP address, got {text!r}") from None


def is_subdomain(text: str) -> bool:
    """Whether the text can name an object (RFC 1123 subdomain)."""
    return len(text) <= _MAX_SUBDOMAIN and _subdomain.match(text) is not None


def is_path(text: str) -> bool:
    """Whether the text holds nothing but what a path may (RFC 3986)."""
    return _path.match(text) is not None


def is_header_name(text: str) -> bool:
    """Whether the text can name a header (RFC 9110)."""
    return _header_name.match(text) is not None
