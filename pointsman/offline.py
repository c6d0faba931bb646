"""`pointsman translate` and `pointsman check`: what a folder means, without network, processes or clocks."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import yaml

from pointsman.failure import Failure
from pointsman.placement import Host, Places, place
from pointsman.rendering import render_resource
from pointsman.report import statuses
from pointsman.translation_settings import settings
from pointsman.world_view import wanted, with_slices
from resources import World
from sources import FolderSource, Reading
from translators import Memo, ModelFinder, Resource, Translation, translate

# Envoy's words for what the discovery services serve, in the order in which a request meets them.
_SECTIONS = {
    "Listener": "listeners",
    "RouteConfiguration": "routes",
    "Cluster": "clusters",
    "ClusterLoadAssignment": "endpoints",
    "Secret": "secrets",
    "Pool": "pools",
    "ForeignPool": "pools of other pickers",
}


@dataclass(frozen=True, slots=True)
class Meaning:
    """A folder, read and translated once."""

    reading: Reading
    places: Places
    translation: Translation

    @property
    def problems(self) -> tuple[str, ...]:
        """Everything that keeps a part of the folder from being served."""
        return (*map(str, self.reading.problems), *self.translation.problems)

    @property
    def notices(self) -> tuple[str, ...]:
        """What is ignored or assumed."""
        return (*map(str, self.reading.notices), *self.translation.notices)


def existing(folder: Path) -> Path:
    """Return `folder`.  Failure when it is no folder."""
    if not folder.is_dir():
        raise Failure(f"{folder}: {'not a folder' if folder.exists() else 'no such folder'}")
    return folder


def understand(folder: Path, *, bind: str = "127.0.0.1", model_finder: ModelFinder | None = None) -> Meaning:
    """Read and translate `folder` as for a machine that has every loopback address and may bind every port."""
    reading = FolderSource([existing(folder)]).read()
    world = with_slices(World().apply(reading.changes))
    host = Host(bind=bind, first_port=1, many_loopbacks=True)
    places = place(wanted(world), host, {})
    return Meaning(reading, places, translate(world, settings(host.bind, model_finder, places), Memo()))


def configuration(meaning: Meaning) -> dict[str, object]:
    """Return the Envoy configuration by Gateway, and the statuses, problems and notices, as plain values."""
    translation = meaning.translation
    return {
        "gateways": {name: _sections(resources) for name, resources in translation.gateways.items()},
        "statuses": statuses(translation.statuses),
        "problems": list(meaning.problems),
        "notices": list(meaning.notices),
    }


def as_yaml(value: object) -> str:
    """Return plain values as YAML, keys in their own order, long lines unbroken, nothing abbreviated by anchors."""
    text: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=2**31)
    return text


def _sections(resources: Iterable[Resource]) -> dict[str, list[object]]:
    sections: dict[str, list[object]] = {section: [] for section in _SECTIONS.values()}
    for each in sorted(resources, key=lambda each: (each.type_url, each.name)):
        section = _SECTIONS.get(each.type_url.rpartition(".")[2], each.type_url)
        sections.setdefault(section, []).append(render_resource(each.type_url, each.message))
    return {section: found for section, found in sections.items() if found}


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002 - PyYAML's signature
        return True
