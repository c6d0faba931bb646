"""What minikluster's README promises."""

import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from minikluster.cluster import Cluster
from minikluster.manifest import Manifest

NewCluster = Callable[[str], Cluster]

NAMESPACE = "smoke"
MANIFEST = Path(__file__).with_name("smoke.yaml").read_text()
_HOST = (
    ("ip", "-brief", "link"), ("ip", "-brief", "address"), ("ip", "route", "show", "table", "all"), ("ip", "netns"),
    ("nft", "list", "ruleset"), ("sysctl", "net.ipv4.ip_forward"), ("findmnt", "--noheadings", "--list"),
)  # fmt: skip


def host_network() -> list[str]:
    """What a cluster could leave on the machine."""
    return [subprocess.run(command, check=True, capture_output=True, text=True).stdout for command in _HOST]


def fetch(address: str) -> str:
    with urllib.request.urlopen(f"http://{address}/scratch/name", timeout=5) as answer:
        text: str = answer.read().decode()
        return text


def eventually(check: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.3)


@pytest.fixture(scope="module")
def smoke(shared_cluster: Cluster) -> Iterator[Cluster]:
    shared_cluster.namespace(NAMESPACE)
    shared_cluster.kubectl("apply", "-n", NAMESPACE, "-f", "-", stdin=MANIFEST)
    shared_cluster.kubectl("rollout", "-n", NAMESPACE, "status", "deployment/web", "--timeout=120s")
    yield shared_cluster
    shared_cluster.kubectl("delete", "namespace", NAMESPACE, "--wait=false")


def first_pod(cluster: Cluster) -> dict[str, str]:
    pod = cluster.get("pods", "-l", "app=web", namespace=NAMESPACE)["items"][0]
    return {"name": pod["metadata"]["name"], "address": f"{pod['status']['podIP']}:3000"}


def test_addresses_answer_on_the_node_and_in_pods(smoke: Cluster) -> None:
    pod, service = first_pod(smoke), smoke.get("service", "web", namespace=NAMESPACE)
    vip = service["status"]["loadBalancer"]["ingress"][0]["ip"]
    assert vip.startswith("172.30.0.")
    addresses = [pod["address"], service["spec"]["clusterIP"], vip]
    names = ["web", "web.smoke.svc", "web.smoke.svc.cluster.local", "headless:3000"]
    with smoke.inside():
        for address in addresses:
            eventually(lambda address=address: answers(address))
    ask = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=5).read().decode())"
    for address in [*addresses, *names]:
        url = f"http://{address}/scratch/name"
        answer = smoke.exec(pod["name"], sys.executable, "-c", ask, url, namespace=NAMESPACE)
        assert answer.strip() == "one", address


def answers(address: str, content: str = "one") -> bool:
    try:
        return fetch(address) == content
    except OSError:
        return False


def test_a_relay_reaches_it_from_outside(smoke: Cluster) -> None:
    service = smoke.get("service", "web", namespace=NAMESPACE)
    address = f"{service['spec']['clusterIP']}:80"
    assert not answers(address)
    with smoke.forward(address) as relay:
        assert relay.startswith("127.0.0.1:")
        assert fetch(relay) == "one"
        # Each connection is one of its own, and both ways are closed as they end.
        assert [fetch(relay) for _ in range(20)] == ["one"] * 20


def test_commands_run_inside(smoke: Cluster) -> None:
    assert "10.244.0.1" in smoke.run(["ip", "-brief", "address"])
    assert "deployment.apps/web" in smoke.run(["kubectl", "get", "-n", NAMESPACE, "deployment", "-o", "name"])


def test_logs(smoke: Cluster) -> None:
    def logs(*arguments: str) -> str:
        return smoke.kubectl("logs", "-n", NAMESPACE, *arguments)

    name = first_pod(smoke)["name"]
    eventually(lambda: "tick" in logs(name, "-c", "sidecar", "--since=5s"))
    assert len(logs(name, "-c", "sidecar", "--tail=1").splitlines()) == 1
    eventually(lambda: "GET /scratch/name" in logs("deployment/web", "-c", "web", "--timestamps"))


