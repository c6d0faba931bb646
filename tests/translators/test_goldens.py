import shutil
from pathlib import Path

import pytest
import yaml
from envoy_check import Batch
from golden_files import FULL, Case, abandoned, cases

ALL = cases()


@pytest.fixture(params=ALL, ids=lambda case: case.name)
def case(request: pytest.FixtureRequest) -> Case:
    assert isinstance(request.param, Case)
    return request.param


def test_translation_is_the_golden_one(case: Case, request: pytest.FixtureRequest) -> None:
    update = request.config.getoption("--update-goldens")
    for name, text in case.texts().items():
        path = case.folder / name
        if update and (not path.exists() or path.read_text(encoding="utf-8") != text):
            path.write_text(text, encoding="utf-8")
        golden = path.read_text(encoding="utf-8") if path.exists() else ""
        # Line by line, so that pytest shows the difference.
        assert text.splitlines() == golden.splitlines(), f"{path.name}: see `make goldens`"


def test_there_is_no_golden_that_nobody_produces(request: pytest.FixtureRequest) -> None:
    stale = [*abandoned(), *(path for case in ALL for path in case.stale())]
    if request.config.getoption("--update-goldens"):
        for path in stale:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        stale = []
    assert stale == []


def test_one_golden_shows_the_whole_listener() -> None:
    text = (Case(Path(__file__).parent / "goldens" / FULL).folder / "envoy.yaml").read_text(encoding="utf-8")
    listeners = yaml.safe_load(text)["default/inference-gateway"]["Listener"]
    manager = next(iter(listeners.values()))["filter_chains"][0]["filters"][0]["typed_config"]
    assert {"local_reply_config", "http_filters", "early_header_mutation_extensions"} <= manager.keys()


@pytest.fixture(scope="session")
def complaints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What Envoy has against the goldens; all of them are one bootstrap unless it has something."""
    gateways = ((case, each) for case in ALL for each in case.translation.gateways.items())
    batch = Batch(tuple((f"{case.name}:{name}", resources) for case, (name, resources) in gateways))
    return batch.complaints(tmp_path_factory.mktemp("envoy"))


def test_envoy_accepts_every_golden(complaints: dict[str, str]) -> None:
    assert complaints == {}
