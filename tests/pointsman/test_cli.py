import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from pointsman.cli import app

EXAMPLE = Path(__file__).parents[2] / "examples" / "model-routing"
ROUTE = """
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: chat}
spec:
  parentRefs: [{name: missing}]
  unheard: of
  rules: [{backendRefs: [{name: nothing, port: 80}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: broken}
spec:
  gatewayClassName: c
  listeners: [{name: http, protocol: HTTP, port: many}]
"""

run = CliRunner().invoke


def test_check_of_a_good_folder() -> None:
    result = run(app, ["check", str(EXAMPLE)])
    assert (result.exit_code, result.stdout) == (0, "no problems\n")


def test_check_names_every_problem_once(tmp_path: Path) -> None:
    (tmp_path / "route.yaml").write_text(ROUTE)
    result = run(app, ["check", str(tmp_path)])
    lines = result.stdout.splitlines()
    assert result.exit_code == 1
    assert len(set(lines)) == len(lines)
    (port,) = [line for line in lines if "spec.listeners[0].port" in line]
    assert port.startswith(f"{tmp_path / 'route.yaml'}:")
    assert any(line.startswith("note: ") and "spec.unheard" in line for line in lines)


def test_translate_prints_configuration_and_statuses() -> None:
    result = run(app, ["translate", str(EXAMPLE)])
    assert result.exit_code == 0
    printed = yaml.safe_load(result.stdout)
    sections = printed["gateways"]["default/inference-gateway"]
    assert [name for name in ("listeners", "routes", "clusters", "endpoints", "pools") if name not in sections] == []
    assert {status["kind"] for status in printed["statuses"]} >= {"Gateway", "HTTPRoute", "InferencePool"}
    assert printed["problems"] == []


def test_translate_says_the_same_twice() -> None:
    assert run(app, ["translate", str(EXAMPLE)]).stdout == run(app, ["translate", str(EXAMPLE)]).stdout


def test_the_way_of_finding_the_model_can_be_chosen() -> None:
    result = run(app, ["translate", str(EXAMPLE), "--model-finder", "ai_protocol_manager"])
    assert "ai_protocol_manager.v3.AiProtocolManager" in result.stdout
    assert "filters.http.lua/model" not in result.stdout


@pytest.mark.parametrize("command", ["check", "translate", "up", "demo"])
def test_a_folder_that_is_not_there_is_one_clear_line(command: str, tmp_path: Path) -> None:
    result = run(app, [command, str(tmp_path / "none")])
    assert result.exit_code == 2
    assert result.stderr == f"pointsman: {tmp_path / 'none'}: no such folder\n"


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert run(app, ["check", str(tmp_path / "file")]).stderr == f"pointsman: {tmp_path / 'file'}: not a folder\n"


def test_the_version_is_printed_and_starts_fast() -> None:
    heavy = {"grpc", "envoy_data_plane", "rich", "aiohttp"}
    code = f"import sys, pointsman.cli; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
    assert run(app, ["version"]).stdout.strip()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            "control-plane {folder} --xds nonsense --admin 127.0.0.1:0",
            "--xds nonsense: neither unix:PATH nor HOST:PORT",
        ),
        ("control-plane {folder} --xds unix:/x --admin 1x", "--admin 1x: neither unix:PATH nor HOST:PORT"),
        ("control-plane {folder}/none --xds unix:/x --admin unix:/y", "{folder}/none: no such folder"),
        ("picker --xds unix:/x --listen unix:/y --metrics unix:/z", "--metrics unix:/z: not HOST:PORT"),
        (
            "picker --listen unix:/y --metrics 127.0.0.1:0",
            "one of --xds, --folder and --kubernetes says where to learn of pools",
        ),
        (
            "picker --folder {folder} --xds unix:/x --listen unix:/y --metrics 127.0.0.1:0",
            "one of --xds, --folder and --kubernetes says where to learn of pools",
        ),
        (
            "picker --folder {folder} --listen unix:/y --metrics 127.0.0.1:0",
            "--pool says which pool to pick for where there is no control plane",
        ),
        (
            "picker --folder {folder} --pool chat --listen unix:/y --metrics 127.0.0.1:0",
            "--pool chat: not NAMESPACE/NAME",
        ),
        (
            "picker --folder {folder}/none --pool a/b --listen unix:/y --metrics 127.0.0.1:0",
            "{folder}/none: no such folder",
        ),
        (
            "picker --folder {folder} --pool a/b --listen unix:/y --metrics 127.0.0.1:0 --tls {folder}",
            "--tls {folder}/tls.key: No such file or directory",
        ),
        (
            "picker --xds 127.0.0.1:1 --listen unix:/y --metrics 127.0.0.1:0 --trust {folder}",
            "--trust belongs together with one of --token and --certificate",
        ),
        (
            "picker --xds 127.0.0.1:1 --listen unix:/y --metrics 127.0.0.1:0 --trust a --token b --certificate c",
            "--trust belongs together with one of --token and --certificate",
        ),
        (
            "picker --xds unix:/x --pool a/b --listen unix:/y --metrics 127.0.0.1:0 --trust a --token b",
            "--trust, --token and --certificate are for the pickers of our own gateway, not for --pool",
        ),
        (
            "controller --xds unix:/x --admin unix:/y --advertise a:1",
            "--advertise a:1: pods cannot reach --xds unix:/x",
        ),
        (
            "controller --xds 127.0.0.1:0 --admin unix:/y --advertise a:1 --xds-mtls 127.0.0.1:0",
            "--xds-mtls and --advertise-mtls belong together, and with --advertise",
        ),
        (
            "controller --xds 127.0.0.1:0 --admin unix:/y --xds-mtls 127.0.0.1:0 --advertise-mtls a:2",
            "--xds-mtls and --advertise-mtls belong together, and with --advertise",
        ),
        (
            "controller --admin unix:/y --advertise a:1 --xds-mtls 127.0.0.1:0 --advertise-mtls a",
            "--advertise-mtls a: neither unix:PATH nor HOST:PORT",
        ),
        ("controller --admin unix:/y --xds-mtls unix:/z", "--xds-mtls unix:/z: not HOST:PORT"),
        ("simulate {folder} --pods {folder}/none", "{folder}/none: no such folder"),
    ],
)
def test_a_childs_mistaken_option_is_one_clear_line(words: str, message: str, tmp_path: Path) -> None:
    result = run(app, [word.format(folder=tmp_path) for word in words.split()])
    assert result.exit_code == 2
    assert result.stderr == f"pointsman: {message.format(folder=tmp_path)}\n"


def test_crds_are_printed_as_kubectl_takes_them() -> None:
    result = run(app, ["crds"])
    assert result.exit_code == 0
    documents = list(yaml.safe_load_all(result.stdout))
    assert len(documents) > 5
    assert {each["kind"] for each in documents} == {"CustomResourceDefinition"}


def test_crds_are_not_installed_without_a_cluster(tmp_path: Path) -> None:
    (tmp_path / "config").write_text("{}")
    result = run(app, ["crds", "--apply", "--kubeconfig", str(tmp_path / "config")])
    assert result.exit_code == 2
    assert "no cluster" in result.stderr
