"""Where a Gateway of a cluster can be reached: the addresses of the Service that was made for it.  Pure."""

from ipaddress import ip_address

from pointsman.programming import Address
from resources import Gateway, Key, Service, World
from translators.infrastructure import GATEWAY_CLASS_LABEL, GATEWAY_NAME_LABEL, GATEWAY_NAMESPACE_LABEL
from translators.names import label_value


def addresses_of(world: World, gateway: Key, *, shared: bool = False) -> tuple[Address, ...]:
    """Return the addresses of a Gateway; none while it has none. shared: whether it shares Envoys with others."""
    item = world.get(Gateway, gateway.namespace, gateway.name)
    if item is None:
        return ()
    asked = {each.value for each in item.spec.addresses if each.value}
    for service in world.all(Service).values():
        labels = service.metadata.labels
        namespace = labels.get(GATEWAY_NAMESPACE_LABEL, service.key.namespace)
        if (
            labels.get(GATEWAY_CLASS_LABEL) == label_value(item.spec.gateway_class_name)
            if shared
            else labels.get(GATEWAY_NAME_LABEL) == label_value(gateway.name) and namespace == gateway.namespace
        ):
            # A Gateway that asks for addresses has no others (GatewayStatus.addresses).
            return tuple(_address(each) for each in _of_service(service) if not asked or each in asked)
    return ()


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
