import asyncio
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from http import HTTPStatus
from itertools import islice

import pytest
from aiohttp import ClientConnectorError, ClientSession

from simulator import Fleet, Mode, Plan, PodPlan, RunningPod, Timing
from simulator.addresses import candidates
from simulator.commands import Launch, find_server

CHAT: dict[str, object] = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
own_addresses = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has all of 127.0.0.0/8")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("0.0.0.0", 0))  # noqa: S104  (a port that is free on every address)
        port: int = probe.getsockname()[1]
        return port


def planned(*names: str, port: int, timing: Timing | None = None) -> Plan:
    spec = find_server(Launch("c", command=("vllm", "serve", "m", "--port", str(port))))
    assert spec is not None
    pattern = PodPlan("default", "", "w", "c", "", spec, timing or Timing(), {}, {})
    return Plan(tuple(replace(pattern, name=name) for name in names))


@pytest.fixture
async def fleet() -> AsyncIterator[Fleet]:
    fleet = Fleet()
    yield fleet
    await fleet.stop()


def url(pod: RunningPod) -> str:
    assert pod.server is not None
    return pod.server.site.url


async def healthy(client: ClientSession, pod: RunningPod) -> bool:
    async with client.get(url(pod) + "/health") as response:
        return response.status == HTTPStatus.OK and response.headers["x-simulated-pod"] == pod.plan.name


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
    published: list[list[str]] = []

    def publish(pods: Sequence[RunningPod]) -> None:
        published.append([pod.plan.name for pod in pods])

    fleet = Fleet(publish, linger=0.0)
    port = free_port()
    await fleet.apply(planned("a", "b", port=port))
    first, second = fleet.pods
    await fleet.apply(planned("a", "b", port=port))
    await fleet.apply(planned("b", "c", port=port))
    assert published == [["a", "b"], ["b", "c"]]
    assert fleet.pods[0] is second
    await fleet.stop()
    assert published[-1] == []
    for pod in (first, second):
        with pytest.raises(ClientConnectorError):
            await healthy(client, pod)


async def test_that_there_are_no_pods_is_published_too() -> None:
    published: list[int] = []
    fleet = Fleet(lambda pods: published.append(len(pods)))
    await fleet.apply(Plan())
    await fleet.apply(Plan())
    assert published == [0]


async def test_a_pod_that_goes_serves_on_until_everybody_knows(client: ClientSession) -> None:
    fleet = Fleet(linger=3600.0)
    await fleet.apply(planned("a", port=free_port(), timing=Timing(decode=0.01, answer_tokens=5)))
    (pod,) = fleet.pods
    await fleet.apply(Plan())
    assert fleet.pods == ()
    assert await healthy(client, pod)
    async with client.post(url(pod) + "/v1/chat/completions", json=CHAT | {"stream": True}) as response:
        await fleet.stop()
        assert (await response.read()).endswith(b"data: [DONE]\n\n")


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


async def test_another_revision_takes_the_place_of_a_pod_of_the_same_name(client: ClientSession) -> None:
    published: list[list[RunningPod]] = []
    fleet = Fleet(lambda pods: published.append(list(pods)), linger=0.0)
    plan = planned("set-0", port=free_port())
    await fleet.apply(plan)
    await fleet.apply(Plan((replace(plan.pods[0], revision="2"),)))
    (old,), (new,) = published
    assert (new.plan.name, new.plan.revision, old is new) == ("set-0", "2", False)
    assert (old.address, old.port) != (new.address, new.port)
    assert await healthy(client, new)
    await fleet.stop()


async def test_a_pod_without_a_server_has_an_address_of_its_own(fleet: Fleet) -> None:
    leader = planned("a", port=free_port()).pods[0]
    await fleet.apply(Plan((leader, replace(leader, name="a-1", spec=None))))
    first, second = fleet.pods
    assert (second.server, second.port, first.address != second.address) == (None, None, True)
    assert second.manifest()["status"]["podIP"] == second.address  # type: ignore[index]
    with pytest.raises(KeyError):
        await fleet.fail("a-1", Mode.HANG)


async def test_many_servers_in_one_process(fleet: Fleet, client: ClientSession) -> None:
    await fleet.apply(planned(*(f"pod-{place}" for place in range(100)), port=free_port()))
    assert len({(pod.address, pod.port) for pod in fleet.pods}) == 100
    assert all(await asyncio.gather(*(healthy(client, pod) for pod in fleet.pods)))
