"""What the admin endpoint says, as JSON: the state of the control plane and of the clients that it serves.  Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict

from pointsman.blame import origin_of
from pointsman.control_plane import State
from pointsman.rendering import render_resource
from resources import Key
from translators import GatewaySummary, Status
from xds import ClientStatus, Nack


def status(state: State, clients: Iterable[ClientStatus], problems: Iterable[str] = ()) -> dict[str, object]:
    """Return /status without the statuses of objects. `problems` are those besides the translation's.

    `nodes` are the connected Envoys and pickers; each is in sync when it has accepted all that is published.
    `nacks` are the refusals in force.
    """
    nodes = list(clients)
    translation = state.translation
    return {
        "generation": state.generation,
        "trouble": state.trouble,
        "gateways": [gateway(each) for each in translation.summary] if translation else [],
        "pods": state.pods,
        "problems": [*state.problems, *problems],
        "notices": list(state.notices),
        "nodes": [_node(each) for each in nodes],
        "nacks": [_nack(each) for node in nodes for each in node.nacks],
    }


def statuses_of(state: State, amended: Mapping[Key, Mapping[str, object]]) -> list[dict[str, object]]:
    """Return the statuses of objects, of which there can be thousands; `amended` say more than the translation's."""
    found = state.translation.statuses if state.translation else ()
    return [_status(each.key, amended.get(each.key, each.body)) for each in found]


def gateway(summary: GatewaySummary) -> dict[str, object]:
    """Return a Gateway with its listeners, its pools and their pods, and the models that it routes."""
    return {
        "gateway": summary.gateway,
        "listeners": [asdict(each) for each in summary.listeners],
        "pools": [
            {
                "name": pool.name,
                "models": list(pool.models),
                "pods": [{"name": name, "address": address} for name, address in pool.pods],
            }
            for pool in summary.pools
        ],
        "models": list(summary.models),
        "hosts": [{**asdict(each), "models": list(each.models)} for each in summary.hosts],
    }


def statuses(found: Iterable[Status]) -> list[dict[str, object]]:
    """Return what Kubernetes would hold in each object's `status`, by object."""
    return [_status(each.key, each.body) for each in found]


def _status(key: Key, body: Mapping[str, object]) -> dict[str, object]:
    namespace = {"namespace": key.namespace} if key.namespace else {}
    return {"group": key.group, "kind": key.kind, **namespace, "name": key.name, "status": body}


def config_dump(state: State) -> dict[str, object]:
    """Return all that is published, readable, with versions and origins."""
    return {
        "generation": state.generation,
        "resources": [
            {
                "name": sealed.name,
                "version": sealed.version,
                "origin": sealed.origin,
                "resource": render_resource(sealed.type_url, resource.message),
            }
            for resource, sealed in state.sealed
        ],
    }


def _node(client: ClientStatus) -> dict[str, object]:
    return {
        "node": client.peer.node,
        "group": client.peer.group,
        "role": client.peer.role,
        "in_sync": client.in_sync,
        "types": {
            each.type_url: {"held": each.held, "outstanding": each.outstanding, "pending": each.pending}
            for each in client.types
        },
    }


def _nack(nack: Nack) -> dict[str, object]:
    return {
        "node": nack.peer.node,
        "type_url": nack.type_url,
        "name": nack.name,
        "version": nack.version,
        "object": origin_of(nack),
        "message": nack.message,
    }


def counts_by_type(state: State) -> Mapping[str, int]:
    """Return how many resources are published, by type URL."""
    counted: dict[str, int] = {}
    for _, sealed in state.sealed:
        counted[sealed.type_url] = counted.get(sealed.type_url, 0) + 1
    return counted
