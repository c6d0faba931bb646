"""Two controllers of different names in one cluster: each keeps what is its own, and leaves the other's alone."""

import asyncio
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import kinds
import pytest
import yaml
from controllers import CLASS, NAMES, NODE, Controller
from minikluster.cluster import Cluster

from resources import ConfigMap, Key
from sources.kubernetes import Api, Applier, Wanted
from sources.kubernetes.discovery import Served

NAMESPACE = "side-by-side"
SECOND = "example.com/second"
LABEL = "pointsman.dev/controller"
FIRST_LABEL, SECOND_LABEL = NAMES[0].replace("/", "_"), "example.com_second"
MADE = "deployments,services,configmaps,serviceaccounts"


@pytest.fixture
def second(controller: Controller, tmp_path: Path) -> Iterator[Controller]:
    """Another controller beside the one of all tests, and a class for each."""
    cluster = controller.cluster
    cluster.namespace(NAMESPACE)
    for name, of in ((CLASS, NAMES[0]), ("second", SECOND)):
        cluster.apply({**kinds.gateway_class(name), "spec": {"controllerName": of}})
    second = Controller(cluster, tmp_path, names=[SECOND], xds=f"{NODE}:18100", admin=f"{NODE}:19100")
    yield second
    second.stop()
    cluster.kubectl("delete", "namespace", NAMESPACE, "--wait=false")
    cluster.kubectl("delete", "gatewayclass", CLASS, "second")


def made(cluster: Cluster, label: str) -> dict[tuple[str, str], str]:
    """The identities of what bears a controller's name."""
    items = cluster.get(MADE, "-l", f"{LABEL}={label}", namespace=NAMESPACE)["items"]
    return {(each["kind"], each["metadata"]["name"]): each["metadata"]["uid"] for each in items}


def owner_of(cluster: Cluster, service: str) -> str:
    """Whose a Service is; "" where there is none."""
    listed = cluster.get("services", "-l", LABEL, namespace=NAMESPACE)["items"]
    return next((each["metadata"]["labels"][LABEL] for each in listed if each["metadata"]["name"] == service), "")


def resolved(cluster: Cluster, pool: str) -> dict[str, str]:
    """For each Gateway whether the references of a pool are in order."""
    status = cluster.get("inferencepools.inference.networking.x-k8s.io", pool, namespace=NAMESPACE).get("status", {})
    return {
        each["parentRef"]["name"]: condition["status"]
        for each in status.get("parent", ())
        for condition in each["conditions"]
        if condition["type"] == "ResolvedRefs"
    }


def route(gateway: str, pool: str) -> kinds.Manifest:
    matches = [{"path": {"type": "PathPrefix", "value": f"/{pool}"}}]
    rule = {"matches": matches, "backendRefs": [kinds.to_pool(pool)]}
    return kinds.route(f"{gateway}-{pool}", rule, gateway=gateway)


def events(cluster: Cluster) -> list[tuple[str, str]]:
    items: list[dict[str, Any]] = cluster.get("events.events.k8s.io", namespace=NAMESPACE)["items"]
    return [(each["reportingController"], each["note"]) for each in items if each["regarding"]["name"] == "both"]


