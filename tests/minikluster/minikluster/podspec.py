"""Turns a pod's declarations into values: environment variables."""

import base64
import math
import os
import re
from collections.abc import Mapping

from .config import NODE, NODE_IP
from .kube import Kube
from .manifest import Manifest

_SUFFIX = {
    "n": 1e-9, "u": 1e-6, "m": 1e-3, "": 1, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12,
    "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40,
}  # fmt: skip
_QUANTITY = re.compile(r"([0-9.eE+-]+)([a-zA-Z]*)")
_VARIABLE = re.compile(r"\$\$|\$\(([A-Za-z_.][\w.-]*)\)")
_KEYED = re.compile(r"metadata\.(labels|annotations)\['(.+)'\]")


class UnavailableError(Exception):
    """Something that the pod refers to is not there (yet); `reason` is what its status says."""

    reason = "CreateContainerConfigError"


def quantity(text: object) -> float:
    """A Kubernetes quantity as a number."""
    match = _QUANTITY.fullmatch(str(text))
    if match is None or match[2] not in _SUFFIX:
        raise UnavailableError(f"no quantity: {text}")
    return float(match[1]) * _SUFFIX[match[2]]


def expand(text: str, env: Mapping[str, str]) -> str:
    """Replace $(NAME) as Kubernetes does; $$ escapes."""
    return _VARIABLE.sub(lambda match: "$" if match[0] == "$$" else env.get(match[1], match[0]), text)


def field(pod: Manifest, path: str, pod_ip: str) -> str:
    """The value of a fieldRef."""
    meta = pod["metadata"]
    if match := _KEYED.fullmatch(path):
        return str(meta.get(match[1], {}).get(match[2], ""))
    fixed = {
        "status.podIP": pod_ip,
        "status.podIPs": pod_ip,
        "status.hostIP": NODE_IP,
        "status.hostIPs": NODE_IP,
        "spec.nodeName": NODE,
        "spec.serviceAccountName": pod["spec"].get("serviceAccountName", ""),
    }
    if path in fixed:
        return str(fixed[path])
    value = meta.get(path.partition(".")[2], "")
    if isinstance(value, dict):  # labels, annotations
        return "\n".join(f'{key}="{each}"' for key, each in sorted(value.items()))
    return str(value)


def resource(pod: Manifest, reference: Manifest, container: str) -> str:
    """The value of a resourceFieldRef."""
    name = reference.get("containerName", container)
    everyone = pod["spec"]["containers"] + pod["spec"].get("initContainers", [])
    spec = next(each for each in everyone if each["name"] == name)
    kind, _, what = reference["resource"].partition(".")
    machine = {"cpu": os.cpu_count(), "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")}
    default = machine.get(what, 0) if kind == "limits" else 0
    value = spec.get("resources", {}).get(kind, {}).get(what, default)
    return str(math.ceil(quantity(value) / (quantity(reference.get("divisor", "1")) or 1)))


async def data_of(kube: Kube, kind: str, namespace: str, name: str, *, optional: bool) -> dict[str, bytes]:
    """The contents of a ConfigMap (`configmaps`) or a Secret (`secrets`)."""
    item = await kube.get(f"/api/v1/namespaces/{namespace}/{kind}/{name}")
    if item is None:
        if optional:
            return {}
        raise UnavailableError(f'{kind[:-1]} "{name}" not found')
    encoded = item.get("binaryData" if kind == "configmaps" else "data") or {}
    data = {key: base64.b64decode(value) for key, value in encoded.items()}
    if kind == "configmaps":
        data |= {key: value.encode() for key, value in (item.get("data") or {}).items()}
    return data


async def environment(
    kube: Kube,
    pod: Manifest,
    container: Manifest,
    image_env: Mapping[str, object],
    pod_ip: str,
    services: Mapping[tuple[str, str], Manifest],
) -> dict[str, str]:
    """The environment variables of a container."""
    env = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root",
        "HOSTNAME": pod["spec"].get("hostname") or pod["metadata"]["name"],
    }
    env |= {key: str(value) for key, value in image_env.items()}
    env |= _service_links(pod, services)
    namespace = pod["metadata"]["namespace"]
    for source in container.get("envFrom", []):
        kind, key = ("secrets", "secretRef") if "secretRef" in source else ("configmaps", "configMapRef")
        optional = source[key].get("optional", False)
        data = await data_of(kube, kind, namespace, source[key]["name"], optional=optional)
        env |= {source.get("prefix", "") + name: value.decode() for name, value in data.items()}
    for entry in container.get("env", []):
        value = await _value(kube, pod, container, entry, pod_ip, env)
        if value is not None:
            env[entry["name"]] = value
    return env


def _service_links(pod: Manifest, services: Mapping[tuple[str, str], Manifest]) -> dict[str, str]:
    """NAME_SERVICE_HOST and NAME_SERVICE_PORT of the namespace's Services and of the API server's."""
    env: dict[str, str] = {}
    for (namespace, name), service in list(services.items()):
        address, ports = service["spec"].get("clusterIP"), service["spec"].get("ports", [])
        linked = namespace == pod["metadata"]["namespace"] and pod["spec"].get("enableServiceLinks", True)
        if address in (None, "", "None") or not (linked or (namespace, name) == ("default", "kubernetes")):
            continue
        prefix = f"{_variable(name)}_SERVICE"
        env |= {f"{prefix}_HOST": address, f"{prefix}_PORT": str(ports[0]["port"])}
        env |= {f"{prefix}_PORT_{_variable(each['name'])}": str(each["port"]) for each in ports if each.get("name")}
    return env


def _variable(name: str) -> str:
    return name.upper().replace("-", "_")


async def _value(
    kube: Kube, pod: Manifest, container: Manifest, entry: Manifest, pod_ip: str, env: Mapping[str, str]
) -> str | None:
    """The value of one entry of `env`; None where it is optional and not there."""
    source = entry.get("valueFrom") or {}
    if not source:
        return expand(entry.get("value", ""), env)
    if "fieldRef" in source:
        return field(pod, source["fieldRef"]["fieldPath"], pod_ip)
    if "resourceFieldRef" in source:
        return resource(pod, source["resourceFieldRef"], container["name"])
    kind, key = ("secrets", "secretKeyRef") if "secretKeyRef" in source else ("configmaps", "configMapKeyRef")
    reference = source[key]
    name, optional = reference["name"], reference.get("optional", False)
    data = await data_of(kube, kind, pod["metadata"]["namespace"], name, optional=optional)
    if reference["key"] in data:
        return data[reference["key"]].decode()
    if optional:
        return None
    raise UnavailableError(f'no key {reference["key"]} in {kind[:-1]} "{name}"')
