"""What can be known of the compose file without an engine: that its parts agree. tests/integration runs them."""

from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
import yaml
from compose import FILE, ROOT, SERVICES, address, option, volumes

from pointsman.bootstrap import bootstrap
from pointsman.control_plane import ControlPlane
from pointsman.placement import Host
from pointsman.sites import OneMachine
from pointsman.translation_settings import settings
from resources import Gateway
from sources import FolderSource

BOOTSTRAP = ROOT / "deploy" / "compose" / "envoy.yaml"
SERVERS = [name for name in SERVICES if SERVICES[name]["image"].startswith("pointsman-simulator")]


@pytest.mark.parametrize("service", SERVICES)
def test_every_file_that_a_service_names_exists(service: str) -> None:
    build = SERVICES[service]["build"]
    assert (ROOT / build["context"] / build["dockerfile"]).is_file()
    assert all(path.exists() for path in volumes(service).values())


@pytest.mark.parametrize("service", SERVICES)
def test_no_service_may_do_more_than_it_has_to(service: str) -> None:
    assert SERVICES[service]["read_only"]
    assert SERVICES[service]["cap_drop"] == ["ALL"]
    assert SERVICES[service]["security_opt"] == ["no-new-privileges:true"]


def test_each_service_has_an_address_of_its_own() -> None:
    addresses = [ip_address(address(service)) for service in SERVICES]
    network = ip_network(FILE["networks"]["gateway"]["ipam"]["config"][0]["subnet"])
    assert len({*addresses}) == len(addresses)
    # The first is the host's.
    assert all(each in network and each != network[1] for each in addresses)
    for service, name in (("control-plane", "--xds"), ("control-plane", "--admin"), ("picker", "--listen")):
        assert option(service, name).partition(":")[0] == address(service)
    for server in SERVERS:
        assert option(server, "--host") == address(server)


def test_envoys_bootstrap_is_current(request: pytest.FixtureRequest) -> None:
    xds, picker = option("control-plane", "--xds"), option("picker", "--listen")
    assert option("picker", "--xds") == xds
    assert volumes("envoy")[option("envoy", "--config-path")] == BOOTSTRAP
    rendered = bootstrap(xds=xds, picker=picker, admin="127.0.0.1:9901")
    wanted = f"# envoy/bootstrap.yaml with the addresses of docker-compose.yml.\n{rendered}"
    if request.config.getoption("--update-goldens"):
        BOOTSTRAP.write_text(wanted)
    assert wanted == BOOTSTRAP.read_text(), "`make goldens` writes it anew"


def test_pods_and_ports_are_what_the_manifests_say() -> None:
    bound = Host(bind=option("control-plane", "--bind"))
    plane = ControlPlane(OneMachine(host=bound, publish=lambda _: None), settings(bound.bind, None))
    plane.take(FolderSource(list(volumes("control-plane").values())).read())
    translation = plane.state.translation
    assert translation is not None
    assert not plane.state.problems
    (gateway,) = translation.summary
    served = {model: sorted(pod for pod, _ in pool.pods) for pool in gateway.pools for model in pool.models}
    assert served == {
        "deepseek-r1": ["default/deepseek-r1-1"],
        "qwen": ["default/qwen-1", "default/qwen-2"],
    }
    addresses = {pod.partition("/")[2]: where for pool in gateway.pools for pod, where in pool.pods}
    assert addresses == {server: f"{address(server)}:{option(server, '--port')}" for server in SERVERS}
    (resource,) = plane.world.all(Gateway).values()
    ports = {str(listener.port) for listener in resource.spec.listeners}
    assert {port.rpartition(":")[2] for port in SERVICES["envoy"]["ports"]} == ports
    for service, name in (("control-plane", "--admin"), ("picker", "--metrics")):
        (published,) = SERVICES[service]["ports"]
        assert published.rpartition(":")[2] == option(service, name).rpartition(":")[2]


def test_the_servers_are_those_of_the_example() -> None:
    (folder,) = (path for path in volumes("control-plane").values() if path.parent.name == "examples")
    commands = {
        document["metadata"]["name"]: document["spec"]["template"]["spec"]["containers"][0]["args"][0].split()
        for document in yaml.safe_load_all((folder / "model-servers.yaml").read_text())
        if document["kind"] == "Deployment"
    }
    for server in SERVERS:
        command = [word for word in SERVICES[server]["command"] if word not in {"--host", address(server)}]
        assert command == commands[server.rpartition("-")[0]]


def test_the_readme_tells_the_two_questions() -> None:
    text = Path(ROOT / "docker-compose.yml").read_text()
    (port,) = (each.partition(":")[0] for each in SERVICES["envoy"]["ports"])
    assert f"curl http://localhost:{port}/v1/chat/completions" in text
