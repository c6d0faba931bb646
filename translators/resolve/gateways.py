"""World to meaning: what each Gateway serves, and how every object stands."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from resources import (
    BackendTrafficPolicy,
    ClientTrafficPolicy,
    EnvoyProxy,
    Gateway,
    GatewayClass,
    HTTPRoute,
    Key,
    World,
)
from translators import ir
from translators.resolve import declared
from translators.resolve.addresses import Addresses, address_problem, addresses_of
from translators.resolve.attachment import Attachment, Name, attach, parent_of
from translators.resolve.backends import Backends
from translators.resolve.index import Index, age
from translators.resolve.listeners import states_of
from translators.resolve.meaning import (
    GatewayState,
    ListenerState,
    Meaning,
    ParentState,
    PoolState,
    RouteState,
    SeatedPool,
)
from translators.resolve.parameters import ClassState, problem_of_gateway, proxy_of_gateway, state_of_class
from translators.resolve.parameters import notices as parameter_notices
from translators.resolve.policies import NOT_BUILT, states
from translators.resolve.pool_kinds import all_pools
from translators.resolve.pools import advice_on
from translators.resolve.ports import gateway_of
from translators.resolve.routes import is_refused, problems_of, rules_of
from translators.resolve.traffic import traffic_states
from translators.settings import Settings


def resolve(world: World, settings: Settings) -> Meaning:
    """Return the meaning of a World."""
    index = Index.of(world, picker_services=settings.picker_services)
    backends = Backends(index)
    classes = tuple(
        state_of_class(world, each, settings.bootstrap)
        for each in world.all(GatewayClass).values()
        if settings.controllers is None or each.spec.controller_name in settings.controllers
    )
    ours, notices = _gateways(world, classes, settings)
    rules = {route.key: rules_of(route, backends) for route in index.routes if _concerns(route, ours)}
    attachments: dict[Name, list[Attachment]] = {name: [] for name in ours}
    route_states = []
    for route in index.routes:
        if route.key not in rules:
            continue
        own = problems_of(rules[route.key])
        parents = []
        for each in attach(index, route, ours):
            attachments[each.gateway] += each.attachments
            parents.append(ParentState(each.ref, (*((each.problem,) if each.problem else ()), *own)))
        route_states.append(RouteState(route, tuple(parents)))
    addresses = addresses_of(ours.values()) if settings.deploys else {}
    by_name = {each.item.key.name: each for each in classes}
    gateways, gateway_states = [], []
    for name, gateway in ours.items():
        refusal = problem_of_gateway(world, gateway, by_name, settings.bootstrap)
        if settings.deploys:
            refusal = refusal or address_problem(gateway)
        listeners = states_of(index, gateway, refusal, settings)
        # What was made for a Gateway stays while it is refused as a whole, and its Envoys, if any, go on serving.
        serving = states_of(index, gateway, None, settings) if settings.deploys else listeners
        configured = [each for each in serving.values() if each.configured]
        gateways.append(gateway_of(index, gateway, configured, attachments[name], rules, backends, settings))
        proxy = proxy_of_gateway(world, gateway, by_name, settings.bootstrap)
        accepted = [each for each in attachments[name] if not is_refused(rules[each.route.key])]
        state = _state(gateway, listeners, accepted, refusal, proxy)
        gateway_states.append(replace(state, addresses=addresses.get(name, Addresses())))
        if proxy is not None and not settings.deploys:
            notices += parameter_notices(proxy)
    return Meaning(
        gateways=tuple(gateways),
        gateway_states=tuple(gateway_states),
        route_states=tuple(route_states),
        pool_states=_pool_states(world, backends, attachments),
        seated=tuple(_seated(world, backends)),
        declared_states=(*declared.states(index), *traffic_states(index)),
        policy_states=states(index),
        strays=tuple(_strays(index, settings)),
        classes=classes,
        notices=tuple(dict.fromkeys(notices)),
    )


def _gateways(world: World, classes: Iterable[ClassState], settings: Settings) -> tuple[dict[Name, Gateway], list[str]]:
    names = {each.item.key.name for each in classes}
    ours: dict[Name, Gateway] = {}
    notices = []
    for gateway in sorted(world.all(Gateway).values(), key=age):
        wanted = gateway.spec.gateway_class_name
        if wanted not in names:
            if settings.controllers is not None or world.get(GatewayClass, "", wanted) is not None:
                continue
            notices.append(f"{gateway.key}: GatewayClass {wanted} is not here; the Gateway is served all the same")
        if gateway.spec.addresses and not settings.deploys:
            notices.append(f"{gateway.key}: spec.addresses is not built yet; the installation chooses the address")
        ours[gateway.key.namespace, gateway.key.name] = gateway
    return ours, notices


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
    if settings.controllers is None:
        for route in index.routes:
            for number, ref in enumerate(route.spec.parent_refs):
                parent = parent_of(route, ref)
                if parent and index.world.get(Gateway, *parent) is None:
                    text = f"Gateway {'/'.join(parent)} does not exist"
                    yield route.key, ir.Problem("Accepted", "NoMatchingParent", text, f"spec.parentRefs[{number}]")


def _concerns(route: HTTPRoute, ours: Mapping[Name, Gateway]) -> bool:
    return any(parent_of(route, ref) in ours for ref in route.spec.parent_refs)


def _state(
    gateway: Gateway,
    listeners: Mapping[str, ListenerState],
    attachments: Iterable[Attachment],
    refusal: ir.Problem | None,
    proxy: EnvoyProxy | None,
) -> GatewayState:
    routes: dict[str, set[object]] = defaultdict(set)
    for each in attachments:
        routes[each.listener.name].add(each.route.key)
    counted = tuple(replace(each, attached=len(routes[name])) for name, each in listeners.items())
    found = tuple(dict.fromkeys(problem for each in counted for problem in each.problems))
    return GatewayState(gateway, found, counted, refusal, proxy)


def _seated(world: World, backends: Backends) -> Iterator[SeatedPool]:
    for pool in all_pools(world):
        found = backends.pool(pool)
        if isinstance(found, ir.Pool) and found.seat is not None:
            clusters = (found.cluster, *((found.prefill_cluster,) if found.split else ()))
            yield SeatedPool(pool, found, tuple(backends.assignments[cluster] for cluster in clusters))


def _pool_states(
    world: World, backends: Backends, attachments: Mapping[Name, Sequence[Attachment]]
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
