"""World to meaning: what each Gateway serves, and how every object stands."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from resources import BackendTrafficPolicy, ClientTrafficPolicy, Gateway, GatewayClass, Key, World
from translators import ir
from translators.controllers import gateways_of, principal_of
from translators.memo import Memo
from translators.parts import part_of_class
from translators.resolve import declared
from translators.resolve.addresses import Addresses, address_problem, addresses_of
from translators.resolve.backends import Backends
from translators.resolve.index import Index, age
from translators.resolve.listeners import states_of
from translators.resolve.meaning import GatewayState, Meaning, PoolState, SeatedPool, SharedState
from translators.resolve.merging import Claims, Member, merged, with_conflicts
from translators.resolve.parameters import ClassState, problem_of_gateway, proxy_of_gateway, state_of_class
from translators.resolve.parameters import notices as parameter_notices
from translators.resolve.parents import Name
from translators.resolve.pickers import is_picked_for_by_another
from translators.resolve.policies import NOT_BUILT, states
from translators.resolve.pool_kinds import all_pools
from translators.resolve.ports import gateway_of
from translators.resolve.resolved import ResolvedRoute
from translators.resolve.route_book import RouteBook
from translators.resolve.traffic import traffic_states
from translators.settings import Settings


def resolve(world: World, settings: Settings, memo: Memo) -> Meaning:
    """Return the meaning of a World."""
    book = memo.place(RouteBook)
    index, backends = book.index_of(world, picker_services=settings.picker_services, controllers=settings.controllers)
    classes = tuple(
        state_of_class(world, each, settings)
        for each in world.all(GatewayClass).values()
        if settings.controllers is None or each.spec.controller_name in settings.controllers
    )
    ours, notices = _gateways(world, settings)
    book.turn(index, backends, ours)
    by_name = {each.item.key.name: each for each in classes}
    sharing = {name for name, each in by_name.items() if each.merges}
    addresses = addresses_of(ours.values(), sharing) if settings.deploys else {}
    gateways, gateway_states = [], []
    claims = {name: Claims() for name in sorted(sharing)}
    members: dict[str, list[Member]] = {name: [] for name in claims}
    for name, gateway in ours.items():
        refusal = problem_of_gateway(world, gateway, by_name, settings)
        if settings.deploys:
            refusal = refusal or address_problem(gateway)
        listeners = states_of(index, gateway, refusal, settings)
        # What was made for a Gateway stays while it is refused as a whole, and its Envoys, if any, go on serving.
        serving = states_of(index, gateway, None, settings) if settings.deploys else listeners
        shares = claims.get(gateway.spec.gateway_class_name)
        if shares is not None:
            conflicts = shares.conflicts_of(gateway, serving.values())
            listeners, serving = with_conflicts(listeners, conflicts), with_conflicts(serving, conflicts)
        configured = [each for each in serving.values() if each.configured]
        gateways.append(gateway_of(index, gateway, configured, book, backends, settings, memo))
        if shares is not None:
            member = Member(gateway, gateways[-1], tuple(configured))
            members[gateway.spec.gateway_class_name].append(member)
        proxy = proxy_of_gateway(world, gateway, by_name, settings)
        attached = tuple(replace(each, attached=book.counted[name, of]) for of, each in listeners.items())
        found = tuple(dict.fromkeys(problem for each in attached for problem in each.problems))
        places = addresses.get(name, Addresses())
        gateway_states.append(GatewayState(gateway, found, attached, refusal, proxy, places))
        if proxy is not None and not settings.deploys:
            notices += parameter_notices(proxy)
    strange = _strange(book.routes, ours, index.others)
    pool_states = _pool_states(index, backends, book.routes, ours, strange)
    names = {f"{state.gateway.key.namespace}/{state.gateway.key.name}": _class_of(state) for state in gateway_states}
    controllers = {
        name: by_name[of].item.spec.controller_name if of in by_name else principal_of(settings.controllers)
        for name, of in names.items()
    }
    reached = {each.pool.key: [controllers[name] for name in each.parents] for each in pool_states if each.parents}
    alone = [each for each, state in zip(gateways, gateway_states, strict=True) if _class_of(state) not in claims]
    return Meaning(
        gateways=tuple(gateways),
        parts=(*alone, *(merged(by_name[name].item.key, found, settings) for name, found in members.items() if found)),
        shared=tuple(_shared(by_name[name], gateway_states) for name in claims),
        gateway_states=tuple(gateway_states),
        route_states=book.states,
        pool_states=pool_states,
        seated=tuple(_seated(world, backends, strange, reached, principal_of(settings.controllers))),
        declared_states=(*declared.states(index), *traffic_states(index)),
        policy_states=states(index),
        strays=tuple(_strays(index, book.orphans, settings)),
        classes=classes,
        notices=tuple(dict.fromkeys(notices)),
    )


def _class_of(state: GatewayState) -> str:
    return state.gateway.spec.gateway_class_name


def _shared(of: ClassState, states: Iterable[GatewayState]) -> SharedState:
    name = of.item.key.name
    return SharedState(of, part_of_class(name), tuple(each for each in states if _class_of(each) == name))


def _gateways(world: World, settings: Settings) -> tuple[dict[Name, Gateway], list[str]]:
    ours: dict[Name, Gateway] = {}
    notices = []
    for gateway in sorted(gateways_of(world, settings.controllers), key=age):
        wanted = gateway.spec.gateway_class_name
        if world.get(GatewayClass, "", wanted) is None:
            notices.append(f"{gateway.key}: GatewayClass {wanted} is not here; the Gateway is served all the same")
        if gateway.spec.addresses and not settings.deploys:
            notices.append(f"{gateway.key}: spec.addresses is not built yet; the installation chooses the address")
        ours[gateway.key.namespace, gateway.key.name] = gateway
    return ours, notices


def _strays(index: Index, orphans: Iterable[ResolvedRoute], settings: Settings) -> Iterator[tuple[Key, ir.Problem]]:
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
        for route in orphans:
            yield from ((route.route.key, problem) for problem in route.orphan)


def _strange(routes: Iterable[ResolvedRoute], ours: Mapping[Name, Gateway], others: frozenset[Name]) -> frozenset[Key]:
    """Return the pools that routes of other controllers' Gateways refer to, and none of a Gateway of ours."""
    if not others:
        return frozenset()
    theirs: set[Key] = set()
    reached: set[Key] = set()
    for route in routes:
        if route.pools:
            if any(name in ours for name in route.parents):
                reached.update(route.pools)
            elif not others.isdisjoint(route.parents):
                theirs.update(route.pools)
    return frozenset(theirs - reached)


