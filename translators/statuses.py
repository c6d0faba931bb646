"""Statuses: a second view of the meaning from which Envoy's resources are made.

Every condition starts good and a Problem that names it overrides it, so that no parent is left without a status. Times
are not here: whoever writes a status knows when a condition last changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from resources import GATEWAY_GROUP, InferencePool, Key
from translators import ir
from translators.controllers import CONTROLLER, principal_of
from translators.memo import Memo
from translators.resolve import hostnames
from translators.resolve.listeners import route_kinds
from translators.resolve.meaning import GatewayState, ListenerState, Meaning, PoolState, RouteState
from translators.resolve.policies import PolicyState
from translators.resolve.routes import PARTLY
from translators.settings import Settings
from translators.supported import FEATURES

Json = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Status:
    """What to write into an object's `status`."""

    key: Key
    body: Json


def of(meaning: Meaning, settings: Settings, memo: Memo) -> Iterator[Status]:
    """Yield the status of every object that has one."""
    for each in meaning.classes:
        found = tuple(problem for problem in (each.problem, each.version_problem) if problem)
        good = {"Accepted": "Accepted", **({"SupportedVersion": "SupportedVersion"} if each.versioned else {})}
        conditions = _conditions(each.item.metadata.generation, found, good=good)
        features = [{"name": name} for name in FEATURES]
        yield Status(each.item.key, {"conditions": conditions, "supportedFeatures": features})
    for gateway in meaning.gateway_states:
        yield Status(gateway.gateway.key, _gateway(gateway, settings))
    controllers = _controllers(meaning)
    yield from memo.place(_RouteStatuses).of(meaning.route_states, controllers)
    for pool in meaning.pool_states:
        yield Status(pool.pool.key, _pool(pool, controllers))
    for declared in meaning.declared_states:
        found = (declared.problem,) if declared.problem else ()
        generation = declared.object.metadata.generation
        conditions = _conditions(generation, found, good={"Accepted": "Accepted"})
        yield Status(declared.object.key, {"conditions": conditions})
    for policy in meaning.policy_states:
        yield Status(policy.policy.key, _policy(policy, controllers, principal_of(settings.controllers)))


def problems(meaning: Meaning) -> Iterator[str]:
    """Yield a line for each problem, naming the object and the field."""
    for state in meaning.classes:
        yield from _lines(state.item.key, (each for each in (state.problem, state.version_problem) if each))
    for gateway in meaning.gateway_states:
        yield from _lines(gateway.gateway.key, (*gateway.problems, *gateway.addresses.problems))
    for route in [each for each in meaning.route_states if each.problems]:
        yield from _lines(route.route.key, route.problems)
    for pool in meaning.pool_states:
        yield from _lines(pool.pool.key, pool.problems)
    for declared in meaning.declared_states:
        if declared.problem:
            yield from _lines(declared.object.key, (declared.problem,))
    for key, problem in meaning.strays:
        yield from _lines(key, (problem,))
    for policy in meaning.policy_states:
        yield from _lines(policy.policy.key, dict.fromkeys(policy.problems))


class _RouteStatuses:
    """The statuses of routes, kept from one translation to the next: one that is unchanged is the same object."""

    def __init__(self) -> None:
        self._controllers: Mapping[str, str] = {}
        self._states: tuple[RouteState, ...] = ()
        # By the identity of the states.
        self._known: dict[int, Status] = {}

    def of(self, states: tuple[RouteState, ...], controllers: Mapping[str, str]) -> Iterable[Status]:
        """Return the status of every route."""
        if controllers != self._controllers:
            self._controllers, self._known, self._states = controllers, {}, ()
        if states is not self._states:
            known = list(map(self._known.get, map(id, states)))
            found = [
                each if each is not None else Status(state.route.key, _route(state, controllers))
                for state, each in zip(states, known, strict=True)
            ]
            self._known, self._states = dict(zip(map(id, states), found, strict=True)), states
        return self._known.values()


def _lines(key: Key, found: Iterable[ir.Problem]) -> Iterator[str]:
    yield from (f"{key}: {problem}" for problem in found)


