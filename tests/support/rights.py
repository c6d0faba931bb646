"""The rights that roles give, and those that were used, as the API server's audit log tells."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_CREATED = 201
_FORBIDDEN = 403


@dataclass(frozen=True, order=True)
class Right:
    """One verb on one kind, "get configmaps", "patch gateways/status of gateway.networking.k8s.io"."""

    group: str
    resource: str
    verb: str

    def __str__(self) -> str:
        return f"{self.verb} {self.resource}" + (f" of {self.group}" if self.group else "")


def granted(roles: Iterable[Mapping[str, Any]]) -> set[Right]:
    """What Roles and ClusterRoles give."""
    return {
        Right(group, resource, verb)
        for role in roles
        for rule in role["rules"]
        for group in rule.get("apiGroups", ())
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


class Requests:
    """What a service account has asked for until now."""

    def __init__(self, log: Path, namespace: str, account: str) -> None:
        self._log = log
        self._user = f"system:serviceaccount:{namespace}:{account}"

    def refused(self) -> list[str]:
        """What it may not do, and has asked for."""
        return [event["requestURI"] for event in self._events() if event["responseStatus"]["code"] == _FORBIDDEN]

    def used(self) -> set[Right]:
        """The rights without which something would have been refused."""
        found = set()
        for event in self._events():
            target = event.get("objectRef")
            if target is None or "resource" not in target:
                continue  # discovery, which everybody may
            resource = "/".join(filter(None, (target["resource"], target.get("subresource"))))
            verbs = [event["verb"]]
            # An apply that makes the object needs the right to create, too (apiserver, PatchResource).
            if event["verb"] == "patch" and event["responseStatus"]["code"] == _CREATED:
                verbs.append("create")
            found |= {Right(target.get("apiGroup", ""), resource, verb) for verb in verbs}
        return found

    def followed(self, resource: str) -> set[tuple[str, str]]:
        """The objects that were listed or watched, by namespace and name; "" where that was not restricted."""
        return {
            (event["objectRef"].get("namespace", ""), event["objectRef"].get("name", ""))
            for event in self._events()
            if event["verb"] in {"list", "watch"} and event.get("objectRef", {}).get("resource") == resource
        }

    def _events(self) -> Iterator[dict[str, Any]]:
        for line in self._log.read_text().splitlines():
            # The last one may be half written.
            if line.endswith("}"):
                event = json.loads(line)
                if event["user"]["username"] == self._user and "responseStatus" in event:
                    yield event
