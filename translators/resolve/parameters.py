"""The parameters of Gateways and their classes: Envoy Gateway's EnvoyProxy.

Most of it says how Envoy is deployed, which is decided elsewhere here; what it says of requests is not built, and a
Gateway that asks for it is not accepted rather than served otherwise than asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from resources import ENVOY_GATEWAY_GROUP, EnvoyProxy, Gateway, GatewayClass, LocalParametersReference, World
from translators import ir
from translators.infrastructure.bootstrap import bootstrap_fault
from translators.resolve.versions import is_told, version_problem
from translators.settings import Settings

_ON_CLASS = "spec.parametersRef"
_ON_GATEWAY = "spec.infrastructure.parametersRef"


@dataclass(frozen=True, slots=True)
class ClassState:
    """A GatewayClass that is ours, and its problem.

    versioned: whether the definitions of the API are to be seen; version_problem: what is wrong with their versions.
    merges: whether its Gateways share Envoys, of which `home` is the namespace and `proxy` says how they are deployed,
    where it is right.
    """

    item: GatewayClass
    problem: ir.Problem | None
    versioned: bool = False
    version_problem: ir.Problem | None = None
    merges: bool = False
    home: str = ""
    proxy: EnvoyProxy | None = None


def state_of_class(world: World, item: GatewayClass, settings: Settings) -> ClassState:
    """Return how a GatewayClass stands."""
    ref = item.spec.parameters_ref
    found = _follow(world, ref, ref.namespace, _ON_CLASS, settings) if ref else None
    problem = found if isinstance(found, ir.Problem) else None
    # Whatever else is wrong with it: what its Gateways share goes on.
    proxy = world.get(EnvoyProxy, ref.namespace, ref.name) if ref and ref.namespace else None
    return ClassState(
        item,
        problem,
        versioned=is_told(world),
        version_problem=version_problem(world),
        merges=settings.deploys and proxy is not None and bool(proxy.spec.merge_gateways),
        home=(ref.namespace if ref else None) or "",
        proxy=found if isinstance(found, EnvoyProxy) else None,
    )


def problem_of_gateway(
    world: World, gateway: Gateway, classes: Mapping[str, ClassState], settings: Settings
) -> ir.Problem | None:
    """Return what is wrong with the parameters of a Gateway, its own or those of its class."""
    state = classes.get(gateway.spec.gateway_class_name)
    if state is not None and state.problem is not None:
        text = f"{state.item.key}: {state.problem}"
        return ir.Problem("Accepted", state.problem.reason, text, "spec.gatewayClassName")
    found = _own(world, gateway, settings)
    if isinstance(found, EnvoyProxy) and state is not None and state.merges:
        text = f"the Envoys are those of {state.item.key}, whose Gateways share them"
        return _problem(text, _ON_GATEWAY)
    if isinstance(found, EnvoyProxy) and found.spec.merge_gateways and settings.deploys:
        text = f"{found.key}: spec.mergeGateways is for the parameters of a GatewayClass"
        return _problem(text, _ON_GATEWAY)
    return found if isinstance(found, ir.Problem) else None


def notices(proxy: EnvoyProxy) -> Iterator[str]:
    """Yield a line for the fields of a Gateway's parameters that say nothing where no Envoy is deployed."""
    if fields := proxy.spec.elsewhere:
        verb = "says" if len(fields) == 1 else "say"
        yield f"{proxy.key}: {', '.join(fields)} {verb} nothing here: the installation decides on that"


def proxy_of_gateway(
    world: World, gateway: Gateway, classes: Mapping[str, ClassState], settings: Settings
) -> EnvoyProxy | None:
    """Return the EnvoyProxy of a Gateway, its own in place of its class's; None where there is none that is right."""
    found = _own(world, gateway, settings)
    state = classes.get(gateway.spec.gateway_class_name)
    if found is None and state is not None and (ref := state.item.spec.parameters_ref):
        found = _follow(world, ref, ref.namespace, _ON_CLASS, settings)
    return found if isinstance(found, EnvoyProxy) else None


def _own(world: World, gateway: Gateway, settings: Settings) -> EnvoyProxy | ir.Problem | None:
    infrastructure = gateway.spec.infrastructure
    if infrastructure is None or infrastructure.parameters_ref is None:
        return None
    return _follow(world, infrastructure.parameters_ref, gateway.key.namespace, _ON_GATEWAY, settings)


def _follow(
    world: World, ref: LocalParametersReference, namespace: str | None, where: str, settings: Settings
) -> EnvoyProxy | ir.Problem:
    if (ref.group, ref.kind) != (ENVOY_GATEWAY_GROUP, EnvoyProxy.KIND):
        return _problem(f"parameters of kind {ref.kind} ({ref.group or 'core'}) are not supported", where)
    if namespace is None:
        return _problem(f"an {EnvoyProxy.KIND} has a namespace, which is required here", f"{where}.namespace")
    proxy = world.get(EnvoyProxy, namespace, ref.name)
    if proxy is None:
        return _problem(f"EnvoyProxy {namespace}/{ref.name} does not exist", where)
    fault = bootstrap_fault(settings.bootstrap, proxy.spec.bootstrap) if settings.bootstrap else None
    if fault is not None:
        return _problem(f"{proxy.key}: spec.bootstrap.{fault.field}: {fault}", where)
    if proxy.unbuilt:
        verb = "is" if len(proxy.unbuilt) == 1 else "are"
        return _problem(f"{proxy.key}: {', '.join(proxy.unbuilt)} {verb} known but not built yet", where)
    return proxy


def _problem(message: str, where: str) -> ir.Problem:
    return ir.Problem("Accepted", "InvalidParameters", message, where)
