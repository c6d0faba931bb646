"""The scenario of deploy/kind on the cluster that is at hand here, and what its programs tell Prometheus."""

import json
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import promql
import pytest
from compose import ROOT
from controllers import ADMIN, NAMES, PATIENCE, Controller
from prometheus_client import generate_latest

from picker.in_flight import InFlight
from picker.pools import Directory
from picker.telemetry import Telemetry
from pointsman.admin import Admin
from pointsman.control_plane import ControlPlane
from pointsman.placement import Host
from pointsman.sites import OneMachine
from pointsman.translation_settings import settings
from xds import Nack, Peer

NAMESPACE = "kind"
SCENARIO = ROOT / "deploy" / "kind" / "scenario.yaml"
CLASS = {
    "apiVersion": "gateway.networking.k8s.io/v1",
    "kind": "GatewayClass",
    "metadata": {"name": "pointsman"},
    "spec": {"controllerName": NAMES[0]},
}


@pytest.fixture(scope="module")
def address(controller: Controller) -> Iterator[str]:
    """Where the scenario's Gateway is."""
    cluster = controller.cluster
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}}, CLASS)
    cluster.kubectl("apply", "-n", NAMESPACE, "-f", str(SCENARIO))
    yield controller.programmed("inference-gateway", NAMESPACE)
    # Nobody waits for the end of it.
    cluster.kubectl("delete", "namespace", NAMESPACE, "--wait=false")


def asked(controller: Controller, address: str, **more: object) -> str:
    """The answer to a question, once there is a good one."""
    body = json.dumps({"model": "food-review", "prompt": "Write as a critic", "max_tokens": 10, **more})
    said: list[str] = []

    def answered() -> bool:
        header = ("-H", "Content-Type: application/json")
        status, text = controller.fetch(f"{address}/v1/completions", *header, "-d", body)
        said.append(text)
        return status == 200

    # Five kinds of programs start for it, on a machine that tests keep busy.
    try:
        controller.until(answered, 2 * PATIENCE)
    except AssertionError:
        pods = controller.cluster.kubectl("get", "pods", "-n", NAMESPACE)
        picker = controller.cluster.kubectl("logs", "-n", NAMESPACE, "deployment/llama-picker", "--tail=20")
        pytest.fail(f"no good answer: {said[-1]}\n{pods}\n{picker}")
    return said[-1]


def test_the_adapter_answers_for_the_model(address: str, controller: Controller) -> None:
    assert json.loads(asked(controller, address))["model"] == "food-review-1"


async def test_every_query_finds_what_it_asks_for(address: str, controller: Controller, tmp_path: Path) -> None:
    asked(controller, address, stream=True, stream_options={"include_usage": True})
    pods = controller.cluster.get("pods", namespace=NAMESPACE)["items"]

    def page(start: str, where: str) -> str:
        (ip, *_) = [each["status"]["podIP"] for each in pods if each["metadata"]["name"].startswith(start)]
        return controller.cluster.run(["curl", "-sf", "-m", "20", f"http://{ip}:{where}"])

    def pages() -> list[str]:
        return [
            controller.cluster.run(["curl", "-sf", "-m", "20", f"http://{ADMIN}/metrics"]),
            page("llama-picker-", "9090/metrics"),
            page("inference-gateway-", "19001/stats/prometheus"),
            page("llama-", "8080/metrics"),
        ]

    # What does not happen here is told to the same programs' collectors.
    rare = [_rare_of_pickers(), await _rare_of_control_planes(tmp_path)]

    def wrong() -> list[str]:
        known = promql.emitted(*pages(), *rare)
        lines = [f"{where}: {line}" for where, query in promql.queries() for line in promql.unknown(query, known)]
        for where, query, labels in promql.labels_used():
            lines += [f"{where}: nothing has {name}" for name in sorted(labels - promql.shown(query, known))]
        return lines

    # Envoy tells the picker of a request a moment after its answer.
    found: list[str] = []

    def all_found() -> bool:
        found[:] = wrong()
        return not found

    try:
        controller.until(all_found, 30)
    except AssertionError:
        pytest.fail("\n".join(found))


def _rare_of_pickers() -> str:
    telemetry = Telemetry(Directory("group", ""), InFlight())
    telemetry.refuse("pool", "saturated")
    telemetry.retry("pool")
    telemetry.fail_scrape("127.0.0.1:1", "pod")
    telemetry.tally("gateway", "route", "pool", "model", "target", 200).cached.add(0.5)
    return generate_latest(telemetry.registry).decode()


async def _rare_of_control_planes(folder: Path) -> str:
    plane = ControlPlane(OneMachine(host=Host(), publish=lambda _: None), settings("127.0.0.1", None))
    plane.refuse(Nack(Peer("node", "group", "envoy", ""), "a.Listener", "name", "1", "Gateway a/b", "no"))
    admin = Admin(plane, list, f"unix:{folder / 'admin.sock'}")
    await admin.start()
    try:
        connector = aiohttp.UnixConnector(str(folder / "admin.sock"))
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.get("http://admin/metrics") as answer,
        ):
            return await answer.text()
    finally:
        await admin.stop()