def _seated(
    world: World, backends: Backends, strange: frozenset[Key], reached: Mapping[Key, Iterable[str]], principal: str
) -> Iterator[SeatedPool]:
    for pool in all_pools(world):
        if pool.key in strange:
            continue
        found = backends.pool(pool)
        if isinstance(found, ir.Pool) and found.seat is not None:
            clusters = (found.cluster, *((found.prefill_cluster,) if found.split else ()))
            assignments = tuple(backends.assignments[cluster] for cluster in clusters)
            yield SeatedPool(pool, found, assignments, min(reached.get(pool.key, (principal,))))


def _pool_states(
    index: Index,
    backends: Backends,
    routes: Iterable[ResolvedRoute],
    ours: Iterable[Name],
    strange: frozenset[Key],
) -> tuple[PoolState, ...]:
    users: dict[Key, set[Name]] = defaultdict(set)
    for route in routes:
        for key in route.pools:
            users[key].update(route.gateways)
    result = []
    for pool in all_pools(index.world):
        found = backends.pool(pool)
        said = backends.annotations_of(pool).problems
        problems: tuple[ir.Problem, ...] = (found,) if isinstance(found, ir.Problem) else said
        used_by = users[pool.key]
        parents = tuple("/".join(name) for name in ours if name in used_by)
        if pool.key in strange or (not parents and is_picked_for_by_another(index, pool)):
            problems = ()
        result.append(PoolState(pool, parents, problems))
    return tuple(result)
