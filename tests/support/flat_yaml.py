"""Gives YAML that has lost its indentation it back, by what may stand below what in the kinds used here."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

_KEY = re.compile(r"([\w./-]+):(?:\s+(.*))?$")

# A mapping's keys, each with what stands below it: None where that is not indented, a list for a list's items.
Shape = Mapping[str, Any] | list[Any] | None

_LABELS = {"app": None}
_NAME = {"name": None}
_METADATA = {"name": None, "namespace": None, "labels": _LABELS}
_HTTP = {"path": None, "port": None, "scheme": None}
_TIMES = dict.fromkeys(
    ("periodSeconds", "successThreshold", "failureThreshold", "timeoutSeconds", "initialDelaySeconds")
)
_PROBE = {"httpGet": _HTTP, "grpc": {"port": None, "service": None}, **_TIMES}
_CONTAINER = {
    **dict.fromkeys(("name", "image", "imagePullPolicy", "command", "tty", "stdin", "restartPolicy")),
    "args": [None],
    "env": [{"name": None, "value": None, "valueFrom": {"secretKeyRef": {"name": None, "key": None}}}],
    "ports": [{"containerPort": None, "name": None, "protocol": None}],
    "lifecycle": {"preStop": {"exec": {"command": [None]}}},
    **dict.fromkeys(("livenessProbe", "readinessProbe", "startupProbe"), _PROBE),
    "resources": {key: {"nvidia.com/gpu": None} for key in ("limits", "requests")},
    "volumeMounts": [{"name": None, "mountPath": None}],
}
_POD = {
    "containers": [_CONTAINER],
    "initContainers": [_CONTAINER],
    **dict.fromkeys(("restartPolicy", "enableServiceLinks", "terminationGracePeriodSeconds")),
    "volumes": [{"name": None, "emptyDir": {"medium": None}, "configMap": _NAME}],
}
_ROUTE_RULE = {
    "backendRefs": [dict.fromkeys(("group", "kind", "name", "port"))],
    "matches": [{"path": dict.fromkeys(("type", "value"))}],
    "timeouts": {"request": None},
}
_SPEC = {
    **dict.fromkeys(("replicas", "targetPortNumber", "type", "modelName", "criticality", "gatewayClassName")),
    "selector": {"matchLabels": _LABELS, **_LABELS},
    "template": {"metadata": _METADATA, "spec": _POD},
    "extensionRef": _NAME,
    "poolRef": _NAME,
    "targetModels": [{"name": None, "weight": None}],
    "ports": [dict.fromkeys(("protocol", "port", "targetPort", "appProtocol"))],
    "listeners": [dict.fromkeys(("name", "port", "protocol"))],
    "parentRefs": [dict.fromkeys(("group", "kind", "name"))],
    "rules": [_ROUTE_RULE],
}
_MODELS = {"models": [{"id": None, "source": None}]}
_SYNCER = {**dict.fromkeys(("name", "port", "defaultBaseModel")), "ensureExist": _MODELS, "ensureNotExist": _MODELS}
_DOCUMENT = {
    **dict.fromkeys(("apiVersion", "kind")),
    "metadata": _METADATA,
    "spec": _SPEC,
    "data": {"configmap.yaml": {"vLLMLoRAConfig": _SYNCER}},
    "rules": [{key: [None] for key in ("apiGroups", "resources", "verbs")}],
    "subjects": [dict.fromkeys(("kind", "name", "namespace"))],
    "roleRef": dict.fromkeys(("kind", "name", "apiGroup")),
}


@dataclass
class _Open:
    """What later lines may belong to: a mapping, with the keys that it has, or a list."""

    shape: Any
    depth: int
    seen: set[str] = field(default_factory=set)

    def takes_item(self, key: str | None) -> bool:
        if not isinstance(self.shape, list):
            return False
        (item,) = self.shape
        return item is None if key is None else item is not None and key in item

    def takes_key(self, key: str) -> bool:
        return isinstance(self.shape, dict) and key in self.shape and key not in self.seen


def indent(block: str) -> str:
    """Indent a block of documents. Raises ValueError for a line that belongs nowhere."""
    return "".join(f"{line}\n" for line in _lines(block.splitlines()))


def blocks(text: str) -> list[str]:
    """The blocks of whole objects in a text without indentation."""
    found: list[list[str]] = [[]]
    for line in text.splitlines():
        belongs = _KEY.match(line) or line.startswith(("- ", "# ")) or line == "---"
        if belongs and (found[-1] or line.startswith(("apiVersion:", "kind:"))):
            found[-1].append(line)
        elif found[-1]:
            found.append([])
    return [indent("\n".join(block)) for block in found if "metadata:" in block]


def _lines(lines: list[str]) -> Iterator[str]:
    stack: list[_Open] = []
    for line in lines:
        if line == "---" or not stack:
            stack = [_Open(_DOCUMENT, 0)]
        if line == "---" or line.startswith("#"):
            yield line if line == "---" else "  " * stack[-1].depth + line
            continue
        rest = line.removeprefix("- ")
        match = _KEY.match(rest)
        key = match[1] if match else None
        is_item = rest != line
        while stack and not (stack[-1].takes_item(key) if is_item else stack[-1].takes_key(key or "")):
            stack.pop()
        if not stack:
            raise ValueError(f"{line!r} belongs nowhere")
        depth = stack[-1].depth
        yield "  " * depth + line
        if key is None:
            continue
        if is_item:
            stack.append(_Open(stack[-1].shape[0], depth + 1))
        holder = stack[-1]
        holder.seen.add(key)
        value = (match[2] or "") if match else ""
        if value in {"", "|"} or value.startswith("#"):
            below: Shape = holder.shape[key]
            if below is not None:
                stack.append(_Open(below, holder.depth + 1))
