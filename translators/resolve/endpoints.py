"""The ready endpoints behind pools and Services."""

from __future__ import annotations

from resources import ACTIVE_PORTS_ANNOTATIONS, PLAINTEXT_ANNOTATION, Pod, Service, ServicePort
from translators import ir
from translators.resolve.index import Index
from translators.resolve.pool_kinds import AnyPool, labels_of, ports_of


def endpoints_of_pool(index: Index, pool: AnyPool, role: tuple[str, str] | None = None) -> tuple[ir.Endpoint, ...]:
    """Return the ready pods that the pool selects, once for each of its ports that is active.

    role: a label that they must have as well, where only the pods of one role are meant.
    """
    wanted, ports = {*labels_of(pool).items(), *((role,) if role else ())}, ports_of(pool)
    return tuple(
        sorted(
            (
                ir.Endpoint(pod.addresses[0], pod.listening(port), f"{pod.key.namespace}/{pod.key.name}")
                for pod in index.pods_with(pool.key.namespace, labels_of(pool))
                if pod.ready and pod.addresses and wanted <= pod.metadata.labels.items()
                for port in _active(pod, ports)
            ),
            key=lambda endpoint: (endpoint.address, endpoint.port),
        )
    )


def _active(pod: Pod, ports: list[int]) -> list[int]:
    """Return the ports that a pod serves on at present: all, unless an annotation lists them."""
    annotations = pod.metadata.annotations
    listed = next((annotations[name] for name in ACTIVE_PORTS_ANNOTATIONS if name in annotations), None)
    if listed is None:
        return ports
    active = {word.strip() for word in listed.split(",")}
    return [port for port in ports if str(port) in active]


def endpoints_of_service(index: Index, service: Service, port: ServicePort) -> tuple[ir.Endpoint, ...]:
    """Return the ready endpoints of a Service's port, from its EndpointSlices."""
    found: dict[tuple[str, int], ir.Endpoint] = {}
    for each in index.slices.get((service.key.namespace, service.key.name), ()):
        numbers = [own.port for own in each.ports if own.name == port.name and own.port is not None]
        for endpoint in each.endpoints:
            # Unknown counts as ready (discovery/v1, EndpointConditions.ready).
            if endpoint.conditions.ready is False or each.address_type == "FQDN":
                continue
            ref = endpoint.target_ref
            is_pod = ref is not None and ref.kind == "Pod"
            namespace, name = (ref.namespace or service.key.namespace, ref.name) if ref and is_pod else ("", "")
            pod = index.world.get(Pod, namespace, name) if name else None
            plaintext = pod is not None and pod.metadata.annotations.get(PLAINTEXT_ANNOTATION) == "true"
            for number in numbers:
                found[endpoint.addresses[0], number] = ir.Endpoint(
                    endpoint.addresses[0], number, f"{namespace}/{name}" if name else "", plaintext
                )
    return tuple(found[key] for key in sorted(found))
