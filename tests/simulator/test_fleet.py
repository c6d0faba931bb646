import asyncio
import socket
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from http import HTTPStatus
from itertools import islice
from typing import Any

import pytest
from aiohttp import ClientConnectorError, ClientSession, ServerDisconnectedError

from pointsman.ports import port_to_keep
from simulator import Fleet, Mode, Numbered, Plan, PodPlan, Rolling, RunningPod, Timing, WorkloadPlan
from simulator.addresses import candidates
from simulator.commands import Launch, find_server

CHAT: dict[str, object] = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
own_addresses = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has all of 127.0.0.0/8")


def free_port() -> int:
    """A port that is free on every address."""
    return port_to_keep("0.0.0.0")  # noqa: S104


def pattern(port: int, timing: Timing | None = None, **more: Any) -> PodPlan:
    spec = find_server(Launch("c", command=("vllm", "serve", "m", "--port", str(port))))
    assert spec is not None
    return PodPlan("default", "", "", "c", "", spec, timing or Timing(), {}, {}, **more)


def planned(*names: str, port: int, timing: Timing | None = None, **more: Any) -> Plan:
    """Pods that belong to nothing."""
    pods = (replace(pattern(port, timing, **more), name=name, workload=name) for name in names)
    return Plan(tuple(WorkloadPlan(pod.name, (pod,), Numbered()) for pod in pods))


def deployed(replicas: int, revision: str, *, port: int, controller: Rolling | None = None, **more: Any) -> Plan:
    """One Deployment."""

    def name(place: int) -> str:
        return f"w-{revision}-{place}"

    pod = replace(pattern(port, **more), workload="w", revision=revision)
    pods = (replace(pod, name=name(place), place=place) for place in range(replicas))
    return Plan((WorkloadPlan("w", tuple(pods), controller or Rolling(), name),))


@pytest.fixture
async def fleet() -> AsyncIterator[Fleet]:
    fleet = Fleet(reaction=0.0)
    yield fleet
    await fleet.stop()


class Watch:
    """What is published, as somebody who watches the API sees it: by name, "starting", "ready" or "leaving"."""

    def __init__(self) -> None:
        self.seen: list[dict[str, str]] = []
        self._came = asyncio.Event()

    def __call__(self, pods: Sequence[RunningPod]) -> None:
        self.seen.append({pod.plan.name: phase(pod) for pod in pods})
        self._came.set()

    async def until(self, wanted: Callable[[dict[str, str]], bool]) -> None:
        async with asyncio.timeout(20):
            while not (self.seen and wanted(self.seen[-1])):
                self._came.clear()
                await self._came.wait()


def phase(pod: RunningPod) -> str:
    """Read a pod's phase from its manifest."""
    manifest: Any = pod.manifest()
    if "deletionTimestamp" in manifest["metadata"]:
        return "leaving"
    conditions = {each["type"]: each["status"] for each in manifest["status"]["conditions"]}
    return "ready" if conditions["Ready"] == "True" else "starting"


def url(pod: RunningPod) -> str:
    assert pod.server is not None
    return pod.server.site.url


async def healthy(client: ClientSession, pod: RunningPod) -> bool:
    async with client.get(url(pod) + "/health") as response:
        return response.status == HTTPStatus.OK and response.headers["x-simulated-pod"] == pod.plan.name


async def until_refused(client: ClientSession, pod: RunningPod) -> None:
    with suppress(ClientConnectorError, ServerDisconnectedError):
        async with asyncio.timeout(20):
            while await healthy(client, pod):
                await asyncio.sleep(0)


def test_addresses_are_stable_and_leave_the_first_network_alone() -> None:
    first = list(islice(candidates("default", "a"), 1000))
    assert first == list(islice(candidates("default", "a"), 1000))
    assert len(set(first)) == 1000
    assert all(address.startswith("127.") and not address.startswith("127.0.0.") for address in first)
    assert first[0] != next(candidates("other", "a"))


@own_addresses
async def test_pods_share_a_port_on_addresses_of_their_own(fleet: Fleet, client: ClientSession) -> None:
    port = free_port()
    assert await fleet.apply(planned("a", "b", "c", port=port)) == ()
    assert [pod.plan.name for pod in fleet.pods] == ["a", "b", "c"]
    assert {pod.port for pod in fleet.pods} == {port}
    assert len({pod.address for pod in fleet.pods}) == 3
    assert all([await healthy(client, pod) for pod in fleet.pods])


