"""What resolving a World gives: what each Gateway serves, and how every object stands."""

from __future__ import annotations

from dataclasses import dataclass, field

from resources import EnvoyProxy, Gateway, HTTPRoute, Key, Listener, ParentReference
from translators import ir
from translators.resolve.addresses import Addresses
from translators.resolve.certificates import Certificates
from translators.resolve.declared import DeclaredState
from translators.resolve.parameters import ClassState
from translators.resolve.policies import PolicyState
from translators.resolve.pool_kinds import AnyPool


@dataclass(frozen=True, slots=True)
class ListenerState:
    """A listener, its problems, its certificates and the number of routes that attached to it."""

    listener: Listener
    problems: tuple[ir.Problem, ...]
    certificates: Certificates = Certificates()  # noqa: RUF009 - it is immutable
    attached: int = 0

    @property
    def accepted(self) -> bool:
        """Whether nothing about the listener itself keeps it from being served."""
        return not any(problem.condition == "Accepted" for problem in self.problems)

    @property
    def configured(self) -> bool:
        """Whether Envoy is told of the listener."""
        return self.accepted and (self.listener.protocol != "HTTPS" or bool(self.certificates.names))

    @property
    def served(self) -> bool:
        """Whether requests can reach the listener."""
        return self.accepted and (self.listener.protocol != "HTTPS" or bool(self.certificates.found))


@dataclass(frozen=True, slots=True)
class GatewayState:
    """A Gateway that is ours.

    refusal: what is wrong with it as a whole, for which no listener is accepted. proxy: its parameters, where right.
    """

    gateway: Gateway
    problems: tuple[ir.Problem, ...]
    listeners: tuple[ListenerState, ...]
    refusal: ir.Problem | None
    proxy: EnvoyProxy | None
    addresses: Addresses = Addresses()  # noqa: RUF009 - it is immutable


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
    # Those of all parents, each once.
    problems: tuple[ir.Problem, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        found = dict.fromkeys(problem for parent in self.parents for problem in parent.problems)
        object.__setattr__(self, "problems", tuple(found))


@dataclass(frozen=True, slots=True)
class PoolState:
    """An InferencePool, the Gateways with a route that refers to it ("namespace/name"), and its problems."""

    pool: AnyPool
    parents: tuple[str, ...]
    problems: tuple[ir.Problem, ...]


@dataclass(frozen=True, slots=True)
class SeatedPool:
    """A pool of our own picker where that has a Service, whether or not a route leads to it; and its endpoints.

    controller: the controllerName that the picker is made for.
    """

    pool: AnyPool
    meaning: ir.Pool
    assignments: tuple[ir.Assignment, ...]
    controller: str = ""


@dataclass(frozen=True, slots=True)
class SharedState:
    """A GatewayClass whose Gateways share Envoys, and its Gateways, the oldest first."""

    of: ClassState
    part: str
    gateways: tuple[GatewayState, ...]


@dataclass(frozen=True, slots=True)
class Meaning:
    """Everything that a World means: what is served, and how every object stands.

    gateways: what each Gateway serves. parts: the same by the Envoys that serve it, which some Gateways share; shared:
    those Gateways.
    strays: objects that are attached to nothing, and so have no status to say why.
    """

    gateways: tuple[ir.Gateway, ...]
    parts: tuple[ir.Gateway, ...]
    shared: tuple[SharedState, ...]
    gateway_states: tuple[GatewayState, ...]
    route_states: tuple[RouteState, ...]
    pool_states: tuple[PoolState, ...]
    seated: tuple[SeatedPool, ...]
    declared_states: tuple[DeclaredState, ...]
    policy_states: tuple[PolicyState, ...]
    strays: tuple[tuple[Key, ir.Problem], ...]
    classes: tuple[ClassState, ...]
    notices: tuple[str, ...]
