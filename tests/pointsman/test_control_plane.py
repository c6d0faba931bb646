from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from pointsman import control_plane
from pointsman.control_plane import LISTENER, ControlPlane
from pointsman.placement import Host, Placement
from pointsman.report import config_dump, counts_by_type, status, statuses_of
from pointsman.sites import OneMachine
from pointsman.translation_settings import settings
from resources import Key
from sources import FolderSource
from xds import Nack, Peer, Snapshot

GATEWAY = """
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: %s}
spec:
  gatewayClassName: inference-gateway
  listeners: [{name: http, protocol: HTTP, port: %d}]
"""


def plane(host: Host, publish: Callable[[Snapshot], None] = lambda _: None, **more: Any) -> ControlPlane:
    site = OneMachine(host=host, publish=publish, **more)
    return ControlPlane(site, settings(site.bind, None))


class Stage:
    """A control plane on a folder, and the snapshots that it published."""

    def __init__(self, folder: Path, host: Host) -> None:
        self.folder = folder
        self.published: list[Snapshot] = []
        self.plane = plane(host, self.published.append)
        self.source = FolderSource([folder])

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)
        self.plane.take(self.source.read())

    def listeners(self) -> dict[str, str]:
        return {name: sealed.version for name, sealed in self.published[-1].table(LISTENER).items()}


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path, Host(first_port=1))


def test_a_gateway_is_published(stage: Stage) -> None:
    stage.write("a.yaml", GATEWAY % ("a", 8080))
    assert list(stage.listeners()) == ["default/a/8080"]
    assert stage.plane.state.problems == ()


def test_what_has_not_changed_is_not_sealed_again(stage: Stage) -> None:
    stage.write("a.yaml", GATEWAY % ("a", 8080))
    first = dict(stage.published[-1].table(LISTENER))
    ready = "status: {conditions: [{type: Ready, status: 'True'}]}"
    stage.write("pod.yaml", f"apiVersion: v1\nkind: Pod\nmetadata: {{name: p}}\nspec: {{}}\n{ready}\n")
    assert stage.published[-1].table(LISTENER)["default/a/8080"] is first["default/a/8080"]
    assert stage.plane.state.pods == 1


def test_gateways_that_want_one_port_get_addresses_of_their_own(stage: Stage) -> None:
    stage.write("a.yaml", GATEWAY % ("a", 8080) + "---" + GATEWAY % ("b", 8080))
    assert stage.plane.state.translation is not None
    addresses = [each.listeners[0].address for each in stage.plane.state.translation.summary]
    assert addresses == ["127.0.0.1", "127.0.0.2"]


def test_a_control_plane_that_is_restarted_leaves_listeners_where_they_are(tmp_path: Path) -> None:
    kept: list[Mapping[tuple[str, int], Placement]] = []
    (tmp_path / "b.yaml").write_text(GATEWAY % ("b", 8080))
    source = FolderSource([tmp_path])
    first = plane(Host(), remember=kept.append)
    first.take(source.read())
    (tmp_path / "a.yaml").write_text(GATEWAY % ("a", 8080))
    first.take(source.read())
    second = plane(Host(), places=kept[-1])
    second.take(FolderSource([tmp_path]).read())
    assert first.state.translation is not None
    assert second.state.translation is not None
    assert second.state.translation.summary == first.state.translation.summary
    assert kept[-1]["default/b", 8080].address == "127.0.0.1"


def test_a_listener_without_a_place_is_a_problem_and_not_published(tmp_path: Path) -> None:
    stage = Stage(tmp_path, Host(bind="0.0.0.0", first_port=1))  # noqa: S104 - nothing is bound
    stage.write("a.yaml", GATEWAY % ("a", 8080) + "---" + GATEWAY % ("b", 8080))
    assert list(stage.listeners()) == ["default/a/8080"]
    text = "spec.listeners[0].port: port 8080 on this address belongs to Gateway default/a"
    assert stage.plane.state.problems == (f"Gateway default/b: {text}",)


def test_a_broken_file_is_reported_and_changes_nothing(stage: Stage) -> None:
    stage.write("a.yaml", GATEWAY % ("a", 8080))
    before = stage.listeners()
    stage.write("b.yaml", "kind: [")
    assert stage.listeners() == before
    (problem,) = stage.plane.state.problems
    assert problem.startswith(f"{stage.folder / 'b.yaml'}:")


def test_a_bug_is_contained_and_over_with_the_next_success(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    stage.write("a.yaml", GATEWAY % ("a", 8080))
    before = stage.plane.state

    def fail(*_: object) -> None:
        raise KeyError("oh")

    with monkeypatch.context() as patch:
        patch.setattr(control_plane, "translate", fail)
        stage.write("b.yaml", GATEWAY % ("b", 8081))
    failed = stage.plane.state
    assert (failed.trouble, failed.sealed) == ("KeyError: 'oh'", before.sealed)
    assert len(stage.published) == 1
    assert stage.plane.counts.failures == 1
    # The reading that failed is not lost.
    stage.write("c.yaml", GATEWAY % ("c", 8082))
    assert stage.plane.state.trouble is None
    assert sorted(stage.listeners()) == ["default/a/8080", "default/b/8081", "default/c/8082"]


async def test_a_refusal_makes_a_new_generation(stage: Stage) -> None:
    stage.write("a.yaml", GATEWAY % ("a", 8080))
    generation = stage.plane.state.generation
    peer = Peer("envoy", "folder", "envoy", "envoy")
    stage.plane.refuse(Nack(peer, LISTENER, "default/a/8080", "v", "Gateway default/a", "cannot bind"))
    state = await stage.plane.after(generation)
    assert state.generation == generation + 1
    assert stage.plane.counts.nacks == {LISTENER: 1}


def test_the_report_is_complete_and_plain(stage: Stage) -> None:
    stage.write("a.yaml", GATEWAY % ("a", 8080))
    found = status(stage.plane.state, ())
    assert found["gateways"] == [
        {
            "gateway": "default/a",
            "listeners": [
                {
                    "name": "http",
                    "address": "127.0.0.1",
                    "port": 8080,
                    "moved_from": None,
                    "hostnames": (),
                    "tls": False,
                },
            ],
            "pools": [],
            "models": [],
            "hosts": [],
        }
    ]
    assert found["trouble"] is None
    (told,) = statuses_of(stage.plane.state, {})
    key = Key("gateway.networking.k8s.io", "Gateway", "default", "a")
    # What a cluster's Envoys have answered counts for more than the translation.
    assert statuses_of(stage.plane.state, {key: {"conditions": []}}) == [{**told, "status": {"conditions": []}}]


def test_the_dump_and_the_counts_agree(stage: Stage) -> None:
    stage.write("a.yaml", GATEWAY % ("a", 8080))
    dumped = config_dump(stage.plane.state)["resources"]
    assert isinstance(dumped, list)
    assert sum(counts_by_type(stage.plane.state).values()) == len(dumped)
    assert {each["origin"] for each in dumped} == {"Gateway default/a"}
    assert all(each["resource"]["@type"] for each in dumped)