def _conditions(generation: int, found: Iterable[ir.Problem], *, good: Mapping[str, str]) -> list[Json]:
    """Return conditions that are True with the reason in `good`, unless a problem says otherwise.

    Advice is the message of the first condition, while that is True.
    """
    by_condition: dict[str, list[ir.Problem]] = {}
    for problem in found:
        by_condition.setdefault(problem.condition, []).append(problem)
    result: list[Json] = []
    advice = "; ".join(map(str, by_condition.get(ir.ADVICE, ())))
    for condition, reason in good.items():
        wrong = by_condition.get(condition)
        message = "" if result else advice
        result.append(
            {
                "type": condition,
                "status": "False" if wrong else "True",
                "reason": wrong[0].reason if wrong else reason,
                "message": "; ".join(map(str, wrong)) if wrong else message,
                "observedGeneration": generation,
            }
        )
    return result


def _gateway(state: GatewayState, settings: Settings) -> Json:
    gateway = state.gateway
    generation = gateway.metadata.generation
    name = f"{gateway.key.namespace}/{gateway.key.name}"
    served = [each for each in state.listeners if each.served]
    good = {"Accepted": "Accepted", "Programmed": "Programmed"}
    problems: list[ir.Problem] = []
    if state.refusal:
        problems = [state.refusal, ir.Problem("Programmed", "Invalid", str(state.refusal))]
    elif len(served) < len(state.listeners):
        names = ", ".join(each.listener.name for each in state.listeners if not each.served)
        text = f"not all listeners are valid: {names}"
        # Accepted while one listener is, and programmed while one is served (GatewayReasonListenersNotValid).
        if any(each.accepted for each in state.listeners):
            good["Accepted"] = "ListenersNotValid"
            problems.append(ir.Problem(ir.ADVICE, "ListenersNotValid", text))
        else:
            problems.append(ir.Problem("Accepted", "ListenersNotValid", text))
        if not served:
            problems.append(ir.Problem("Programmed", "Invalid", text))
    problems += state.addresses.problems
    addresses = dict.fromkeys(settings.place(name, each.listener.port).address for each in served)
    return {
        "addresses": [{"type": "IPAddress", "value": address} for address in addresses],
        "conditions": _conditions(generation, problems, good=good),
        "listeners": [_listener(each, state, generation) for each in state.listeners],
    }


def _listener(state: ListenerState, gateway: GatewayState, generation: int) -> Json:
    problems = [*state.problems]
    if not state.served:
        reasons = (each.reason for each in state.problems if each.reason in _CONFLICTS)
        text = "; ".join(str(each) for each in state.problems)
        problems.append(ir.Problem("Programmed", next(reasons, "Invalid"), text))
    conflict = next((each for each in state.problems if each.reason in _CONFLICTS), None)
    good = {"Accepted": "Accepted", "Programmed": "Programmed", "ResolvedRefs": "ResolvedRefs"}
    conditions = _conditions(generation, problems, good=good)
    conditions.append(_warning(generation, "Conflicted", conflict, absent="NoConflicts"))
    overlap = _overlap(state, gateway)
    if overlap is not None:
        # It must not be there where it is False (ListenerConditionOverlappingTLSConfig).
        conditions.append(_warning(generation, OVERLAPPING, overlap))
    return {
        "name": state.listener.name,
        "attachedRoutes": state.attached,
        "supportedKinds": [{"group": group, "kind": kind} for group, kind in route_kinds(state.listener)],
        "conditions": conditions,
    }


_CONFLICTS = ("ProtocolConflict", "HostnameConflict")
OVERLAPPING = "OverlappingTLSConfig"
"""The condition of a listener whose hostname meets that of another one with TLS on its port."""


def _overlap(state: ListenerState, gateway: GatewayState) -> ir.Problem | None:
    """Say which listeners could be taken for one another by clients that share connections among hosts."""
    own = state.listener
    if own.protocol != "HTTPS" or not state.accepted:
        return None
    others = [
        each.listener.name
        for each in gateway.listeners
        if each.accepted
        and each.listener is not own
        and (each.listener.port, each.listener.protocol) == (own.port, own.protocol)
        and hostnames.meet(own.hostname or hostnames.ANY, each.listener.hostname or hostnames.ANY)
    ]
    text = f"the hostname meets that of {', '.join(others)}; requests on another listener's connection get 421"
    return ir.Problem(OVERLAPPING, "OverlappingHostnames", text) if others else None


