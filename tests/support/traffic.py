"""An interpreter of route tables: what would Envoy do with this request?

It reads what was translated, in Envoy's order and by Envoy's rules, as far as the translators use them: the most
specific domain, then the first route that matches. A route that examines gives the request its model and chooses
again. Whether Envoy itself finds the model so is for the tests with the real Envoy.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import re2
from envoy_data_plane.envoy.config.route import v3 as route
from envoy_data_plane.envoy.type.matcher import v3 as matcher
from lua_script import examine

from translators import Translation
from translators.features import model_in_ai_protocol_manager, model_in_lua
from translators.features.picker import NAME as PICKER
from translators.headers import CLIENT_MAY_NOT_SET, EXAMINED, MODEL

_READS_ALL, _READS = (
    model_in_ai_protocol_manager.NAME,
    model_in_lua.on_examining_route(read_body=True)[model_in_lua.NAME],
)
_EXAMINING = {model_in_ai_protocol_manager.CHOOSE_AGAIN, model_in_lua.NAME}
_RE2 = re2.Options()
_RE2.encoding = re2.Options.Encoding.LATIN1


@dataclass(frozen=True)
class Request:
    """A request; `body` is bytes as they are, or anything to be written as JSON."""

    method: str
    path: str
    host: str = "any.test"
    headers: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    body: object = None

    def header(self, name: str) -> str | None:
        if name == ":method":
            return self.method
        return {key.lower(): value for key, value in self.headers.items()}.get(name)

    def with_headers(self, **changed: str | None) -> "Request":
        names = {name.replace("_", "-"): value for name, value in changed.items()}
        kept = {name: value for name, value in self.headers.items() if name.lower() not in names}
        return replace(self, headers=kept | {name: value for name, value in names.items() if value is not None})


@dataclass(frozen=True)
class Outcome:
    """What becomes of a request. clusters: weights by name."""

    name: str
    status: int = 0
    body: str = ""
    clusters: Mapping[str, int] = field(default_factory=dict)
    examined: bool = False
    timeout: float = 0.0
    action: route.Route | None = None

    @property
    def cluster(self) -> str:
        """The one cluster that the request goes to; "" if there is none."""
        return next(iter(self.clusters)) if len(self.clusters) == 1 else ""

    @property
    def answer(self) -> str:
        """The outcome in a word: the cluster, or the status that the gateway itself answers."""
        return self.cluster or str(self.status)


def send(translation: Translation, request: Request, *, gateway: str = "default/gw", port: int = 8080) -> Outcome:
    """Send a request to a Gateway's port."""
    name = f"{gateway}/{port}"
    tables = [each.message for each in translation.gateways[gateway] if each.name == name]
    table = next(each for each in tables if isinstance(each, route.RouteConfiguration))
    stripped = request.with_headers(**{each.replace("-", "_"): None for each in CLIENT_MAY_NOT_SET})
    first = _choose(table, stripped)
    if first is None:
        return Outcome("", 404)
    if not _EXAMINING & first.typed_per_filter_config.keys():
        return _outcome(first, examined=False)
    second = _choose(table, _examined(stripped, first))
    assert second is not None, "an examined request always meets a route"
    assert not _EXAMINING & second.typed_per_filter_config.keys(), "no request is examined twice"
    assert PICKER in first.typed_per_filter_config, "the picker must be in the chain from the first choice on"
    return _outcome(second, examined=True)


def _examined(request: Request, by: route.Route) -> Request:
    config = by.typed_per_filter_config
    outcome, name = model_in_lua.PLAIN, None
    # Of the AI Protocol Manager it is taken that it finds what the script finds; it refuses what is no JSON by itself.
    if request.body is not None and (_READS_ALL in config or config.get(model_in_lua.NAME) == _READS):
        body = request.body if isinstance(request.body, bytes) else json.dumps(request.body).encode()
        outcome, name = examine(body)
    changed = {EXAMINED.replace("-", "_"): outcome}
    return request.with_headers(**changed, **({} if name is None else {MODEL.replace("-", "_"): name.decode()}))


def _outcome(chosen: route.Route, *, examined: bool) -> Outcome:
    if (direct := chosen.direct_response) is not None:
        body = direct.body.inline_string if direct.body is not None else ""
        return Outcome(chosen.name, direct.status, body or "", examined=examined, action=chosen)
    action = chosen.route
    assert action is not None
    assert action.timeout is not None
    shares = action.weighted_clusters.clusters if action.weighted_clusters else ()
    clusters: dict[str, int] = {action.cluster: 1} if action.cluster else {}
    for share in shares:
        clusters[share.name] = clusters.get(share.name, 0) + (share.weight or 0)
    return Outcome(
        chosen.name,
        clusters=clusters,
        examined=examined,
        timeout=action.timeout.total_seconds(),
        action=chosen,
    )


def _choose(table: route.RouteConfiguration, request: Request) -> route.Route | None:
    host = _host(table, request.host)
    return next((each for each in host.routes if each.match and _fits(each.match, request)), None) if host else None


def _host(table: route.RouteConfiguration, name: str) -> route.VirtualHost | None:
    """Return the virtual host by exact name, then by the longest wildcard (envoy.config.route.v3.VirtualHost)."""
    hosts = {domain: host for host in table.virtual_hosts for domain in host.domains}
    return next((hosts[domain] for domain in _domains(name) if domain in hosts), None)


def _domains(name: str) -> Iterator[str]:
    yield name
    labels = name.split(".")
    # A wildcard stands for one character at least.
    yield from ("*." + ".".join(labels[index:]) for index in range(1, len(labels)))
    yield "*"


def _fits(match: route.RouteMatch, request: Request) -> bool:
    return (
        _path_fits(match, request.path)
        and all(_header_fits(each, request) for each in match.headers)
        and all(_query_fits(each, request) for each in match.query_parameters)
    )


def _path_fits(match: route.RouteMatch, path: str) -> bool:
    if match.path is not None:
        return path == match.path
    if match.safe_regex is not None:
        return _expression_fits(match.safe_regex, path)
    if match.path_separated_prefix is not None:
        return path == match.path_separated_prefix or path.startswith(match.path_separated_prefix + "/")
    assert match.prefix is not None
    return path.startswith(match.prefix)


def _header_fits(match: route.HeaderMatcher, request: Request) -> bool:
    value = request.header(match.name)
    if match.present_match is not None:
        return (value is not None) != match.invert_match
    assert match.string_match is not None
    if value is None:
        if not match.treat_missing_header_as_empty:
            return False
        value = ""
    return _text_fits(match.string_match, value) != match.invert_match


def _query_fits(match: route.QueryParameterMatcher, request: Request) -> bool:
    assert match.string_match is not None
    value = request.query.get(match.name)
    return value is not None and _text_fits(match.string_match, value)


def _text_fits(match: matcher.StringMatcher, value: str) -> bool:
    if match.safe_regex is not None:
        return _expression_fits(match.safe_regex, value)
    if match.prefix is not None:
        return value.lower().startswith(match.prefix.lower()) if match.ignore_case else value.startswith(match.prefix)
    assert match.exact is not None
    return value == match.exact


def _expression_fits(match: matcher.RegexMatcher, value: str) -> bool:
    return re2.compile(match.regex.encode(), _RE2).fullmatch(value.encode()) is not None
