"""A real API server whose pods are processes, made by `minikluster`: one cluster for all tests that ask for it."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import cluster_images
import pytest
from controllers import Controller, install_apis
from minikluster import build
from minikluster.cluster import Cluster, unmet

_SWITCH = "POINTSMAN_KUBERNETES"

NewCluster = Callable[[str], Cluster]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    reason = f"declined by {_SWITCH}=0" if os.environ.get(_SWITCH) == "0" else unmet()
    if not reason:
        return
    mark = pytest.mark.skip(reason=f"no Kubernetes: {reason}")
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(mark)


@pytest.fixture(scope="session")
def new_cluster(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NewCluster]:
    """Start clusters; they end with the session. Kubernetes is built where it is neither given nor in the cache."""
    if missing := build.missing(build.CLUSTER):
        capture = pytestconfig.pluginmanager.getplugin("capturemanager")
        with capture.global_and_fixture_disabled():
            text = f"Building {', '.join(missing)}: once, for about ten minutes ({_SWITCH}=0 does without) ..."
            pytestconfig.get_terminal_writer().line(f"\n{text}", flush=True)
            build.build(build.CLUSTER)
    with ExitStack() as stack:

        def start(name: str) -> Cluster:
            cluster = Cluster(tmp_path_factory.mktemp(name))
            stack.callback(cluster.down)
            cluster.up([cluster_images.write(tmp_path_factory.mktemp("images"))])
            return cluster

        yield start


@pytest.fixture(scope="session")
def shared_cluster(new_cluster: NewCluster) -> Cluster:
    """The cluster, from outside."""
    return new_cluster("cluster")


@pytest.fixture(scope="session")
def apis(shared_cluster: Cluster) -> Cluster:
    """The cluster, from outside, with the Gateway API's definitions and ours."""
    install_apis(shared_cluster)
    return shared_cluster


@pytest.fixture(scope="session")
def controller(apis: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Controller]:
    """A controller that serves the cluster, as all controllerNames that the tests use."""
    controller = Controller(apis, tmp_path_factory.mktemp("controller"))
    controller.start()
    yield controller
    controller.stop()


@pytest.fixture
def cluster(shared_cluster: Cluster) -> Iterator[Cluster]:
    """The cluster, from inside of its network: pods, Services and Gateways can be asked at their own addresses."""
    with shared_cluster.inside():
        yield shared_cluster
