"""What can be known of the compose file and the image without an engine: that they say what is there."""

import re
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
GATEWAY = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["gateway"]


def test_every_file_it_names_exists() -> None:
    build = GATEWAY["build"]
    assert (ROOT / build["context"] / build["dockerfile"]).is_file()
    for volume in GATEWAY["volumes"]:
        assert (ROOT / volume.split(":")[0]).is_dir()


def test_what_the_image_copies_exists() -> None:
    copied = re.findall(r"^COPY (\S+) ", (ROOT / "envoy" / "Dockerfile").read_text(), re.MULTILINE)
    assert copied
    assert all((ROOT / name).exists() for name in copied)


def test_the_command_is_one_that_pointsman_takes() -> None:
    command, folder, *options = GATEWAY["command"]
    assert folder == GATEWAY["volumes"][0].split(":")[1]
    said = subprocess.run(
        [sys.executable, "-m", "pointsman", command, "--help"], check=True, capture_output=True, text=True
    ).stdout
    assert all(option in said for option in options if option.startswith("--"))


def test_the_port_that_is_published_is_the_gateways() -> None:
    gateway = next(
        document
        for document in yaml.safe_load_all((ROOT / "examples/model-routing/gateway.yaml").read_text())
        if document["kind"] == "Gateway"
    )
    ports = {str(listener["port"]) for listener in gateway["spec"]["listeners"]}
    assert {port.split(":")[1] for port in GATEWAY["ports"]} == ports
