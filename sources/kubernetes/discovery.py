"""Which kinds an API server serves, in which version, and under which path."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import orjson

from resources import Object
from sources.kubernetes.api import Api
from sources.kubernetes.errors import NOT_FOUND, ApiError


@dataclass(frozen=True, slots=True)
class Served:
    """A kind as a server has it: `version` is one that we read, `plural` its name in paths."""

    kind: type[Object]
    version: str
    plural: str

    @property
    def api_version(self) -> str:
        """Group and version, as in an object."""
        return f"{self.kind.GROUP}/{self.version}" if self.kind.GROUP else self.version

    def path(self, namespace: str = "", name: str = "", *, subresource: str = "") -> str:
        """Return the path of one object, or of all in a namespace, or of all."""
        root = f"/apis/{self.api_version}" if self.kind.GROUP else f"/api/{self.version}"
        place = f"/namespaces/{namespace}" if namespace else ""
        parts = (root + place, self.plural, name, subresource)
        return "/".join(part for part in parts if part)


async def discover(api: Api, kinds: Iterable[type[Object]]) -> Mapping[type[Object], Served]:
    """Return those of the kinds that are served. Raises ApiError, UnreachableError."""
    by_group: dict[str, list[type[Object]]] = {}
    for kind in kinds:
        by_group.setdefault(kind.GROUP, []).append(kind)
    found: dict[type[Object], Served] = {}
    for group, wanted in by_group.items():
        for version in await _versions(api, group):
            missing = [kind for kind in wanted if kind not in found and version in kind.VERSIONS]
            if missing:
                plurals = await _plurals(api, group, version)
                found |= {kind: Served(kind, version, plurals[kind.KIND]) for kind in missing if kind.KIND in plurals}
    return found


async def _versions(api: Api, group: str) -> list[str]:
    """Return the versions that a group is served in, the server's choice first; none where there is no such group."""
    if not group:
        return ["v1"]
    try:
        said = orjson.loads(await api.get(f"/apis/{group}"))
    except ApiError as error:
        if error.status == NOT_FOUND:
            return []
        raise
    preferred = said.get("preferredVersion", {}).get("version")
    versions = [each["version"] for each in said.get("versions", ())]
    return sorted(versions, key=lambda version: version != preferred)


async def _plurals(api: Api, group: str, version: str) -> Mapping[str, str]:
    root = f"/apis/{group}/{version}" if group else f"/api/{version}"
    try:
        said = orjson.loads(await api.get(root))
    except ApiError as error:
        if error.status == NOT_FOUND:
            return {}
        raise
    return {each["kind"]: each["name"] for each in said.get("resources", ()) if "/" not in each["name"]}
