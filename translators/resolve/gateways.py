"""World to meaning: which routes attach to which listeners, and what each port serves for each hostname."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from resources import (
    BackendTrafficPolicy,
    ClientTrafficPolicy,
    Gateway,
    GatewayClass,
    HTTPRoute,
    Key,
    Listener,
    Namespace,
    ParentReference,
    World,
)
from translators import ir
from translators.resolve import declared, hostnames
from translators.resolve.backends import Backends
from translators.resolve.declared import DeclaredState
from translators.resolve.index import Index, age
from translators.resolve.parameters import ClassState, problem_of_gateway, state_of_class
from translators.resolve.parameters import notices as parameter_notices
from translators.resolve.policies import (
    NOT_BUILT,
    ClientSettings,
    PolicyState,
    backend_settings,
    client_settings,
    states,
)
from translators.resolve.pool_kinds import AnyPool, all_pools
from translators.resolve.pools import advice_on
from translators.resolve.routes import Rule, precedence, routes_of, rules_of
from translators.resolve.traffic import traffic_states
from translators.settings import Settings

GATEWAY_GROUP = "gateway.networking.k8s.io"


@dataclass(frozen=True, slots=True)
class ListenerState:
    """A listener, its problems and the routes that attached to it."""

    listener: Listener
    problems: tuple[ir.Problem, ...]
    attached: int = 0

    @property
    def served(self) -> bool:
        """Whether requests can reach the listener."""
        return not _unserved(self.problems)


@dataclass(frozen=True, slots=True)
class GatewayState:
    """A Gateway that is ours. parameters: what is wrong with them, for which no listener is served."""

    gateway: Gateway
    problems: tuple[ir.Problem, ...]
    listeners: tuple[ListenerState, ...]
    parameters: ir.Problem | None


@dataclass(frozen=True, slots=True)
class ParentState:
    """How a route stands to one of its parents."""

    ref: ParentReference
    problems: tuple[ir.Problem, ...]


@dataclass(frozen=True, slots=True)
class RouteState:
    """A route with a parent that is ours."""

    route: HTTPRoute
    parents: tuple[ParentState, ...]


@dataclass(frozen=True, slots=True)
class PoolState:
    """An InferencePool, the Gateways with a route that refers to it ("namespace/name"), and its problems."""

    pool: AnyPool
    parents: tuple[str, ...]
    problems: tuple[ir.Problem, ...]


@dataclass(frozen=True, slots=True)
class Meaning:
    """Everything that a World means: what is served, and how every object stands.

    strays: objects that are attached to nothing, and so have no status to say why.
    """

    gateways: tuple[ir.Gateway, ...]
    gateway_states: tuple[GatewayState, ...]
    route_states: tuple[RouteState, ...]
    pool_states: tuple[PoolState, ...]
    declared_states: tuple[DeclaredState, ...]
    policy_states: tuple[PolicyState, ...]
    strays: tuple[tuple[Key, ir.Problem], ...]
    classes: tuple[ClassState, ...]
    notices: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Attachment:
    """own: the hostname of the route, of which `hostname` is what the listener serves."""

    listener: Listener
    hostname: str
    own: str
    route: HTTPRoute


def resolve(world: World, settings: Settings) -> Meaning:
    """Return the meaning of a World."""
    index = Index.of(world)
    backends = Backends(index)
    classes = tuple(
        state_of_class(world, each)
        for each in world.all(GatewayClass).values()
        if settings.controller in {None, each.spec.controller_name}
    )
    ours, notices = _gateways(world, classes, settings)
    rules = {route.key: rules_of(route, backends) for route in index.routes if _concerns(route, ours)}
    attachments: dict[tuple[str, str], list[_Attachment]] = {name: [] for name in ours}
    by_name = {each.item.key.name: each for each in classes}
    parameters = {name: problem_of_gateway(world, gateway, by_name) for name, gateway in ours.items()}
    listeners = {name: _listener_states(gateway, parameters[name]) for name, gateway in ours.items()}
    route_states = tuple(
        RouteState(route, _attach(index, route, rules[route.key], ours, listeners, attachments))
        for route in index.routes
        if route.key in rules
    )
    gateways, gateway_states = [], []
    for name, gateway in ours.items():
        meaning = _gateway(index, gateway, listeners[name], attachments[name], rules, backends, settings)
        gateways.append(meaning)
        gateway_states.append(_state(gateway, listeners[name], attachments[name], parameters[name]))
        notices += parameter_notices(world, gateway, by_name)
    return Meaning(
        gateways=tuple(gateways),
        gateway_states=tuple(gateway_states),
        route_states=route_states,
        pool_states=_pool_states(world, backends, attachments),
        declared_states=(*declared.states(index), *traffic_states(index)),
        policy_states=states(index),
        strays=tuple(_strays(index, settings)),
        classes=classes,
        notices=tuple(dict.fromkeys(notices)),
    )


def _gateways(
    world: World, classes: Iterable[ClassState], settings: Settings
) -> tuple[dict[tuple[str, str], Gateway], list[str]]:
    names = {each.item.key.name for each in classes}
    ours: dict[tuple[str, str], Gateway] = {}
    notices = []
    for gateway in sorted(world.all(Gateway).values(), key=age):
        wanted = gateway.spec.gateway_class_name
        if wanted not in names:
            if settings.controller is not None or world.get(GatewayClass, "", wanted) is not None:
                continue
            notices.append(f"{gateway.key}: GatewayClass {wanted} is not here; the Gateway is served all the same")
        if gateway.spec.addresses:
            notices.append(f"{gateway.key}: spec.addresses is not built yet; the installation chooses the address")
        ours[gateway.key.namespace, gateway.key.name] = gateway
    return ours, notices


def _listener_states(gateway: Gateway, parameters: ir.Problem | None) -> dict[str, tuple[ir.Problem, ...]]:
    result: dict[str, tuple[ir.Problem, ...]] = {}
    protocols: dict[int, str] = {}
    unbuilt = [*gateway.unbuilt]
    for number, listener in enumerate(gateway.spec.listeners):
        where = f"spec.listeners[{number}]"
        problems = [parameters] if parameters else []
        if listener.protocol != "HTTP":
            text = f"protocol {listener.protocol} {NOT_BUILT}; only HTTP is"
            problems.append(ir.Problem("Accepted", "UnsupportedProtocol", text, f"{where}.protocol"))
        elif protocols.setdefault(listener.port, listener.protocol) != listener.protocol:
            problems.append(ir.Problem("Accepted", "ProtocolConflict", "another listener of the port", where))
        problems += [
            ir.Problem("Accepted", "UnsupportedValue", NOT_BUILT, path)
            for path in unbuilt
            if path.startswith(f"{where}.") or not path.startswith("spec.listeners[")
        ]
        kinds = listener.allowed_routes.kinds
        for each, kind in enumerate(kinds):
            if (kind.group, kind.kind) != (GATEWAY_GROUP, "HTTPRoute"):
                field = f"{where}.allowedRoutes.kinds[{each}]"
                text = f"routes of kind {kind.kind} are not supported"
                problems.append(ir.Problem("ResolvedRefs", "InvalidRouteKinds", text, field))
        result[listener.name] = tuple(problems)
    return result


def _parent(route: HTTPRoute, ref: ParentReference) -> tuple[str, str] | None:
    if (ref.group, ref.kind) != (GATEWAY_GROUP, "Gateway"):
        return None
    return (ref.namespace or route.key.namespace, ref.name)


def _strays(index: Index, settings: Settings) -> Iterator[tuple[Key, ir.Problem]]:
    policies: list[ClientTrafficPolicy | BackendTrafficPolicy] = [
        *index.world.all(ClientTrafficPolicy).values(),
        *index.world.all(BackendTrafficPolicy).values(),
    ]
    for policy in policies:
        if not policy.spec.targets:
            unbuilt = f": {', '.join(policy.unbuilt)} {NOT_BUILT}" if policy.unbuilt else ""
            text = f"the policy has no target{unbuilt}"
            yield policy.key, ir.Problem("Accepted", "TargetNotFound", text, "spec.targetRefs")
    # Only in a folder is every Gateway that there is to be seen.
    if settings.controller is None:
        for route in index.routes:
            for number, ref in enumerate(route.spec.parent_refs):
                parent = _parent(route, ref)
                if parent and index.world.get(Gateway, *parent) is None:
                    text = f"Gateway {'/'.join(parent)} does not exist"
                    yield route.key, ir.Problem("Accepted", "NoMatchingParent", text, f"spec.parentRefs[{number}]")


def _concerns(route: HTTPRoute, ours: Mapping[tuple[str, str], Gateway]) -> bool:
    return any(_parent(route, ref) in ours for ref in route.spec.parent_refs)


def _attach(
    index: Index,
    route: HTTPRoute,
    rules: Sequence[Rule],
    ours: Mapping[tuple[str, str], Gateway],
    listeners: Mapping[tuple[str, str], Mapping[str, tuple[ir.Problem, ...]]],
    attachments: Mapping[tuple[str, str], list[_Attachment]],
) -> tuple[ParentState, ...]:
    own = tuple(problem for rule in rules for problem in rule.problems)
    result = []
    for number, ref in enumerate(route.spec.parent_refs):
        name = _parent(route, ref)
        if name is None or name not in ours:
            continue
        gateway = ours[name]
        found, problem = _listeners_for(index, gateway, listeners[name], route, ref, f"spec.parentRefs[{number}]")
        known = {(each.listener.name, each.own) for each in attachments[name] if each.route is route}
        attachments[name].extend(each for each in found if (each.listener.name, each.own) not in known)
        result.append(ParentState(ref, (*((problem,) if problem else ()), *own)))
    return tuple(result)


def _listeners_for(
    index: Index,
    gateway: Gateway,
    problems: Mapping[str, tuple[ir.Problem, ...]],
    route: HTTPRoute,
    ref: ParentReference,
    where: str,
) -> tuple[list[_Attachment], ir.Problem | None]:
    named = [
        each
        for each in gateway.spec.listeners
        if ref.section_name in {None, each.name} and ref.port in {None, each.port}
    ]
    if not named:
        text = f"{gateway.key} has no listener {ref.section_name or ''}{f' on port {ref.port}' if ref.port else ''}"
        return [], ir.Problem("Accepted", "NoMatchingParent", text.replace("  ", " "), where)
    allowed = [each for each in named if _allows(index, gateway, each, route)]
    if not allowed:
        text = f"{gateway.key} allows no route of namespace {route.key.namespace} on {_names(named)}"
        return [], ir.Problem("Accepted", "NotAllowedByListeners", text, where)
    found: list[_Attachment] = []
    for listener in allowed:
        found += [
            _Attachment(listener, both, hostname, route)
            for hostname in route.spec.hostnames or (hostnames.ANY,)
            if (both := hostnames.meet(listener.hostname or hostnames.ANY, hostname))
        ]
    if not found:
        text = f"none of the route's hostnames is served by {gateway.key}, {_names(allowed)}"
        return [], ir.Problem("Accepted", "NoMatchingListenerHostname", text, "spec.hostnames")
    served = [each for each in found if not _unserved(problems[each.listener.name])]
    return served, None


def _unserved(problems: Iterable[ir.Problem]) -> bool:
    return any(problem.condition == "Accepted" for problem in problems)


def _names(listeners: Iterable[Listener]) -> str:
    return "listener " + ", ".join(each.name for each in listeners)


def _allows(index: Index, gateway: Gateway, listener: Listener, route: HTTPRoute) -> bool:
    kinds = listener.allowed_routes.kinds
    if kinds and not any((kind.group, kind.kind) == (GATEWAY_GROUP, "HTTPRoute") for kind in kinds):
        return False
    rule = listener.allowed_routes.namespaces
    namespace = route.key.namespace
    if rule.from_ == "Same":
        return namespace == gateway.key.namespace
    if rule.from_ == "All":
        return True
    known = index.world.get(Namespace, "", namespace)
    # Every namespace bears its name as a label, whether or not a folder says so (core/v1, Namespace).
    labels = {"kubernetes.io/metadata.name": namespace, **(known.metadata.labels if known else {})}
    return rule.selector is not None and rule.selector.matches(labels)


def _gateway(
    index: Index,
    gateway: Gateway,
    problems: Mapping[str, tuple[ir.Problem, ...]],
    attachments: Sequence[_Attachment],
    rules: Mapping[Key, Sequence[Rule]],
    backends: Backends,
    settings: Settings,
) -> ir.Gateway:
    name = f"{gateway.key.namespace}/{gateway.key.name}"
    by_port: dict[int, list[Listener]] = defaultdict(list)
    for listener in gateway.spec.listeners:
        if not _unserved(problems[listener.name]):
            by_port[listener.port].append(listener)
    ports = []
    used: dict[str, ir.Backend] = {}
    mirrored: dict[str, ir.Backend] = {}
    for number, listeners in by_port.items():
        clients = [client_settings(index, gateway, each) for each in listeners]
        here = [each for each in attachments if each.listener in listeners]
        hosts = _hosts(index, gateway, listeners, clients, here, rules)
        for host in hosts:
            for route in host.routes:
                used |= {share.backend.cluster: share.backend for share in route.backends if share.backend}
                mirrored |= {mirror.backend.cluster: mirror.backend for mirror in route.mirrors}
        limits = [client.buffer_limit for client in clients if client.buffer_limit is not None]
        ports.append(
            ir.Port(
                number=number,
                placement=settings.place(name, number),
                origin=str(gateway.key),
                buffer_limit=limits[0] if limits else None,
                hosts=hosts,
            )
        )
    used |= mirrored
    pools = [backend for backend in used.values() if isinstance(backend, ir.Pool)]
    pickers = {pool.picker.cluster: pool.picker for pool in pools if pool.picker}
    prefill = {pool.prefill_cluster for pool in pools if pool.split}
    return ir.Gateway(
        name=name,
        origin=str(gateway.key),
        ports=tuple(ports),
        backends=tuple(used[cluster] for cluster in sorted(used)),
        mirrored=tuple(mirrored[cluster] for cluster in sorted(mirrored)),
        pickers=tuple(pickers[cluster] for cluster in sorted(pickers)),
        assignments=tuple(backends.assignments[cluster] for cluster in sorted({*used, *pickers, *prefill})),
    )


def _hosts(
    index: Index,
    gateway: Gateway,
    listeners: Sequence[Listener],
    clients: Sequence[ClientSettings],
    attachments: Sequence[_Attachment],
    rules: Mapping[Key, Sequence[Rule]],
) -> tuple[ir.VirtualHost, ...]:
    """Return what a port serves for each hostname.

    A request belongs to the listener with the most specific hostname, whether or not that listener has a route for it
    (Gateway API, listener isolation). Within it the routes that name the host most specifically come first, whatever
    their paths are (HTTPRouteSpec.hostnames), then all others that cover the hostname.
    """
    refusals = {listener.name: client.refusal for listener, client in zip(listeners, clients, strict=True)}
    own = {listener.name: listener.hostname or hostnames.ANY for listener in listeners}
    names = sorted(
        {*own.values(), *(each.hostname for each in attachments)},
        key=lambda name: (hostnames.specificity(name), name),
        reverse=True,
    )
    result = []
    for hostname in names:
        owners = [each for each in listeners if hostnames.covers(own[each.name], hostname)]
        owner = max(owners, key=lambda each: hostnames.specificity(own[each.name]))
        routes: list[tuple[tuple[bool, int], ir.Route]] = []
        for each in attachments:
            if each.listener is not owner or not hostnames.covers(each.hostname, hostname):
                continue
            policies = [
                backend_settings(index, gateway, owner, each.route, rule.name) for rule in rules[each.route.key]
            ]
            rank = hostnames.specificity(each.own)
            refusal = refusals[owner.name]
            routes += [
                (rank, _refuse(route, refusal)) for route in routes_of(each.route, rules[each.route.key], policies)
            ]
        routes.sort(key=lambda entry: ((not entry[0][0], -entry[0][1]), precedence(entry[1])))
        unique = dict.fromkeys(route for _, route in routes)
        result.append(ir.VirtualHost(hostname, tuple(unique)))
    return tuple(result)


def _refuse(route: ir.Route, refusal: str) -> ir.Route:
    if not refusal or route.refusal:
        return route
    return replace(route, refusal=refusal)


def _state(
    gateway: Gateway,
    problems: Mapping[str, tuple[ir.Problem, ...]],
    attachments: Iterable[_Attachment],
    parameters: ir.Problem | None,
) -> GatewayState:
    routes: dict[str, set[object]] = defaultdict(set)
    for each in attachments:
        routes[each.listener.name].add(each.route.key)
    listeners = tuple(
        ListenerState(each, problems[each.name], len(routes[each.name])) for each in gateway.spec.listeners
    )
    found = tuple(dict.fromkeys(problem for each in listeners for problem in each.problems))
    return GatewayState(gateway, found, listeners, parameters)


def _pool_states(
    world: World, backends: Backends, attachments: Mapping[tuple[str, str], Sequence[_Attachment]]
) -> tuple[PoolState, ...]:
    users: dict[Key, list[str]] = defaultdict(list)
    for (namespace, name), attached in attachments.items():
        routes = {each.route.key: each.route for each in attached}.values()
        for key in dict.fromkeys(key for route in routes for key in backends.pools_meant(route)):
            users[key].append(f"{namespace}/{name}")
    result = []
    for pool in all_pools(world):
        found = backends.pool(pool)
        problems = (found,) if isinstance(found, ir.Problem) else advice_on(pool)
        result.append(PoolState(pool, tuple(users.get(pool.key, ())), problems))
    return tuple(result)
