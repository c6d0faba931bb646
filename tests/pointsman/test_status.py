import asyncio
import io
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from rich.console import Console
from typer.testing import CliRunner

from pointsman.admin import Admin
from pointsman.cli import app
from pointsman.control_plane import ControlPlane
from pointsman.failure import Failure
from pointsman.placement import Host
from pointsman.sites import OneMachine
from pointsman.standing import Json, standing, troubles
from pointsman.status import ask, show
from pointsman.translation_settings import settings
from sources import FolderSource
from xds import ClientStatus, Nack, Peer, TypeStatus

EXAMPLE = Path(__file__).parents[2] / "examples" / "model-routing"
STRAY = """
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: stray, namespace: shop}
spec:
  parentRefs: [{name: inference-gateway, namespace: default}]
  rules: [{backendRefs: [{name: absent, port: 80}]}]
"""
LISTENER = "type.googleapis.com/envoy.config.listener.v3.Listener"
CLUSTER = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
PICKER = Peer("picker-1", "folder", "picker", "")
ENVOY = Peer("envoy-1", "folder", "envoy", "envoy")
REFUSAL = Nack(ENVOY, LISTENER, "default/inference-gateway/8080", "1", "Gateway default/inference-gateway", "no port")
CLIENTS = (
    ClientStatus(
        ENVOY,
        in_sync=False,
        types=(TypeStatus(CLUSTER, 2, outstanding=False, pending=0), TypeStatus(LISTENER, 0, False, 1)),  # noqa: FBT003
        nacks=(REFUSAL,),
    ),
    ClientStatus(PICKER, in_sync=False, types=(TypeStatus(CLUSTER, 1, outstanding=True, pending=3),), nacks=()),
)

NAMED = {"name": "http"}
EMPTY: Json = {
    "generation": 1,
    "trouble": None,
    "gateways": [],
    "problems": [],
    "notices": [],
    "nodes": [],
    "nacks": [],
    "statuses": [],
}


@pytest.fixture
async def address(tmp_path: Path) -> AsyncIterator[str]:
    """The admin endpoint of a control plane that serves an example and a route with two mistakes."""
    plane = ControlPlane(OneMachine(host=Host(first_port=1), publish=lambda _: None), settings("127.0.0.1", None))
    (tmp_path / "stray.yaml").write_text(STRAY)
    plane.take(FolderSource([EXAMPLE, tmp_path]).read())
    found = f"unix:{tmp_path / 'admin.sock'}"
    admin = Admin(plane, lambda: CLIENTS, found)
    await admin.start()
    yield found
    await admin.stop()


def shown(found: Json) -> str:
    output = io.StringIO()
    show(found, Console(file=output, width=1000, highlight=False, emoji=False, markup=False))
    return output.getvalue()


async def test_gateways_routes_and_pools_are_there_with_what_stands_against_them(address: str) -> None:
    found = await ask(address)
    (gateway,) = found["gateways"]
    (listener,) = gateway["listeners"]
    assert (gateway["name"], gateway["models"]) == ("default/inference-gateway", ["deepseek-r1", "qwen"])
    assert (listener["url"], listener["attached_routes"]) == ("http://127.0.0.1:8080", 1)
    assert gateway["troubles"] == listener["troubles"] == []
    routes = {each["name"]: each["parents"] for each in found["routes"]}
    assert routes["default/models"] == [{"gateway": "default/inference-gateway llm-gw", "troubles": []}]
    (stray,) = routes["shop/stray"]
    assert [line.partition(":")[0] for line in stray["troubles"]] == [
        "Accepted=False NotAllowedByListeners",
        "ResolvedRefs=False BackendNotFound",
    ]
    assert {each["name"]: each["models"] for each in found["pools"]} == {
        "default/deepseek-pool": ["deepseek-r1"],
        "default/qwen-pool": ["qwen"],
    }
    assert any("shop/stray" in line for line in found["problems"])


