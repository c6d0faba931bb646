"""Which containers are endpoint pickers, and what becomes of their pods."""

import pytest
import yaml

from resources import PLAINTEXT_ANNOTATION, PORTS_ANNOTATION, Container, Pod, Upsert, World, decode
from simulator import CommandError, manifests, plan
from simulator.endpoint_pickers import PickerPlan, find_picker
from simulator.picker_pods import find_site
from simulator.variables import Variables

EPP = "registry.example/inference/epp:v1"


def picker(*args: str, image: str = EPP) -> PickerPlan | None:
    return find_picker(Container(name="c", image=image, args=args), Variables(World(), "ns"), "ns")


@pytest.mark.parametrize("image", [EPP, "epp", "a/b/lwepp@sha256:12", "localhost:5000/llm-d-inference-scheduler:main"])
def test_images_of_pickers(image: str) -> None:
    assert picker("-poolName", "p", image=image) == PickerPlan("c", "ns/p")


@pytest.mark.parametrize("image", ["", "vllm/vllm-openai:v1", "epp/server:1", "a/epper:1"])
def test_images_of_others(image: str) -> None:
    assert picker("-poolName", "p", image=image) is None


@pytest.mark.parametrize(
    "flags",
    [
        "-poolName p -v 4 --zap-encoder json -poolNamespace other -grpcPort 1 -grpcHealthPort 2 -metricsPort 3",
        "--poolName=p --poolNamespace=other --grpcPort=1 --grpcHealthPort=2 --metricsPort=3",
        "--pool-name p --pool-namespace other --grpc-port 1 --grpc-health-port 2 --metrics-port=3 --secure-serving",
    ],
)
def test_flags_with_one_dash_or_two(flags: str) -> None:
    assert picker(*flags.split()) == PickerPlan("c", "other/p", 1, 2, 3)


@pytest.mark.parametrize(
    ("flags", "tls"),
    [
        ("-v 4", "self-signed"),
        ("-secureServing -v 4", "self-signed"),
        ("--secure-serving=true --cert-path /tls", "/tls"),
        ("--secureServing=false -certPath /tls", "off"),
    ],
)
def test_what_it_shows_gateways(flags: str, tls: str) -> None:
    assert picker("-poolName", "p", *flags.split()) == PickerPlan("c", "ns/p", tls=tls)


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        ("-grpcPort 9002", "container c: -poolName: no pool is given"),
        ("-poolName p -grpcPort http", "container c: -grpcPort: expected a port, got 'http'"),
        ("-poolName p -grpcHealthPort 0", "container c: -grpcHealthPort: expected a port, got '0'"),
    ],
)
def test_a_picker_that_would_not_start(flags: str, reason: str) -> None:
    with pytest.raises(CommandError, match=reason):
        picker(*flags.split())


DEPLOYMENT = f"""
apiVersion: apps/v1
kind: Deployment
metadata: {{name: chooser, namespace: shop}}
spec:
  template:
    metadata: {{labels: {{app: chooser}}}}
    spec:
      containers:
      - {{name: proxy, image: other}}
      - name: epp
        image: {EPP}
        args: [-poolName, $(POOL)]
        env: [{{name: POOL, value: qwen}}]
        ports: [{{containerPort: 9002}}]
"""


def test_a_deployment_of_a_picker_has_pods_that_are_ready_when_it_listens() -> None:
    deployment = decode(yaml.safe_load(DEPLOYMENT)).object
    assert deployment is not None
    made = plan(World().apply([Upsert(deployment)]))
    assert made.notices == ()
    [wanted] = made.pods
    assert (wanted.picker, wanted.container) == (PickerPlan("epp", "shop/qwen"), "epp")

    def pod(ports: dict[int, int] | None) -> Pod:
        found = decode(manifests.pod(wanted, "127.0.9.9", None, picker_ports=ports)).object
        assert isinstance(found, Pod)
        return found

    assert not pod(None).ready
    same, moved = pod({9002: 9002, 9003: 9003}), pod({9002: 54321, 9003: 54322})
    assert same.ready
    assert moved.ready
    assert same.metadata.annotations[PLAINTEXT_ANNOTATION] == "true"
    assert PORTS_ANNOTATION not in same.metadata.annotations
    assert (same.listening(9002), moved.listening(9002)) == (9002, 54321)


def test_a_picker_has_an_address_on_which_its_ports_are_free() -> None:
    wanted = PickerPlan("c", "ns/p", 29002, 29003, 29090)
    # An address that no machine has leaves the one that every machine has.
    site = find_site(wanted, ["192.0.2.1"])
    assert site.address == "127.0.0.1"
    assert site.ports.keys() == set(wanted.ports)
    assert len(set(site.ports.values())) == 3
