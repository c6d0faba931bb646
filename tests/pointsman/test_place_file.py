from pathlib import Path

from pointsman.place_file import load, save
from pointsman.placement import Placement

PLACES = {
    ("default/a", 80): Placement("127.0.0.1", 10080, moved_from=80),
    ("default/b", 8080): Placement("127.0.0.2", 8080),
}


def test_places_are_the_same_after_a_restart(tmp_path: Path) -> None:
    save(tmp_path / "places.json", PLACES)
    assert load(tmp_path / "places.json") == PLACES
    assert [file.name for file in tmp_path.iterdir()] == ["places.json"]


def test_without_a_file_there_are_no_places(tmp_path: Path) -> None:
    assert load(tmp_path / "none") == {}


def test_a_file_that_is_broken_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "places.json").write_text("[{")
    assert load(tmp_path / "places.json") == {}
