import subprocess
from pathlib import Path

import pytest
import yaml

from pointsman.bootstrap import address, binary, bootstrap, command
from pointsman.failure import Failure


def test_envoy_accepts_the_bootstrap(tmp_path: Path) -> None:
    config = tmp_path / "envoy.yaml"
    config.write_text(
        bootstrap(xds=f"unix:{tmp_path}/xds.sock", picker="127.0.0.1:9002", admin=f"unix:{tmp_path}/admin.sock")
    )
    done = subprocess.run(
        [*command(binary(), config), "--mode", "validate"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_addresses_and_names_are_filled_in() -> None:
    text = bootstrap(xds="unix:/run/x.sock", picker="127.0.0.1:9002", admin="unix:/run/a.sock", node='a"b', group="g")
    config = yaml.safe_load(text)
    assert config["node"] == {"id": 'a"b', "cluster": "g", "metadata": {"role": "envoy"}}
    assert config["admin"]["address"]["pipe"]["path"] == "/run/a.sock"
    clusters = {cluster["name"]: cluster for cluster in config["static_resources"]["clusters"]}
    picker = clusters["pointsman-picker"]["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]
    assert picker == {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 9002}}}


def test_an_ipv6_address_has_brackets() -> None:
    assert address("[::1]:80") == {"socket_address": {"address": "::1", "port_value": 80}}


@pytest.mark.parametrize("text", ["", "8080", "host:", "host:http"])
def test_other_addresses_are_errors(text: str) -> None:
    with pytest.raises(ValueError, match="neither unix:PATH nor HOST:PORT"):
        address(text)


def test_another_envoy_can_be_chosen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("POINTSMAN_ENVOY", "/bin/sh")
    assert binary() == Path("/bin/sh")
    monkeypatch.setenv("POINTSMAN_ENVOY", str(tmp_path / "none"))
    with pytest.raises(Failure, match="no such program"):
        binary()


def test_the_number_of_workers_can_be_chosen() -> None:
    words = command(Path("envoy"), Path("config"), concurrency=7)
    assert words[words.index("--concurrency") + 1] == "7"
