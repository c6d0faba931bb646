"""Who picks for a pool: Pointsman's own picker, or that of a Service which the pool names."""

from __future__ import annotations

from resources import EXTENSION_PORT, OWN_PICKER_LABEL, EndpointPickerRef, InferencePool, Service
from translators import ir
from translators.controllers import CONTROLLER_LABEL, is_of_another
from translators.names import service_name
from translators.resolve.endpoints import endpoints_of_service
from translators.resolve.index import Index
from translators.resolve.pool_kinds import AnyPickerRef, AnyPool, picker_field_of, picker_ref_of

RESOLVED = "ResolvedRefs"
H2C = "kubernetes.io/h2c"
PICKER_SUFFIX = "-picker"
STAND_IN_SUFFIX = "-stand-in"
PICKER_PORT = "grpc"
"""What the port of our pickers is called at which they are asked."""


def picker_of(index: Index, pool: AnyPool) -> ir.Picker | ir.Problem | None:
    """Return the pool's picker, why it cannot be asked, or None where our own picks.

    Ours picks where a Service with our label is named. A v1alpha2 pool is ours too when the Service does not exist:
    products of that version make the Service themselves from the pool. A v1 pool means the Service that it names.
    """
    ref = picker_ref_of(pool)
    if ref is None:
        return None
    if ref.kind != "Service" or ref.group != "":
        return _problem(pool, f"kind {ref.kind} is not supported, only Service")
    service = index.world.get(Service, pool.key.namespace, ref.name)
    if service is None and isinstance(pool, InferencePool):
        return _problem(pool, f"Service {pool.key.namespace}/{ref.name} does not exist")
    if service is None or _is_ours(index, service):
        return None
    if _is_of_another_pointsman(index, service):
        return _taken(pool, service)
    return _foreign(pool, ref, service)


def seat_of(index: Index, pool: AnyPool) -> ir.Picker | ir.Problem | None:
    """Return the Service behind which our picker for a pool runs, or why it cannot; None where there is but one picker.

    It has the name and the port that the pool's reference gives, and pools that name one Service share the picker.
    """
    if not index.picker_services:
        return None
    ref = picker_ref_of(pool)
    name = _service_of(pool)
    service = index.world.get(Service, pool.key.namespace, name)
    if service is not None and not _is_ours(index, service):
        if _is_of_another_pointsman(index, service):
            return _taken(pool, service)
        text = f"{service.key} is in the way of the pool's picker and is not Pointsman's: give the pool a reference"
        return _problem(pool, text)
    number = _port(ref) if ref is not None else None
    return ir.Picker(pool.key.namespace, name, number or EXTENSION_PORT, str(pool.key), ours=True)


def leaving_seat_of(index: Index, pool: AnyPool, seat: ir.Picker) -> ir.Picker | None:
    """Return where our picker for a pool was before, while the one at `seat` is not ready or does not know the pool.

    The Services in the cluster say all of it, so that another control plane comes to the same.
    """
    known_at = index.known_at.get((pool.key.group, pool.key.namespace, pool.key.name), ())
    if any(each.key.name == seat.service for each in known_at) and endpoints_of_picker(index, seat):
        return None
    for service in known_at:
        port = next((each.port for each in service.spec.ports if each.name == PICKER_PORT), None)
        if service.key.name != seat.service and port is not None:
            found = ir.Picker(pool.key.namespace, service.key.name, port, str(pool.key), ours=True)
            if endpoints_of_picker(index, found):
                return found
    return None


def stand_in_of(index: Index, pool: AnyPool) -> ir.Picker | None:
    """Return the Service behind which our picker stands in for the pool's own; None where it has none.

    It is named after the pool, and is not made where such a Service is there that is not ours.
    """
    name = service_name(f"{pool.key.name}{STAND_IN_SUFFIX}")
    service = index.world.get(Service, pool.key.namespace, name)
    if not index.picker_services or (service is not None and not _is_ours(index, service)):
        return None
    return ir.Picker(pool.key.namespace, name, EXTENSION_PORT, str(pool.key), ours=True)


def is_picked_for_by_another(index: Index, pool: AnyPool) -> bool:
    """Whether the Service of a pool's picker is that of another controller's picker."""
    service = index.world.get(Service, pool.key.namespace, _service_of(pool))
    return service is not None and _is_of_another_pointsman(index, service)


def _service_of(pool: AnyPool) -> str:
    """Return the Service of a pool's picker: the one that it names, or one that is named after it."""
    ref = picker_ref_of(pool)
    return ref.name if ref is not None else service_name(f"{pool.key.name}{PICKER_SUFFIX}")


def _is_ours(index: Index, service: Service) -> bool:
    labels = service.metadata.labels
    return labels.get(OWN_PICKER_LABEL) == "true" and not is_of_another(labels, index.controllers)


def _is_of_another_pointsman(index: Index, service: Service) -> bool:
    labels = service.metadata.labels
    return labels.get(OWN_PICKER_LABEL) == "true" and is_of_another(labels, index.controllers)


def _taken(pool: AnyPool, service: Service) -> ir.Problem:
    whose = service.metadata.labels[CONTROLLER_LABEL]
    text = f"{service.key} is the picker of another controller ({whose}), and a pool has one picker"
    return _problem(pool, text)


def _foreign(pool: AnyPool, ref: AnyPickerRef, service: Service) -> ir.Picker | ir.Problem:
    if service.spec.type == "ExternalName":
        return _problem(pool, f"{service.key} is of type ExternalName")
    number = _port(ref)
    port = next((each for each in service.spec.ports if each.port == number and each.protocol == "TCP"), None)
    if port is None:
        return _problem(pool, f"{service.key} has no TCP port {number}")
    return ir.Picker(pool.key.namespace, ref.name, port.port, str(service.key), plaintext=port.app_protocol == H2C)


def endpoints_of_picker(index: Index, picker: ir.Picker) -> tuple[ir.Endpoint, ...]:
    """Return the ready endpoints of a picker."""
    service = index.world.get(Service, picker.namespace, picker.service)
    ports = service.spec.ports if service else ()
    port = next((each for each in ports if each.port == picker.port and each.protocol == "TCP"), None)
    return endpoints_of_service(index, service, port) if service and port else ()


def _port(ref: AnyPickerRef) -> int | None:
    if isinstance(ref, EndpointPickerRef):
        return ref.port.number if ref.port else None
    return ref.port_number


def _problem(pool: AnyPool, message: str) -> ir.Problem:
    return ir.Problem(RESOLVED, "InvalidExtensionRef", message, picker_field_of(pool))
