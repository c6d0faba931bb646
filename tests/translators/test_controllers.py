"""Several controllers in one cluster: whose pools, policies and objects are, as one of them has it."""

import pytest
from golden_files import world_of

from pointsman.provisioning import bootstrap_template
from translators import Memo, Settings, Status, Translation, translate
from translators.controllers import CONTROLLER, CONTROLLER_LABEL, label_of, principal_of
from translators.infrastructure import Infrastructure, provision

OURS, ALSO, THEIRS = "example.com/ours", "example.com/also", "example.com/theirs"
OBJECTS = """
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: ours}
spec: {controllerName: example.com/ours}
---
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: theirs}
spec: {controllerName: example.com/theirs}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: ours, namespace: shop}
spec: {gatewayClassName: ours, listeners: [{name: http, port: 80, protocol: HTTP}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: theirs, namespace: shop}
spec: {gatewayClassName: theirs, listeners: [{name: http, port: 80, protocol: HTTP}]}
---
apiVersion: inference.networking.k8s.io/v1
kind: InferencePool
metadata: {name: pool, namespace: shop}
spec: {selector: {matchLabels: {app: server}}, targetPorts: [{number: 8000}]}
"""
ROUTE = """
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: to-%s, namespace: shop}
spec:
  parentRefs: [{name: %s}]
  rules: [{backendRefs: [{group: inference.networking.k8s.io, kind: InferencePool, name: pool}]}]
"""
PICKER = """
---
apiVersion: v1
kind: Service
metadata:
  name: pool-picker
  namespace: shop
  labels: {pointsman.dev/picker: "true", pointsman.dev/controller: %s}
spec: {ports: [{port: 9002}]}
"""


def translated(*texts: str, names: tuple[str, ...] = (OURS,)) -> Translation:
    settings = Settings(controllers=frozenset(names), picker_services=True)
    return translate(world_of(OBJECTS + "".join(texts)), settings, Memo())


def led_by(*gateways: str) -> str:
    return "".join(ROUTE % (name, name) for name in gateways)


def pickers(found: Translation) -> dict[str, str]:
    """The controllerNames that pickers are made for."""
    return {each.seat.service: each.controller for each in found.needs[1]}


def status(found: Translation, kind: str) -> Status:
    return next(each for each in found.statuses if each.key.kind == kind)


@pytest.mark.parametrize(
    ("gateways", "made"),
    [
        ((), ["pool-picker"]),
        (("ours",), ["pool-picker"]),
        (("ours", "theirs"), ["pool-picker"]),
        (("theirs",), []),
        # Nobody's Gateway: it may come to be ours.
        (("absent",), ["pool-picker"]),
    ],
)
def test_a_picker_is_made_for_pools_that_are_ours(gateways: tuple[str, ...], made: list[str]) -> None:
    found = translated(led_by(*gateways))
    assert pickers(found) == dict.fromkeys(made, OURS)
    assert found.pickers.keys() == {f"picker/shop/{name}/9002" for name in made}
    # The other controller sees it the other way round.
    theirs = translated(led_by(*gateways), names=(THEIRS,))
    assert bool(pickers(theirs)) == (gateways != ("ours",))


def test_a_pool_that_becomes_ours_by_a_route_alone_gets_its_picker() -> None:
    settings, memo = Settings(controllers=frozenset({OURS}), picker_services=True), Memo()
    for gateways, made in ((("theirs",), set()), (("theirs", "ours"), {"pool-picker"}), (("theirs",), set())):
        found = translate(world_of(OBJECTS + led_by(*gateways)), settings, memo)
        assert pickers(found).keys() == made


