"""From manifests in YAML to a World, without sources/: the translators know nothing of where objects come from."""

from collections.abc import Iterable, Mapping

import yaml

from resources import Object, Upsert, World, decode
from translators import Memo, Settings, Translation, translate


def objects_of(text: str) -> list[Object]:
    """Decode every document; a typing error in a test's own input is an error here."""
    found = []
    for document in yaml.safe_load_all(text):
        assert isinstance(document, Mapping), document
        decoded = decode(document)
        assert decoded.object is not None, decoded.ignored
        assert not decoded.ignored, decoded.ignored
        found.append(decoded.object)
    return found


def world_of(*texts: str) -> World:
    return world_with(each for text in texts for each in objects_of(text))


def world_with(objects: Iterable[Object]) -> World:
    return World().apply(Upsert(each) for each in objects)


def translation_of(*texts: str, settings: Settings | None = None) -> Translation:
    return translate(world_of(*texts), settings or Settings(), Memo())