async def test_the_plan_is_followed_and_pods_that_stay_are_left_alone(client: ClientSession) -> None:
    watch = Watch()
    fleet = Fleet(watch, reaction=0.0)
    port = free_port()
    await fleet.apply(planned("a", "b", port=port))
    first, second = fleet.pods
    await fleet.apply(planned("a", "b", port=port))
    await fleet.apply(planned("b", "c", port=port))
    await watch.until(lambda seen: "a" not in seen)
    both, gone = {"a": "ready", "b": "ready"}, {"b": "ready", "c": "ready"}
    assert watch.seen == [both, gone | {"a": "leaving"}, gone]
    assert fleet.pods[0] is second
    await fleet.stop()
    assert watch.seen[-1] == {}
    for pod in (first, second):
        with pytest.raises(ClientConnectorError):
            await healthy(client, pod)


async def test_that_there_are_no_pods_is_published_too() -> None:
    published: list[int] = []
    fleet = Fleet(lambda pods: published.append(len(pods)))
    await fleet.apply(Plan())
    await fleet.apply(Plan())
    assert published == [0]
    await fleet.stop()


async def test_a_pod_that_goes_is_told_so_after_its_pre_stop(client: ClientSession) -> None:
    fleet = Fleet(reaction=0.0)
    timing = Timing(decode=0.01, answer_tokens=5)
    await fleet.apply(planned("a", port=free_port(), timing=timing, pre_stop=3600.0, grace=7200.0))
    (pod,) = fleet.pods
    await fleet.apply(Plan())
    assert [phase(each) for each in fleet.pods] == ["leaving"]
    assert await healthy(client, pod)
    async with client.post(url(pod) + "/v1/chat/completions", json=CHAT | {"stream": True}) as response:
        await fleet.stop()
        assert (await response.read()).endswith(b"data: [DONE]\n\n")


async def test_a_pod_that_goes_finishes_what_it_has_and_takes_nothing_new(client: ClientSession) -> None:
    watch = Watch()
    fleet = Fleet(watch, reaction=0.0)
    await fleet.apply(planned("a", port=free_port(), timing=Timing(decode=0.01, answer_tokens=50)))
    (pod,) = fleet.pods
    async with client.post(url(pod) + "/v1/chat/completions", json=CHAT | {"stream": True}) as response:
        await fleet.apply(Plan())
        await until_refused(client, pod)
        assert watch.seen[-1] == {"a": "leaving"}
        assert (await response.read()).endswith(b"data: [DONE]\n\n")
    await watch.until(lambda seen: not seen)
    await fleet.stop()


async def test_a_pod_is_cut_off_when_its_grace_period_is_over(client: ClientSession) -> None:
    watch = Watch()
    fleet = Fleet(watch, reaction=0.0)
    timing = Timing(decode=3600.0, answer_tokens=2)
    await fleet.apply(planned("a", port=free_port(), timing=timing, grace=0.05))
    (pod,) = fleet.pods
    asking = asyncio.create_task(client.post(url(pod) + "/v1/chat/completions", json=CHAT))
    assert pod.server is not None
    while not pod.server.busy:
        await asyncio.sleep(0)
    await fleet.apply(Plan())
    with pytest.raises(ServerDisconnectedError):
        await asking
    await watch.until(lambda seen: not seen)
    await fleet.stop()


async def test_a_pod_that_starts_listens_when_it_is_ready(client: ClientSession) -> None:
    watch = Watch()
    fleet = Fleet(watch, reaction=0.0)
    port = free_port()
    await fleet.apply(deployed(1, "1", port=port, startup=3600.0))
    assert watch.seen == [{"w-1-0": "ready"}]  # what the first plan has is there already
    await fleet.apply(deployed(2, "1", port=port, startup=0.1))
    assert watch.seen[-1] == {"w-1-0": "ready", "w-1-1": "starting"}
    new = fleet.pods[1]
    with pytest.raises(ClientConnectorError):
        await healthy(client, new)
    await watch.until(lambda seen: seen["w-1-1"] == "ready")
    assert await healthy(client, new)
    await fleet.stop()