def _warning(generation: int, condition: str, problem: ir.Problem | None, *, absent: str = "") -> Json:
    """Return a condition that is True where something is wrong."""
    return {
        "type": condition,
        "status": "True" if problem else "False",
        "reason": problem.reason if problem else absent,
        "message": str(problem) if problem else "",
        "observedGeneration": generation,
    }


def _controllers(meaning: Meaning) -> Mapping[str, str]:
    """Return the controller of each Gateway, "namespace/name"."""
    classes = {each.item.key.name: each.item.spec.controller_name for each in meaning.classes}
    return {
        f"{state.gateway.key.namespace}/{state.gateway.key.name}": classes.get(
            state.gateway.spec.gateway_class_name, CONTROLLER
        )
        for state in meaning.gateway_states
    }


def _route(state: RouteState, controllers: Mapping[str, str]) -> Json:
    route = state.route
    parents = []
    for parent in state.parents:
        ref = parent.ref
        namespace = ref.namespace or route.key.namespace
        shown: dict[str, object] = {"group": ref.group, "kind": ref.kind, "namespace": namespace, "name": ref.name}
        if ref.section_name:
            shown["sectionName"] = ref.section_name
        if ref.port:
            shown["port"] = ref.port
        good = {"Accepted": "Accepted", "ResolvedRefs": "ResolvedRefs"}
        conditions = _conditions(route.metadata.generation, parent.problems, good=good)
        conditions += _partly(route.metadata.generation, parent.problems)
        controller = controllers[f"{namespace}/{ref.name}"]
        parents.append({"parentRef": shown, "controllerName": controller, "conditions": conditions})
    return {"parents": parents}


def _partly(generation: int, problems: Iterable[ir.Problem]) -> Iterator[Json]:
    """Yield the condition of a route that is accepted without some of its rules; elsewhere it must not be there."""
    by_condition: dict[str, list[ir.Problem]] = {}
    for problem in problems:
        by_condition.setdefault(problem.condition, []).append(problem)
    if PARTLY in by_condition and "Accepted" not in by_condition:
        # How the message begins is laid down (RouteConditionPartiallyInvalid).
        text = "Dropped Rule: " + "; ".join(map(str, by_condition[PARTLY]))
        yield _warning(generation, PARTLY, replace(by_condition[PARTLY][0], where="", message=text))


def _pool(state: PoolState, controllers: Mapping[str, str]) -> Json:
    pool = state.pool
    parents: list[Json] = []
    for parent in state.parents:
        namespace, name = parent.split("/")
        ref = {"group": GATEWAY_GROUP, "kind": "Gateway", "namespace": namespace, "name": name}
        # The older version of the API has no field for the controller, and an API server takes no other fields.
        by = {"controllerName": controllers[parent]} if isinstance(pool, InferencePool) else {}
        good = {"Accepted": "Accepted", "ResolvedRefs": "ResolvedRefs"}
        conditions = _conditions(pool.metadata.generation, state.problems, good=good)
        parents.append({"parentRef": ref, **by, "conditions": conditions})
    # The two versions of the API spell the list differently.
    return {"parents" if isinstance(pool, InferencePool) else "parent": parents}


def _policy(state: PolicyState, controllers: Mapping[str, str], principal: str) -> Json:
    policy = state.policy
    ancestors = []
    for number, (target, (_, problem)) in enumerate(zip(policy.spec.targets, state.targets, strict=True)):
        if number in state.of_others:
            continue
        namespace = policy.key.namespace
        ref: dict[str, object] = {
            "group": target.group,
            "kind": target.kind,
            "namespace": namespace,
            "name": target.name,
        }
        if target.section_name:
            ref["sectionName"] = target.section_name
        ancestors.append(
            {
                "ancestorRef": ref,
                "controllerName": (
                    controllers.get(f"{namespace}/{target.name}", principal) if target.kind == "Gateway" else principal
                ),
                "conditions": _conditions(
                    policy.metadata.generation, (problem,) if problem else (), good={"Accepted": "Accepted"}
                ),
            }
        )
    return {"ancestors": ancestors}
