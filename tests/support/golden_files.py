"""Golden cases: manifests in, Envoy's configuration and the statuses out, as YAML for people to review.

What repeats within a file stands there once, under an anchor. A listener shows where it differs from that of a plain
Gateway; the case FULL shows that one whole, and what features a GatewayClass names. Nothing else is left out.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import yaml
from certificates import blanked, filled
from manifests import translation_of, world_of

from pointsman.rendering import render
from translators import Memo, Placement, Resource, Settings, Translation, translate

if TYPE_CHECKING:
    from _typeshed import SupportsItems

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

FOLDER = Path(__file__).parent.parent / "translators" / "goldens"
FULL = "model-routing"

# Shorter things are easier to read twice than to look up.
_WORTH_AN_ANCHOR = 150
_WIDTH = 150
_PLAIN_GATEWAY = """
{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {name: plain}, spec: {gatewayClassName: any,
  listeners: [{name: http, port: 80, protocol: HTTP}]}}
"""


@dataclass(frozen=True)
class Case:
    """A folder with in.yaml, what it is translated to, and perhaps settings.yaml."""

    folder: Path

    @property
    def name(self) -> str:
        return self.folder.name

    @cached_property
    def settings(self) -> Settings:
        path = self.folder / "settings.yaml"
        given = yaml.safe_load(path.read_text(encoding="utf-8")) if path.exists() else {}
        placements = {
            (gateway, port): Placement(address, number)
            for gateway, port, address, number in given.pop("placements", ())
        }
        controllers = given.pop("controllers", None)
        ours = None if controllers is None else frozenset(controllers)
        return Settings(placements=placements, controllers=ours, **given)

    @cached_property
    def translation(self) -> Translation:
        text = filled((self.folder / "in.yaml").read_text(encoding="utf-8"))
        return translate(world_of(text), self.settings, Memo())

    def texts(self) -> Mapping[str, str]:
        """Return what the golden files should hold, by name."""
        plain = None if self.name == FULL else _plain_listener(self.settings)
        config = {name: _gateway(resources, plain) for name, resources in self.translation.gateways.items()}
        return {
            "envoy.yaml": blanked(_dump(config)),
            "status.yaml": _dump(_outcome(self.translation, whole=plain is None)),
        }

    def stale(self) -> list[Path]:
        """Return the files that no case has."""
        known = {"in.yaml", "settings.yaml", "envoy.yaml", "status.yaml"}
        return [path for path in self.folder.iterdir() if path.name not in known]


def cases() -> list[Case]:
    return [Case(path.parent) for path in sorted(FOLDER.glob("*/in.yaml"))]


def abandoned() -> Iterator[Path]:
    """Yield the folders without manifests."""
    yield from (path for path in sorted(FOLDER.iterdir()) if not (path / "in.yaml").exists())


def _gateway(resources: Iterable[Resource], plain: Json) -> Json:
    by_type: dict[str, dict[str, Json]] = {}
    for each in resources:
        kind = each.type_url.rpartition(".")[2]
        rendered = render(each.message)
        if kind == "Listener" and plain is not None:
            rendered = _difference(rendered, plain)
        entry: dict[str, Json] = {"origin": each.origin}
        if each.pulls:
            entry["pulls"] = " ".join((each.pulls[0].rpartition(".")[2], each.pulls[1]))
        assert isinstance(rendered, dict)
        by_type.setdefault(kind, {})[each.name] = {**entry, **rendered}
    return {kind: dict(entries) for kind, entries in by_type.items()}


def _plain_listener(settings: Settings) -> Json:
    """Render the listener of a Gateway that has nothing to say."""
    plain = Settings(model_finder=settings.model_finder)
    resources = translation_of(_PLAIN_GATEWAY, settings=plain).gateways["default/plain"]
    return next(render(each.message) for each in resources if each.type_url.endswith(".Listener"))


def _difference(shown: Json, plain: Json) -> Json:
    """Return what is shown without the fields that are the same in the plain one."""
    if isinstance(shown, dict) and isinstance(plain, dict):
        # What the plain one has beyond this must not vanish from sight.
        missing: dict[str, Json] = {key: None for key in plain if key not in shown}
        rest = {key: _difference(value, plain.get(key)) for key, value in shown.items() if value != plain.get(key)}
        return {**rest, **missing}
    if isinstance(shown, list) and isinstance(plain, list) and len(shown) == len(plain):
        return [_difference(a, b) for a, b in zip(shown, plain, strict=True) if a != b]
    if isinstance(shown, list) and isinstance(plain, list) and len(plain) == 1:
        # Each of several is as the one would be.
        return [_difference(each, plain[0]) for each in shown]
    return shown


def _outcome(translation: Translation, *, whole: bool) -> Json:
    left_out = set() if whole else {"supportedFeatures"}
    statuses = [
        {
            "object": str(status.key),
            "group": status.key.group,
            "status": _plain({name: value for name, value in status.body.items() if name not in left_out}),
        }
        for status in translation.statuses
    ]
    return {
        "statuses": list(statuses),
        "problems": list(translation.problems),
        "notices": list(translation.notices),
        "summary": [_plain(asdict(each)) for each in translation.summary],
    }


def _plain(value: object) -> Json:
    """Return tuples as lists."""
    plain: Json = json.loads(json.dumps(value))
    return plain


class _Dumper(yaml.SafeDumper):
    """Anchors are named after what they stand for where that is known."""

    def represent_sequence(
        self,
        tag: str,
        sequence: Iterable[object],
        flow_style: bool | None = None,  # noqa: FBT001 - PyYAML's
    ) -> yaml.SequenceNode:
        # Sentences stand on lines of their own.
        sentences = any(isinstance(each, str) and " " in each for each in sequence)
        return super().represent_sequence(tag, sequence, flow_style=False if sentences else flow_style)

    def represent_mapping(
        self,
        tag: str,
        mapping: "SupportsItems[Any, Any] | Iterable[tuple[Any, Any]]",
        flow_style: bool | None = None,  # noqa: FBT001 - PyYAML's
    ) -> yaml.MappingNode:
        long = len(str(mapping)) > _WIDTH
        return super().represent_mapping(tag, mapping, flow_style=False if long else flow_style)

    def generate_anchor(self, node: yaml.Node) -> str:
        count = self.last_anchor_id = self.last_anchor_id + 1
        return f"{_title(node)}{count}"


def _title(node: yaml.Node) -> str:
    entries = {key.value: value for key, value in node.value} if isinstance(node, yaml.MappingNode) else {}
    kind = entries.get("@type")
    return str(kind.value).rpartition(".")[2] if isinstance(kind, yaml.ScalarNode) else "same"


def _dump(value: Json) -> str:
    shared = _share(value, {})
    return yaml.dump(
        shared, Dumper=_Dumper, sort_keys=False, width=10_000, default_flow_style=None, allow_unicode=True, indent=2
    )


def _share(value: Json, seen: dict[str, Json]) -> Json:
    """Make equal parts the same object, which YAML writes once."""
    made: Json = value
    if isinstance(value, dict):
        made = {key: _share(child, seen) for key, child in value.items()}
    elif isinstance(value, list):
        made = [_share(child, seen) for child in value]
    if not isinstance(made, dict | list):
        return made
    text = json.dumps(made)
    return seen.setdefault(text, made) if len(text) > _WORTH_AN_ANCHOR else json.loads(text)
