"""docker-compose.yml as the tests read it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
FILE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: Mapping[str, Mapping[str, Any]] = FILE["services"]


def address(service: str) -> str:
    """The address of a service on the compose network."""
    found: str = SERVICES[service]["networks"]["gateway"]["ipv4_address"]
    return found


def option(service: str, name: str) -> str:
    """What follows an option in a service's command."""
    command: list[str] = SERVICES[service]["command"]
    return command[command.index(name) + 1]


def volumes(service: str) -> dict[str, Path]:
    """What a service has mounted: the path in the container, and where it comes from."""
    mounts = (volume.split(":") for volume in SERVICES[service].get("volumes", ()))
    return {inside: ROOT / outside for outside, inside, *_ in mounts}


def entrypoint(service: str) -> list[str]:
    """What the image of a service starts."""
    return dockerfile(ROOT / SERVICES[service]["build"]["dockerfile"])["ENTRYPOINT"][-1]


def dockerfile(path: Path) -> dict[str, list[list[str]]]:
    """The instructions of a Dockerfile, each with the words of its occurrences; lists are YAML as well."""
    found: dict[str, list[list[str]]] = {}
    for line in path.read_text().replace("\\\n", " ").splitlines():
        if line.strip() and not line.startswith("#"):
            name, _, rest = line.partition(" ")
            found.setdefault(name, []).append(yaml.safe_load(rest) if rest.startswith("[") else rest.split())
    return found