def test_variables_and_volumes(smoke: Cluster) -> None:
    name = first_pod(smoke)["name"]
    variables = smoke.exec(name, "env", namespace=NAMESPACE).splitlines()
    assert {f"POD_NAME={name}", "SETTING=one"} <= set(variables)

    def mounted() -> str:
        return smoke.exec("deployment/web", "cat", "/var/run/settings/name", namespace=NAMESPACE)

    assert mounted() == "one"
    smoke.kubectl("patch", "-n", NAMESPACE, "configmap", "settings", "--type=merge", '-p={"data": {"name": "two"}}')
    eventually(lambda: mounted() == "two")


def test_endpoints_follow_the_deployment(smoke: Cluster) -> None:
    def ready() -> int:
        items = smoke.get("endpointslices", "-l", "kubernetes.io/service-name=web", namespace=NAMESPACE)["items"]
        return sum(len(item["endpoints"] or []) for item in items)

    for replicas in (3, 2):
        smoke.kubectl("scale", "-n", NAMESPACE, "deployment/web", f"--replicas={replicas}")
        eventually(lambda replicas=replicas: ready() == replicas)


def test_a_failure_is_reported(smoke: Cluster) -> None:
    eventually(lambda: smoke.get("pod", "failing", namespace=NAMESPACE)["status"]["phase"] == "Failed")
    status = smoke.get("pod", "failing", namespace=NAMESPACE)["status"]
    state = status["containerStatuses"][0]["state"]["terminated"]
    assert (state["exitCode"], state["message"]) == (3, "why\n")


def test_components_are_started_again(smoke: Cluster) -> None:
    """Pods go on while the API server is away, and when only the agent is lost they start anew."""
    pod = first_pod(smoke)
    smoke.stop("kube-apiserver")
    with pytest.raises(RuntimeError, match="refused"):
        smoke.kubectl("get", "nodes")
    with smoke.inside():
        assert answers(pod["address"])
    smoke.up()
    assert first_pod(smoke) == pod
    smoke.stop("agent")
    smoke.up()
    smoke.kubectl("rollout", "-n", NAMESPACE, "status", "deployment/web", "--timeout=120s")


def test_two_side_by_side_leave_the_machine_as_it_was(new_cluster: NewCluster) -> None:
    before = host_network()
    one, two = clusters = [new_cluster(name) for name in ("one", "two")]
    for cluster in clusters:
        cluster.namespace(cluster.state.name)
        cluster.apply(*service(cluster.state.name))
        cluster.kubectl("wait", "pod/web", "--for=condition=Ready", "--timeout=120s")
    assert host_network() == before
    for cluster in clusters:
        namespaces = cluster.kubectl("get", "namespaces", "-o", "name")
        assert [f"namespace/{each.state.name}" in namespaces for each in clusters].count(True) == 1
        address = cluster.get("service", "web")["status"]["loadBalancer"]["ingress"][0]["ip"]
        with cluster.inside():
            eventually(lambda address=address, name=cluster.state.name: answers(address, name))
    one.down()
    with two.inside():
        assert answers(two.get("service", "web")["status"]["loadBalancer"]["ingress"][0]["ip"], two.state.name)
    two.down()
    assert host_network() == before
    for cluster in clusters:
        eventually(lambda cluster=cluster: not processes_of(cluster.state))


def service(content: str) -> list[Manifest]:
    """A web server that has one file, behind a load balancer."""
    command = f"mkdir -p /scratch; printf {content} > /scratch/name; exec {sys.executable} -m http.server 3000 -d /"
    container = {
        "name": "web",
        "image": "busybox",
        "args": ["-c", command],
        "readinessProbe": {"httpGet": {"path": "/scratch/name", "port": 3000}},
    }
    labels = {"app": "web"}
    spec = {"type": "LoadBalancer", "selector": labels, "ports": [{"port": 80, "targetPort": 3000}]}
    return [
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "web", "labels": labels},
            "spec": {"containers": [container]},
        },
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": spec},
    ]


def processes_of(folder: Path) -> list[str]:
    """The processes whose environment names a folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):  # ended meanwhile
            if str(folder).encode() in path.read_bytes():
                found.append(path.parent.name)
    return found


def test_a_cluster_ends_with_its_owner(new_cluster: NewCluster) -> None:
    cluster = new_cluster("owned")
    cluster.down()
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"]) as owner:
        cluster.call("up", f"--owner={owner.pid}")
        assert processes_of(cluster.state)
        owner.kill()
    eventually(lambda: not processes_of(cluster.state))
