"""Where a Gateway of a cluster can be reached, and whether."""

import pytest
from manifests import world_of

from pointsman.addresses import addresses_of, is_answered
from pointsman.programming import Address
from resources import Gateway, Key
from translators.infrastructure import GATEWAY_CLASS_LABEL, GATEWAY_NAME_LABEL
from translators.names import label_value

MANIFESTS = """
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: %(name)s, namespace: shop}
spec: {gatewayClassName: %(name)s, listeners: [{name: http, port: 80, protocol: HTTP}]}
---
apiVersion: v1
kind: Service
metadata: {name: made, namespace: shop, labels: {%(label)s: "%(value)s"}}
spec: {clusterIP: 192.0.2.1, ports: [{port: 80}]}
"""


@pytest.mark.parametrize("name", ["gateway", "g.v1", "g" * 100])
@pytest.mark.parametrize("label", [GATEWAY_NAME_LABEL, GATEWAY_CLASS_LABEL])
def test_they_are_those_of_the_service_that_was_made_for_it(name: str, label: str) -> None:
    shared = label == GATEWAY_CLASS_LABEL
    key = Key(Gateway.GROUP, "Gateway", "shop", name)
    world = world_of(MANIFESTS % {"name": name, "label": label, "value": label_value(name)})
    assert addresses_of(world, key, shared=shared) == (Address("IPAddress", "192.0.2.1"),)
    other = world_of(MANIFESTS % {"name": name, "label": label, "value": "other"})
    assert addresses_of(other, key, shared=shared) == ()


SLICE = """
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: made-1, namespace: %s, labels: {kubernetes.io/service-name: %s}}
addressType: IPv4
ports: [{port: 10080}]
endpoints: [{addresses: [192.0.2.8], conditions: {ready: false}}, {addresses: [192.0.2.9], conditions: {ready: %s}}]
"""


@pytest.mark.parametrize(
    ("slices", "answered"),
    [
        ("", False),
        (SLICE % ("shop", "made", "false"), False),
        (SLICE % ("shop", "made", "true"), True),
        (SLICE % ("shop", "made", "null"), True),
        (SLICE % ("shop", "other", "true"), False),
        (SLICE % ("other", "made", "true"), False),
    ],
)
def test_it_is_answered_when_an_endpoint_of_that_service_is_ready(slices: str, *, answered: bool) -> None:
    key = Key(Gateway.GROUP, "Gateway", "shop", "gateway")
    for label, shared in ((GATEWAY_NAME_LABEL, False), (GATEWAY_CLASS_LABEL, True)):
        world = world_of(MANIFESTS % {"name": "gateway", "label": label, "value": "gateway"} + slices)
        assert is_answered(world, key, shared=shared) is answered
        assert not is_answered(world, key, shared=not shared)
