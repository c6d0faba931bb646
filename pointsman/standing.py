"""How a control plane stands, as `pointsman status` says it: /status in, a shorter account out.  Pure."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from pointsman.banner import problems, url

Json = dict[str, Any]

_ALL = frozenset({"0.0.0.0", "::"})  # noqa: S104 - compared, not bound
_POOL_KINDS = frozenset({"InferencePool"})
# Conditions that say nothing when they are False (gateway-api, ListenerConditionType and RouteConditionType).
_GOOD_WHEN_FALSE = frozenset({"Conflicted", "OverlappingTLSConfig", "PartiallyInvalid"})


def standing(report: Mapping[str, Any]) -> Json:
    """Return gateways, routes, pools and proxies of a /status, each with what stands against it.

    `troubles` are lines such as "Accepted=False NoMatchingParent: ..."; where there are none, all is well. A proxy's
    `types` say for each type how many resources it holds, how many are still to be sent or answered, and which it
    refuses. `waiting`: an answer (ACK or NACK) of the proxy is awaited.
    """
    kept = report["statuses"]
    return {
        "generation": report["generation"],
        "gateways": list(_gateways(report, [each for each in kept if each["kind"] == "Gateway"])),
        "routes": list(_routes(each for each in kept if each["kind"].endswith("Route"))),
        "pools": list(_pools(report, [each for each in kept if each["kind"] in _POOL_KINDS])),
        "proxies": [_proxy(node, report["nacks"]) for node in report["nodes"]],
        "problems": problems(report),
        "notices": report["notices"],
    }


def troubles(conditions: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return a line for each condition that is not as it should be."""
    return [
        f"{each['type']}={each['status']} {each['reason']}" + (f": {each['message']}" if each["message"] else "")
        for each in conditions
        if each["status"] != ("False" if each["type"] in _GOOD_WHEN_FALSE else "True")
    ]


def _gateways(report: Mapping[str, Any], kept: Sequence[Mapping[str, Any]]) -> Iterator[Json]:
    served = {each["gateway"]: each for each in report["gateways"]}
    for each in kept:
        name, status = _name(each), each["status"]
        addresses = [address["value"] for address in status.get("addresses", ())]
        bound = {listener["name"]: listener for listener in served.get(name, {"listeners": ()})["listeners"]}
        yield {
            "name": name,
            "addresses": addresses,
            "models": served[name]["models"] if name in served else [],
            "troubles": troubles(status.get("conditions", ())),
            "listeners": [
                {
                    "name": listener["name"],
                    "url": _url(bound[listener["name"]], addresses) if listener["name"] in bound else None,
                    "hostnames": bound[listener["name"]]["hostnames"] if listener["name"] in bound else [],
                    "attached_routes": listener["attachedRoutes"],
                    "troubles": troubles(listener["conditions"]),
                }
                for listener in status.get("listeners", ())
            ],
        }


def _url(listener: Mapping[str, Any], addresses: Sequence[str]) -> str:
    """Return where clients find a listener: its Gateway's address, where that is another than the one that is bound."""
    if listener["address"] in _ALL and addresses and addresses[0] not in _ALL:
        return url({**listener, "address": addresses[0], "port": listener["moved_from"] or listener["port"]})
    return url(listener)


def _routes(kept: Iterable[Mapping[str, Any]]) -> Iterator[Json]:
    for each in kept:
        parents = [
            {"gateway": _parent(parent["parentRef"]), "troubles": troubles(parent["conditions"])}
            for parent in each["status"].get("parents", ())
        ]
        yield {"kind": each["kind"], "name": _name(each), "parents": parents}


def _pools(report: Mapping[str, Any], kept: Sequence[Mapping[str, Any]]) -> Iterator[Json]:
    """Yield each pool once, whatever the number of gateways that lead to it."""
    served = {pool["name"]: pool for gateway in report["gateways"] for pool in gateway["pools"]}
    for each in kept:
        name = _name(each)
        # v1 has `parents`, v1alpha2 has `parent`.
        parents = each["status"].get("parents") or each["status"].get("parent") or ()
        yield {
            "name": name,
            "group": each["group"],
            "gateways": [_parent(parent["parentRef"]) for parent in parents],
            "models": served[name]["models"] if name in served else [],
            "pods": served[name]["pods"] if name in served else [],
            "troubles": list(
                dict.fromkeys(line for parent in parents for line in troubles(parent["conditions"])),
            ),
        }


def _proxy(node: Mapping[str, Any], nacks: Iterable[Mapping[str, Any]]) -> Json:
    refused = [each for each in nacks if each["node"] == node["node"]]
    return {
        "node": node["node"],
        "role": node["role"],
        "group": node["group"],
        "in_sync": node["in_sync"],
        "types": {
            _short(type_url): {
                "held": each["held"],
                "pending": each["pending"],
                "waiting": each["outstanding"],
                "refused": [
                    {"name": nack["name"], "object": nack["object"], "message": nack["message"]}
                    for nack in refused
                    if nack["type_url"] == type_url
                ],
            }
            for type_url, each in node["types"].items()
        },
    }


def _short(type_url: str) -> str:
    """Return the message's own name: "Listener"."""
    return type_url.rpartition(".")[2]


def _name(item: Mapping[str, Any]) -> str:
    return f"{item['namespace']}/{item['name']}" if item.get("namespace") else str(item["name"])


def _parent(reference: Mapping[str, Any]) -> str:
    """Return a parentRef as "namespace/name", with its section or port where it names one."""
    section = reference.get("sectionName") or reference.get("port")
    return _name(reference) + (f" {section}" if section else "")