def test_a_gateway_of_a_cluster_is_found_at_its_service() -> None:
    listener = {"name": "http", "address": "0.0.0.0", "port": 10080, "moved_from": 80, "hostnames": [], "tls": False}  # noqa: S104
    gateway = {"gateway": "shop/g", "listeners": [listener], "pools": [], "models": []}
    body = {"addresses": [{"value": "172.30.0.1"}], "listeners": [{**NAMED, "attachedRoutes": 0, "conditions": []}]}
    status = {"group": "", "kind": "Gateway", "namespace": "shop", "name": "g", "status": body}
    found = standing({**EMPTY, "gateways": [gateway], "statuses": [status]})
    assert found["gateways"][0]["listeners"][0]["url"] == "http://172.30.0.1:80"


async def test_proxies_are_there_with_their_answers(address: str) -> None:
    envoy, picker = (await ask(address))["proxies"]
    assert envoy["types"]["Listener"]["refused"] == [
        {"name": REFUSAL.name, "object": REFUSAL.origin, "message": "no port"}
    ]
    assert envoy["types"]["Cluster"] == {"held": 2, "pending": 0, "waiting": False, "refused": []}
    assert picker["types"]["Cluster"]["waiting"]


async def test_tables_say_the_same(address: str) -> None:
    lines = [" ".join(line.split()) for line in shown(await ask(address)).splitlines()]
    assert "default/inference-gateway llm-gw http://127.0.0.1:8080 * 1 deepseek-r1, qwen ok" in lines
    assert "default/models HTTPRoute default/inference-gateway llm-gw ok" in lines
    assert any(line.startswith("shop/stray HTTPRoute default/inference-gateway Accepted=False") for line in lines)
    assert "default/qwen-pool qwen 0 default/inference-gateway ok" in lines
    refusal = f"refuses Listener {REFUSAL.name} ({REFUSAL.origin}): no port"
    assert f"envoy-1 envoy folder 2 Cluster, 0 Listener {refusal}" in lines
    assert "picker-1 picker folder 1 Cluster 3 Cluster to come" in lines
    assert any(line.startswith("problem: ") and "shop/stray" in line for line in lines)


def test_nothing_is_said_of_what_is_not_there() -> None:
    found = standing({**EMPTY, "trouble": "KeyError: x", "notices": ["kind Foo is ignored"]})
    assert shown(found).split("\n\n") == [
        "no gateway",
        "no route",
        "no pool",
        "no proxy",
        "problem: a bug, the last good configuration stays: KeyError: x\nnote: kind Foo is ignored\n",
    ]


@pytest.mark.parametrize(
    ("kind", "status", "bad"),
    [
        ("Accepted", "True", False),
        ("Accepted", "False", True),
        ("Programmed", "Unknown", True),
        ("Conflicted", "False", False),
        ("Conflicted", "True", True),
    ],
)
def test_conditions_are_judged_by_what_they_mean(kind: str, status: str, *, bad: bool) -> None:
    found = troubles([{"type": kind, "status": status, "reason": "R", "message": "why"}])
    assert found == ([f"{kind}={status} R: why"] if bad else [])


async def test_the_command_prints_json(address: str) -> None:
    # In a thread: the command has a loop of its own.
    said = await asyncio.to_thread(CliRunner().invoke, app, ["status", address, "--json"])
    assert said.exit_code == 0
    assert json.loads(said.stdout) == await ask(address)


def test_nobody_there_is_one_clear_line(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # bound, and not listening
        for address in (f"127.0.0.1:{free.getsockname()[1]}", f"unix:{tmp_path / 'none'}"):
            said = CliRunner().invoke(app, ["status", address])
            assert said.exit_code == 2
            assert said.stderr.startswith(f"pointsman: {address}: no control plane answers there: ")
            assert said.stderr.count("\n") == 1
    said = CliRunner().invoke(app, ["status", "nonsense"])
    assert (said.exit_code, said.stderr) == (2, "pointsman: nonsense: neither unix:PATH nor HOST:PORT\n")


@pytest.mark.parametrize(("path", "message"), [("/status", "is no control plane"), ("/other", "answers 404")])
async def test_another_program_there_is_one_clear_line(path: str, message: str) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.json_response({"status": "fine"})

    application = web.Application()
    application.router.add_get(path, answer)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        with pytest.raises(Failure, match=message):
            await ask(f"http://127.0.0.1:{runner.addresses[0][1]}/status")
    finally:
        await runner.cleanup()
