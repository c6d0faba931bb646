"""Where a Gateway of a cluster can be reached, and whether: by the Service that was made for it.  Pure."""

from ipaddress import ip_address

from pointsman.programming import Address
from resources import SERVICE_NAME_LABEL, EndpointSlice, Gateway, Key, Service, World
from translators.infrastructure import GATEWAY_CLASS_LABEL, GATEWAY_NAME_LABEL, GATEWAY_NAMESPACE_LABEL
from translators.names import label_value


def addresses_of(world: World, gateway: Key, *, shared: bool = False) -> tuple[Address, ...]:
    """Return the addresses of a Gateway; none while it has none. shared: whether it shares Envoys with others."""
    item, service = world.get(Gateway, gateway.namespace, gateway.name), _service_of(world, gateway, shared=shared)
    if item is None or service is None:
        return ()
    asked = {each.value for each in item.spec.addresses if each.value}
    # A Gateway that asks for addresses has no others (GatewayStatus.addresses).
    return tuple(_address(each) for each in _of_service(service) if not asked or each in asked)


def is_answered(world: World, gateway: Key, *, shared: bool = False) -> bool:
    """Whether an Envoy is ready behind the Service of a Gateway. shared: as above."""
    service = _service_of(world, gateway, shared=shared)
    return service is not None and any(
        # Unknown counts as ready (discovery/v1, EndpointConditions.ready).
        endpoint.conditions.ready is not False
        for each in world.all(EndpointSlice).values()
        if each.key.namespace == service.key.namespace
        and each.metadata.labels.get(SERVICE_NAME_LABEL) == service.key.name
        for endpoint in each.endpoints
    )


def _service_of(world: World, gateway: Key, *, shared: bool) -> Service | None:
    item = world.get(Gateway, gateway.namespace, gateway.name)
    if item is None:
        return None
    for service in world.all(Service).values():
        labels = service.metadata.labels
        namespace = labels.get(GATEWAY_NAMESPACE_LABEL, service.key.namespace)
        if (
            labels.get(GATEWAY_CLASS_LABEL) == label_value(item.spec.gateway_class_name)
            if shared
            else labels.get(GATEWAY_NAME_LABEL) == label_value(gateway.name) and namespace == gateway.namespace
        ):
            return service
    return None


def _of_service(service: Service) -> tuple[str, ...]:
    spec = service.spec
    if spec.type == "LoadBalancer":
        ingress = tuple(each.ip or each.hostname or "" for each in service.status.load_balancer.ingress)
        return tuple(dict.fromkeys(each for each in (*ingress, *spec.external_ips) if each))
    own = (spec.cluster_ip,) if spec.cluster_ip not in {None, "", "None"} else ()
    return tuple(each for each in (*spec.external_ips, *own) if each)


def _address(value: str) -> Address:
    try:
        ip_address(value)
    except ValueError:
        return Address("Hostname", value)
    return Address("IPAddress", value)
