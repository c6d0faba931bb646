"""What can be known of the script for kind without an engine. `tests/kubernetes` serves its scenario."""

import re
import subprocess

import charts
import pytest
import yaml
from compose import ROOT, dockerfile

SCRIPT = ROOT / "deploy" / "kind" / "run.sh"
TEXT = SCRIPT.read_text()
SCENARIO = [*yaml.safe_load_all((ROOT / "deploy" / "kind" / "scenario.yaml").read_text())]


def containers() -> list[dict[str, object]]:
    pods = [each["spec"]["template"]["spec"] for each in SCENARIO if each["kind"] == "Deployment"]
    return [each for pod in pods for each in (*pod["initContainers"], *pod["containers"])]


def test_it_is_a_script() -> None:
    assert SCRIPT.stat().st_mode & 0o111
    subprocess.run(["bash", "-n", SCRIPT], check=True)  # noqa: S607 - the one on the path


def test_every_file_that_it_names_exists() -> None:
    names = re.findall(r"(?:deploy|envoy)/[\w./-]+", TEXT)
    assert len(set(names)) > 5
    assert all((ROOT / name).exists() for name in names)


def test_it_builds_and_loads_what_the_scenario_runs() -> None:
    built = set(re.findall(r"docker build -t (\S+)", TEXT))
    (loaded,) = re.findall(r"kind load docker-image --name \S+ (.*)", TEXT)
    assert set(loaded.split()) == built
    assert {each["image"] for each in containers()} <= built
    chart = dict(re.findall(r"--set (image\.tag|envoy\.image)=(\S+)", TEXT))
    assert {f"pointsman:{chart['image.tag']}", chart["envoy.image"]} <= built
    for each in containers():
        # None is looked for elsewhere: a tag other than "latest" is not pulled where it is loaded.
        assert not str(each["image"]).endswith(":latest")
    values = yaml.safe_load((charts.CHART / "values.yaml").read_text())
    assert dockerfile(ROOT / "envoy" / "Dockerfile")["ARG"] == [[f"BASE={values['envoy']['image']}"]]


def test_what_it_waits_for_is_what_is_made() -> None:
    (gateway,) = [each for each in SCENARIO if each["kind"] == "Gateway"]
    values = yaml.safe_load((charts.CHART / "values.yaml").read_text())
    assert gateway["spec"]["gatewayClassName"] == values["gatewayClass"]["name"]
    made = f"{gateway['metadata']['name']}-{gateway['spec']['gatewayClassName']}"
    assert f"deployment/{made}" in TEXT
    (port,) = (each["port"] for each in gateway["spec"]["listeners"])
    assert f'service/{made} "$port:{port}"' in TEXT
    (pool,) = [each for each in SCENARIO if each["kind"] == "InferencePool"]
    assert f"deployment/{pool['spec']['extensionRef']['name']}" in TEXT
    (model,) = [each for each in SCENARIO if each["kind"] == "InferenceModel"]
    assert f'"model": "{model["spec"]["modelName"]}"' in TEXT


@pytest.mark.parametrize("container", containers(), ids=lambda each: each["name"])
def test_the_pods_meet_the_restricted_standard(container: dict[str, object]) -> None:
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