def test_two_controllers_keep_what_is_their_own(controller: Controller, second: Controller) -> None:
    cluster = controller.cluster
    pools = [kinds.picked_pool(name, name, f"{name}-picker") for name in ("idle", "both", "theirs")]
    gateways = [kinds.gateway(name, class_name=of, port=80) for name, of in (("one", CLASS), ("two", "second"))]
    # What only the other's Gateway is led to is not made, though the other is not there yet.
    cluster.apply(*pools, *gateways, route("one", "both"), route("two", "theirs"), namespace=NAMESPACE)
    controller.programmed("one", NAMESPACE)
    for name in ("both", "idle"):
        controller.until(lambda name=name: owner_of(cluster, f"{name}-picker") == FIRST_LABEL)  # type: ignore[misc]
    first = made(cluster, FIRST_LABEL)
    assert {name for _, name in first} == {f"one-{CLASS}", "both-picker", "idle-picker"}

    # Whoever starts anew takes nothing of the other's for a leftover.
    second.start(["--own-namespace", NAMESPACE])
    second.programmed("two", NAMESPACE)
    second.until(lambda: owner_of(cluster, "theirs-picker") == SECOND_LABEL)
    assert {name for _, name in made(cluster, SECOND_LABEL)} == {"two-second", "theirs-picker"}

    # A pool that both are led to has the picker that was there, and it is said to whom it is of no use.
    cluster.apply(route("two", "both"), namespace=NAMESPACE)
    second.until(lambda: resolved(cluster, "both") == {"one": "True", "two": "False"})
    controller.until(
        lambda: any(by == SECOND and "is the picker of another controller" in note for by, note in events(cluster))
    )

    # What is mended, or no longer asked for, is one's own alone.
    theirs = made(cluster, SECOND_LABEL)
    cluster.kubectl("delete", "-n", NAMESPACE, "httproute", "two-theirs")
    cluster.kubectl("delete", "-n", NAMESPACE, "configmap", f"one-{CLASS}")
    controller.until(lambda: ("ConfigMap", f"one-{CLASS}") in made(cluster, FIRST_LABEL))
    again = made(cluster, FIRST_LABEL)
    assert again == {**first, ("ConfigMap", f"one-{CLASS}"): again["ConfigMap", f"one-{CLASS}"]}
    assert made(cluster, SECOND_LABEL) == theirs

    # What bears no name, as in versions before, is taken over by the one that would make it, with its fields.
    service = cluster.get("service", f"one-{CLASS}", namespace=NAMESPACE)
    cluster.kubectl("label", "-n", NAMESPACE, "service", f"one-{CLASS}", f"{LABEL}-")
    old = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": f"one-{CLASS}"}}
    old |= {"spec": {"ports": [{"name": "old", "port": 81}]}}
    apply = ("apply", "--server-side", "--force-conflicts", "--field-manager=pointsman")
    cluster.kubectl(*apply, "-n", NAMESPACE, "-f", "-", stdin=yaml.safe_dump(old))

    def adopted() -> bool:
        found = cluster.get("service", f"one-{CLASS}", namespace=NAMESPACE)
        same = found["metadata"]["uid"] == service["metadata"]["uid"]
        return same and owner_of(cluster, f"one-{CLASS}") == FIRST_LABEL and len(found["spec"]["ports"]) == 1

    controller.until(adopted)

    # A Gateway that is deleted takes along what is its own.
    cluster.kubectl("delete", "-n", NAMESPACE, "gateway", "two")
    second.until(lambda: "two-second" not in {name for _, name in made(cluster, SECOND_LABEL)})
    assert f"one-{CLASS}" in {name for _, name in made(cluster, FIRST_LABEL)}


def test_of_two_that_make_an_object_at_once_one_has_it(apis: Cluster) -> None:
    apis.namespace("race")
    with apis.inside():
        asyncio.run(_race(apis))
    apis.kubectl("delete", "namespace", "race", "--wait=false")


async def _race(cluster: Cluster) -> None:
    api, names = await Api.connect(cluster.kubeconfig), [f"made-{number}" for number in range(30)]
    racers = {name: _racer(api, name, names) for name in ("a", "b")}
    tasks = [asyncio.create_task(each.run()) for each in racers.values()]
    try:
        # Whoever came second says so, of each.
        async with asyncio.timeout(60):
            while sum(len(each.problems) for each in racers.values()) < len(names):
                await asyncio.sleep(0.05)
        items = cluster.get("configmaps", "-l", "whose", namespace="race")["items"]
        owners = {each["metadata"]["name"]: each["metadata"]["labels"]["whose"] for each in items}
        assert sorted(owners) == sorted(names)
        assert all(each["data"] == {"by": owners[each["metadata"]["name"]]} for each in items)
        for name, racer in racers.items():
            assert {key.name for key in racer.problems} == {each for each, owner in owners.items() if owner != name}
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await api.close()


def _racer(api: Api, name: str, objects: list[str]) -> Applier:
    """Who makes ConfigMaps of its own, and hears of no watch."""

    def whose(labels: Mapping[str, str]) -> str:
        return "" if labels.get("whose") == name else "is not ours"

    def wanted(of: str) -> Wanted:
        body = {"apiVersion": "v1", "kind": "ConfigMap", "data": {"by": name}}
        body["metadata"] = {"name": of, "namespace": "race", "labels": {"whose": name}}
        return Wanted(Key("", "ConfigMap", "race", of), "v1", body, "", name)

    racer = Applier(
        api,
        there=dict,
        told=lambda _: None,
        served=lambda _: Served(ConfigMap, "v1", "configmaps"),
        whose=whose,
        managers=frozenset({name}),
    )
    racer.want(map(wanted, objects), keep=lambda _: True)
    return racer
