from pathlib import Path

import pytest

from lora_syncer import Settings, parse


def test_defaults() -> None:
    assert parse([], {}) == Settings(Path("/config/configmap.yaml"), 300, 2, 5, 8080)


def test_the_environment_names_the_file_and_a_flag_wins() -> None:
    environment = {"DYNAMIC_LORA_ROLLOUT_CONFIG": "/a"}
    assert parse([], environment).config == Path("/a")
    assert parse(["--config", "/b"], environment).config == Path("/b")


def test_all_flags() -> None:
    flags = "--health-check-timeout 60 --health-check-interval 1 --reconcile-trigger 0.5 --metrics-port 9 --config-val"
    assert parse(flags.split(), {}) == Settings(Path("/config/configmap.yaml"), 60, 1, 0.5, 9)


@pytest.mark.parametrize("flags", ["--metrics-port x", "--metrics-port 70000", "--reconcile-trigger 0", "--other"])
def test_mistakes(flags: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(flags.split(), {})
    assert flags.split(maxsplit=1)[0] in capsys.readouterr().err


def test_localhost_in_a_pod_without_a_network_of_its_own() -> None:
    plain = parse([], {})
    assert plain.address("localhost", 8000) == ("localhost", 8000)
    settings = parse([], {"POINTSMAN_LOCALHOST": "127.1.2.3", "POINTSMAN_LISTENING_PORTS": "8000=53211"})
    assert settings.address("localhost", 8000) == ("127.1.2.3", 53211)
    assert settings.address("127.0.0.1", 8001) == ("127.1.2.3", 8001)
    assert settings.address("vllm", 8000) == ("vllm", 8000)
