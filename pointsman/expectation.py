"""Which requests a folder's manifests invite, and which pods may answer them.

Read off the HTTPRoutes by the Gateway API's words alone, without the translator: `demo` compares what the gateway
really did with what is expected here.  Pure.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from resources import (
    Gateway,
    HTTPRoute,
    HTTPRouteMatch,
    HTTPRouteRule,
    InferenceModel,
    InferencePool,
    Listener,
    Pod,
    World,
    XInferencePool,
)

CHAT = "/v1/chat/completions"
_MODEL_HEADER = "x-gateway-model-name"

# namespace and name
Name = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Case:
    """A request for `model` on one listener, the rule that takes it, and the pods (by name) of the rule's pools."""

    gateway: str
    listener: str
    host: str | None
    headers: tuple[tuple[str, str], ...]
    model: str
    rule: str
    pools: frozenset[str]
    pods: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Entry:
    """One match of one rule of a route, for one hostname of a listener."""

    hostname: str
    route: HTTPRoute
    index: int
    rule: HTTPRouteRule
    match: HTTPRouteMatch

    @property
    def models(self) -> list[str]:
        """The models that the match asks for by name."""
        return [each.value for each in self.match.headers if _is_model(each.name) and each.type == "Exact"]

    def precedence(self) -> tuple[object, ...]:
        """Sort first what wins (Gateway API, HTTPRouteRule.matches)."""
        created = self.route.metadata.creation_timestamp
        return (
            "*" in self.hostname,
            -len(self.hostname),
            self.match.path.type != "Exact",
            -len(self.match.path.value),
            self.match.method is None,
            -len(self.match.headers),
            -len(self.match.query_params),
            0.0 if created is None else created.timestamp(),
            (self.route.key.namespace, self.route.key.name),
            self.index,
        )


def cases(world: World) -> Iterator[Case]:
    """Yield a case for each model that can be asked for by a chat completion on each listener's hostnames."""
    for (namespace, name), gateway in world.all(Gateway).items():
        for listener in gateway.spec.listeners:
            entries = sorted(_entries(world, (namespace, name), listener), key=_Entry.precedence)
            seen: set[tuple[str, str]] = set()
            for entry in entries:
                for model in dict.fromkeys([*entry.models, *_declared(world, entry)]):
                    found = _case(world, f"{namespace}/{name}", listener, entry, model, entries)
                    if found is not None and (entry.hostname, model) not in seen:
                        seen.add((entry.hostname, model))
                        yield found


def pods_of(world: World, pool: Name) -> frozenset[str]:
    """Return the names of the pods that a pool selects."""
    stable, experimental = world.get(InferencePool, *pool), world.get(XInferencePool, *pool)
    if stable is not None:
        wanted = stable.spec.selector.match_labels
    elif experimental is not None:
        wanted = experimental.spec.selector
    else:
        return frozenset()
    return frozenset(
        name
        for (namespace, name), pod in world.all(Pod).items()
        if namespace == pool[0] and wanted.items() <= pod.metadata.labels.items()
    )


def _case(
    world: World, gateway: str, listener: Listener, entry: _Entry, model: str, entries: list[_Entry]
) -> Case | None:
    host = None if entry.hostname == "*" else entry.hostname.replace("*", "any", 1)
    headers = tuple(
        (each.name, each.value) for each in entry.match.headers if not _is_model(each.name) and each.type == "Exact"
    )
    winner = next((each for each in entries if _takes(each, host, headers, model)), None)
    if winner is None:
        return None
    pools = _pools(winner)
    if len(pools) < len(winner.rule.backend_refs) or winner.rule.filters:
        return None  # a share goes elsewhere: no pod of a pool need have served it
    return Case(
        gateway=gateway,
        listener=listener.name,
        host=host,
        headers=headers,
        model=model,
        rule=f"{winner.route.key.namespace}/{winner.route.key.name} rule {winner.index}",
        pools=frozenset(f"{namespace}/{name}" for namespace, name in pools),
        pods=frozenset().union(*(pods_of(world, pool) for pool in pools)),
    )


def _entries(world: World, gateway: Name, listener: Listener) -> Iterator[_Entry]:
    for route in world.all(HTTPRoute).values():
        if not _is_attached(route, gateway, listener):
            continue
        for hostname in _hostnames(listener.hostname or "*", route.spec.hostnames or ("*",)):
            for index, rule in enumerate(route.spec.rules):
                for match in rule.matches:
                    yield _Entry(hostname, route, index, rule, match)


def _is_attached(route: HTTPRoute, gateway: Name, listener: Listener) -> bool:
    return any(
        parent.kind == "Gateway"
        and (parent.namespace or route.key.namespace, parent.name) == gateway
        and parent.section_name in {None, listener.name}
        and parent.port in {None, listener.port}
        for parent in route.spec.parent_refs
    )


def _hostnames(of_listener: str, of_route: tuple[str, ...]) -> Iterator[str]:
    """Yield the hostnames that both serve: the more special of each pair that fits."""
    for hostname in of_route:
        if _covers(of_listener, hostname):
            yield hostname
        elif _covers(hostname, of_listener):
            yield of_listener


def _covers(pattern: str, hostname: str) -> bool:
    return pattern in {"*", hostname} or (pattern.startswith("*.") and hostname.endswith(pattern[1:]))


def _takes(entry: _Entry, host: str | None, headers: tuple[tuple[str, str], ...], model: str) -> bool:
    match = entry.match
    sent = {name.lower(): value for name, value in headers} | {_MODEL_HEADER: model}
    path = match.path.value.rstrip("/")
    return (
        (entry.hostname == "*" or (host is not None and _covers(entry.hostname, host)))
        and match.method in {None, "POST"}
        and not match.query_params
        and all(each.type == "Exact" and sent.get(each.name.lower()) == each.value for each in match.headers)
        and (match.path.value == CHAT if match.path.type == "Exact" else (CHAT + "/").startswith(path + "/"))
        and match.path.type != "RegularExpression"
    )


def _pools(entry: _Entry) -> list[Name]:
    return [
        (each.namespace or entry.route.key.namespace, each.name)
        for each in entry.rule.backend_refs
        if each.kind == "InferencePool"
    ]


def _declared(world: World, entry: _Entry) -> Iterator[str]:
    """Yield the models that InferenceModels declare for the pools of a rule that asks for no model."""
    if any(_is_model(each.name) for each in entry.match.headers):
        return
    pools = _pools(entry)
    for (namespace, _), model in world.all(InferenceModel).items():
        if (namespace, model.spec.pool_ref.name) in pools:
            yield model.spec.model_name


def _is_model(name: str) -> bool:
    return name.lower() == _MODEL_HEADER
