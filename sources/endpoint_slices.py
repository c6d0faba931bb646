"""The endpoint slices that a cluster's controller would make from Services and Pods.

A folder has no such controller. Pure: World in, slices or changes out.
"""

from collections.abc import Iterable, Mapping, Sequence

from resources import (
    SERVICE_NAME_LABEL,
    Delete,
    Endpoint,
    EndpointConditions,
    EndpointPort,
    EndpointSlice,
    ObjectMeta,
    ObjectReference,
    Pod,
    Service,
    ServicePort,
    Upsert,
    World,
)

MANAGED_BY_LABEL = "endpointslice.kubernetes.io/managed-by"
MANAGER = "pointsman"

_Label = tuple[str, str, str]
_Ports = tuple[EndpointPort, ...]
_FINISHED = frozenset({"Succeeded", "Failed"})


def derive(world: World) -> tuple[EndpointSlice, ...]:
    """Make the slices of every Service that has a selector and no slices of somebody else's making.

    A pod that is not ready is there too, with `ready` false. Pods whose named ports have different numbers stand in
    slices of their own.
    """
    served = {
        (each.metadata.namespace or "", each.metadata.labels.get(SERVICE_NAME_LABEL, ""))
        for each in world.all(EndpointSlice).values()
        if not _is_ours(each)
    }
    services = [
        service
        for name, service in world.all(Service).items()
        if service.spec.selector and service.spec.type != "ExternalName" and name not in served
    ]
    pods = _by_label(world.all(Pod).values(), {name for each in services for name in each.spec.selector})
    return tuple(each for service in services for each in _slices(service, _selected(service, pods)))


def changes(world: World) -> tuple[Upsert | Delete, ...]:
    """Give the changes after which a World has just the slices that `derive` makes, beside those of others."""
    wanted = derive(world)
    keys = {each.key for each in wanted}
    present = {each.key: each for each in world.all(EndpointSlice).values() if _is_ours(each)}
    gone = (Delete(key) for key in present if key not in keys)
    return (*gone, *(Upsert(each) for each in wanted if present.get(each.key) != each))


def _is_ours(each: EndpointSlice) -> bool:
    return each.metadata.labels.get(MANAGED_BY_LABEL) == MANAGER


def _by_label(pods: Iterable[Pod], names: set[str]) -> Mapping[_Label, Sequence[Pod]]:
    """Index the pods by those of their labels that have these names, so that a Service need not look at every pod."""
    index: dict[_Label, list[Pod]] = {}
    for pod in pods if names else ():
        labels = pod.metadata.labels
        for name in names & labels.keys():
            index.setdefault((pod.metadata.namespace or "", name, labels[name]), []).append(pod)
    return index


def _selected(service: Service, pods: Mapping[_Label, Sequence[Pod]]) -> list[Pod]:
    selector, namespace = service.spec.selector, service.metadata.namespace or ""
    candidates = min((pods.get((namespace, name, value), ()) for name, value in selector.items()), key=len)
    return [
        pod
        for pod in candidates
        if selector.items() <= pod.metadata.labels.items() and pod.addresses and pod.status.phase not in _FINISHED
    ]


def _slices(service: Service, pods: Iterable[Pod]) -> list[EndpointSlice]:
    groups: dict[tuple[bool, _Ports], list[Endpoint]] = {}
    for pod in pods:
        ports = _ports(service.spec.ports, pod)
        if service.spec.ports and not ports:
            continue
        # A pod has at most one address of each family that counts.
        for address in {":" in address: address for address in reversed(pod.addresses)}.values():
            endpoint = _endpoint(pod, address, always_ready=service.spec.publish_not_ready_addresses)
            groups.setdefault((":" in address, ports), []).append(endpoint)
    return [
        _slice(service, index, is_v6=is_v6, ports=ports, endpoints=groups[is_v6, ports])
        for index, (is_v6, ports) in enumerate(sorted(groups, key=lambda group: (group[0], repr(group[1]))))
    ]


def _slice(service: Service, index: int, *, is_v6: bool, ports: _Ports, endpoints: Sequence[Endpoint]) -> EndpointSlice:
    metadata = ObjectMeta(
        name=f"{service.metadata.name}-{index}",
        namespace=service.metadata.namespace,
        labels={SERVICE_NAME_LABEL: service.metadata.name, MANAGED_BY_LABEL: MANAGER},
    )
    return EndpointSlice(
        metadata=metadata, address_type="IPv6" if is_v6 else "IPv4", ports=ports, endpoints=tuple(endpoints)
    )


def _ports(ports: Iterable[ServicePort], pod: Pod) -> _Ports:
    """Resolve the Service's target ports on a pod; a name that the pod does not have leaves its port out."""
    found = []
    for port in ports:
        number = port.target_port if isinstance(port.target_port, int) else _named(port.target_port, port, pod)
        if number is not None:
            found.append(
                EndpointPort(
                    name=port.name,
                    port=pod.listening(number),
                    protocol=port.protocol,
                    app_protocol=port.app_protocol,
                )
            )
    return tuple(found)


def _named(name: str, port: ServicePort, pod: Pod) -> int | None:
    return next(
        (
            each.container_port
            for container in (*pod.spec.containers, *pod.spec.init_containers)
            for each in container.ports
            if each.name == name and each.protocol == port.protocol
        ),
        None,
    )


def _endpoint(pod: Pod, address: str, *, always_ready: bool) -> Endpoint:
    terminating = pod.metadata.deletion_timestamp is not None
    serving = always_ready or any(each.type == "Ready" and each.status == "True" for each in pod.status.conditions)
    return Endpoint(
        addresses=(address,),
        conditions=EndpointConditions(
            ready=always_ready or (serving and not terminating), serving=serving, terminating=terminating
        ),
        node_name=pod.spec.node_name,
        target_ref=ObjectReference(kind="Pod", namespace=pod.metadata.namespace or "", name=pod.metadata.name),
    )
