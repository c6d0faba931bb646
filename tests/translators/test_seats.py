"""What each of our pickers is told, where they have Services: its pools and their endpoints, and no others."""

from golden_files import FOLDER, world_of

from protos.pointsman.picker.v1.pool_pb2 import Pool
from translators import Memo, Settings, Translation, translate
from translators.translation import ENDPOINTS, POOL


def translated(case: str) -> Translation:
    text = (FOLDER / case / "in.yaml").read_text(encoding="utf-8")
    return translate(world_of(text), Settings(picker_services=True), Memo())


def told(translation: Translation) -> dict[str, dict[str, set[str]]]:
    return {
        seat.removeprefix("picker/default/"): {
            "pools": {each.name for each in resources if each.type_url == POOL},
            "endpoints": {each.name for each in resources if each.type_url == ENDPOINTS},
        }
        for seat, resources in translation.pickers.items()
    }


def test_pools_that_share_a_picker_are_told_to_it_with_their_endpoints() -> None:
    assert told(translated("picker-services")) == {
        "alone-picker/9002": {"pools": {"default/alone"}, "endpoints": {"inferencepool/default/alone"}},
        "epp/9002": {
            "pools": {"default/one", "default/two"},
            "endpoints": {"xinferencepool/default/one", "xinferencepool/default/two"},
        },
    }


def test_a_picker_that_stands_in_is_told_so() -> None:
    found = translated("stand-ins")
    assert told(found) == {
        f"{name}-stand-in/9002": {"pools": {f"default/{name}"}, "endpoints": {f"xinferencepool/default/{name}"}}
        for name in ("away", "served")
    }
    pools = [each.message for resources in found.pickers.values() for each in resources if each.type_url == POOL]
    assert all(isinstance(pool, Pool) and pool.stand_in for pool in pools)