@pytest.mark.parametrize(
    ("controller", "most", "least"), [(Rolling(), 10, 6), (Rolling(1, 0), 9, 8), (Rolling("0%", "50%"), 8, 4)]
)
async def test_a_rolling_update_keeps_to_its_bounds(
    client: ClientSession, controller: Rolling, most: int, least: int
) -> None:
    watch = Watch()
    fleet = Fleet(watch, reaction=0.0)
    port = free_port()
    await fleet.apply(deployed(8, "1", port=port, controller=controller))
    await fleet.apply(deployed(8, "2", port=port, controller=controller, startup=0.02))
    new = {f"w-2-{place}": "ready" for place in range(8)}
    await watch.until(lambda seen: seen == new)
    for seen in watch.seen:
        phases = Counter(seen.values())
        assert phases["ready"] + phases["starting"] <= most, seen
        assert phases["ready"] >= least, seen
    assert all([await healthy(client, pod) for pod in fleet.pods])
    await fleet.stop()


async def test_a_name_is_not_used_twice() -> None:
    """As on Kubernetes, where names are random: the pod that leaves is still there under its name."""
    fleet = Fleet(reaction=0.0)
    port = free_port()
    await fleet.apply(deployed(2, "1", port=port, pre_stop=3600.0, grace=7200.0))
    await fleet.apply(deployed(1, "1", port=port))
    await fleet.apply(deployed(2, "1", port=port))
    assert {pod.plan.name: phase(pod) for pod in fleet.pods} == {
        "w-1-0": "ready",
        "w-1-1": "leaving",
        "w-1-2": "ready",
    }
    await fleet.stop()


@own_addresses
async def test_an_address_that_another_process_has_is_passed_over(fleet: Fleet) -> None:
    port = free_port()
    first, second = islice(candidates("default", "a"), 2)
    with socket.create_server((first, port)):
        assert await fleet.apply(planned("a", port=port)) == ()
        assert [(pod.address, pod.port) for pod in fleet.pods] == [(second, port)]


async def test_a_port_that_is_taken_everywhere_is_replaced(fleet: Fleet, client: ClientSession) -> None:
    with socket.create_server(("", 0)) as everywhere:
        port = everywhere.getsockname()[1]
        assert await fleet.apply(planned("a", port=port)) == ()
        (pod,) = fleet.pods
        assert pod.address == "127.0.0.1"
        assert pod.port != port
        assert pod.manifest()["metadata"]["annotations"]["pointsman.dev/listening-ports"] == f"{port}={pod.port}"  # type: ignore[index]
        assert await healthy(client, pod)


async def test_faults_by_name_and_by_any_other_pod(fleet: Fleet, client: ClientSession) -> None:
    await fleet.apply(planned("a", "b", port=free_port()))
    first, second = fleet.pods
    await fleet.fail("a", Mode.REFUSE)
    with pytest.raises(ClientConnectorError):
        await healthy(client, first)
    address = url(second) + "/simulator/fault"
    async with client.post(address, json={"mode": "none", "pod": "a"}) as response:
        assert response.status == HTTPStatus.NO_CONTENT
    assert await healthy(client, first)
    with pytest.raises(KeyError):
        await fleet.fail("z", Mode.HANG)


async def test_a_numbered_pod_is_gone_before_another_takes_its_place(client: ClientSession) -> None:
    watch = Watch()
    fleet = Fleet(watch, reaction=0.0)
    plan = planned("set-0", port=free_port())
    await fleet.apply(plan)
    (old,) = fleet.pods
    pod = replace(plan.pods[0], revision="2")
    await fleet.apply(Plan((replace(plan.workloads[0], pods=(pod,)),)))
    await watch.until(lambda seen: len(watch.seen) > 2 and seen == {"set-0": "ready"})
    assert watch.seen == [{"set-0": "ready"}, {"set-0": "leaving"}, {}, {"set-0": "ready"}]
    (new,) = fleet.pods
    assert (new.plan.revision, old is new) == ("2", False)
    assert await healthy(client, new)
    await fleet.stop()


async def test_a_pod_without_a_server_has_an_address_of_its_own(fleet: Fleet) -> None:
    leader = planned("a", port=free_port()).pods[0]
    await fleet.apply(Plan((WorkloadPlan("a", (leader, replace(leader, name="a-1", spec=None)), Numbered()),)))
    first, second = fleet.pods
    assert (second.server, second.port, first.address != second.address) == (None, None, True)
    assert second.manifest()["status"]["podIP"] == second.address  # type: ignore[index]
    with pytest.raises(KeyError):
        await fleet.fail("a-1", Mode.HANG)


async def test_many_servers_in_one_process(fleet: Fleet, client: ClientSession) -> None:
    await fleet.apply(planned(*(f"pod-{place}" for place in range(100)), port=free_port()))
    assert len({(pod.address, pod.port) for pod in fleet.pods}) == 100
    assert all(await asyncio.gather(*(healthy(client, pod) for pod in fleet.pods)))