def test_a_picker_of_another_controller_is_left_to_it_and_said_where_it_is_needed() -> None:
    theirs = PICKER % label_of(THEIRS)
    found = translated(led_by("ours", "theirs"), theirs)
    assert not pickers(found)
    (parent,) = status(found, "InferencePool").body["parents"]  # type: ignore[misc]
    condition = next(each for each in parent["conditions"] if each["type"] == "ResolvedRefs")
    assert (condition["status"], condition["reason"]) == ("False", "InvalidExtensionRef")
    assert "is the picker of another controller (example.com_theirs)" in condition["message"]
    assert any("another controller" in line for line in found.problems)
    # One that serves nobody here is no problem of ours.
    for gateways in ((), ("theirs",)):
        unled = translated(led_by(*gateways), theirs)
        assert not pickers(unled)
        assert unled.problems == ()
    # One that bears another of our own names, or that of no controller, is ours.
    assert pickers(translated(led_by("ours"), PICKER % label_of(ALSO), names=(OURS, ALSO))) == {"pool-picker": OURS}
    unnamed = theirs.replace(", pointsman.dev/controller: example.com_theirs", "")
    assert pickers(translated(led_by("ours"), unnamed)) == {"pool-picker": OURS}


def test_what_is_made_bears_the_name_that_it_is_made_for() -> None:
    other = OBJECTS.replace(
        "name: theirs}\nspec: {controllerName: example.com/theirs",
        "name: theirs}\nspec: {controllerName: example.com/also",
    )
    settings = Settings(controllers=frozenset({OURS, ALSO}), picker_services=True)
    needs = translate(world_of(other + led_by("theirs")), settings, Memo()).needs
    infrastructure = Infrastructure(xds="c:1", bootstrap=bootstrap_template(), envoy_image="e:1", pointsman_image="p:1")
    made = provision(*needs, infrastructure, {}).objects
    labels = {(each.key.kind, each.key.name): each.body["metadata"]["labels"][CONTROLLER_LABEL] for each in made}
    assert labels["Service", "ours-ours"] == written(OURS)
    assert labels["Service", "theirs-theirs"] == written(ALSO)
    # Of a pool it is that of the Gateway that is led to it.
    assert labels["Service", "pool-picker"] == written(ALSO)
    # Another name makes no other pods.
    for each in made:
        if each.key.kind == "Deployment":
            assert CONTROLLER_LABEL not in each.body["spec"]["template"]["metadata"]["labels"]


def written(name: str) -> str:
    return name.replace("/", "_")


POLICY = """
---
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: BackendTrafficPolicy
metadata: {name: policy, namespace: shop}
spec:
  timeout: {http: {requestTimeout: 24h}}
  targetRefs:
    - {group: gateway.networking.k8s.io, kind: Gateway, name: theirs}
    - {group: gateway.networking.k8s.io, kind: HTTPRoute, name: to-theirs}
    - {group: gateway.networking.k8s.io, kind: HTTPRoute, name: to-ours}
    - {group: gateway.networking.k8s.io, kind: Gateway, name: absent}
"""


def test_of_policies_each_says_how_they_stand_to_what_is_its_own() -> None:
    found = translated(led_by("ours", "theirs"), POLICY)
    entries = status(found, "BackendTrafficPolicy").body["ancestors"]
    said = [(each["ancestorRef"]["name"], each["controllerName"]) for each in entries]  # type: ignore[attr-defined]
    assert said == [("to-ours", OURS), ("absent", OURS)]
    assert any("absent does not exist" in line for line in found.problems)


def test_a_controller_name_is_a_label_s_value() -> None:
    names = ["a.b/c", "a.b/c/d", "a.b/c-d", "a.b/c~d", "a.b/c_", f"a.b/{'c' * 70}", f"a.b/{'c' * 71}", CONTROLLER]
    labels = [label_of(name) for name in names]
    assert len({*labels}) == len(names)
    for label in labels:
        assert len(label) <= 63
        assert label.replace("-", "").replace("_", "").replace(".", "").isalnum()
        assert label[0].isalnum()
        assert label[-1].isalnum()
    assert label_of(CONTROLLER) == "pointsman.dev_gateway-controller"
    assert (principal_of(None), principal_of({"b.c/d", CONTROLLER}), principal_of({"b.c/d", "a.c/d"})) == (
        CONTROLLER,
        CONTROLLER,
        "a.c/d",
    )
