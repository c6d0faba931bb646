"""What people should notice of a change of statuses."""

from typing import Any

from pointsman.noticing import Remark, remarks
from resources import Key

ROUTE = Key("gateway.networking.k8s.io", "HTTPRoute", "shop", "chat")
GATEWAY = Key("gateway.networking.k8s.io", "Gateway", "shop", "gateway")


def condition(kind: str, status: str = "True", reason: str = "Fine", message: str = "") -> dict[str, Any]:
    return {"type": kind, "status": status, "reason": reason, "message": message, "observedGeneration": 1}


def route(*conditions: dict[str, Any]) -> dict[str, Any]:
    return {"parents": [{"parentRef": {"namespace": "shop", "name": "gateway"}, "conditions": list(conditions)}]}


def test_a_condition_that_turns_false_is_a_warning() -> None:
    good, bad = route(condition("ResolvedRefs")), route(condition("ResolvedRefs", "False", "BackendNotFound", "no x"))
    assert list(remarks({ROUTE: good}, {ROUTE: bad})) == [
        Remark(ROUTE, warning=True, reason="BackendNotFound", note="ResolvedRefs: no x")
    ]
    assert list(remarks({ROUTE: bad}, {ROUTE: bad})) == []
    other = route(condition("ResolvedRefs", "False", "BackendNotFound", "no y"))
    assert [each.note for each in remarks({ROUTE: bad}, {ROUTE: other})] == ["ResolvedRefs: no y"]


def test_a_new_object_that_is_wrong_is_a_warning_and_one_that_is_right_is_none() -> None:
    bad = route(condition("Accepted", "False", "NoMatchingParent", "no listener"))
    assert [each.reason for each in remarks({}, {ROUTE: bad})] == ["NoMatchingParent"]
    assert list(remarks({}, {ROUTE: route(condition("Accepted"))})) == []


def test_a_warning_that_comes_true_is_one() -> None:
    whole, partly = (
        route(condition("Accepted")),
        route(condition("Accepted"), condition("PartiallyInvalid", message="x")),
    )
    assert [each.note for each in remarks({ROUTE: whole}, {ROUTE: partly})] == ["PartiallyInvalid: x"]
    assert list(remarks({ROUTE: partly}, {ROUTE: whole})) == []
    apart = {"conditions": [condition("Conflicted", "False", "NoConflicts")]}
    assert list(remarks({}, {GATEWAY: apart})) == []


def test_a_gateway_that_comes_into_force_is_news_and_one_that_is_on_its_way_is_none() -> None:
    pending = {"conditions": [condition("Programmed", "False", "Pending", "no Envoy")]}
    programmed = {"conditions": [condition("Programmed", reason="Programmed")]}
    assert list(remarks({}, {GATEWAY: pending})) == []
    assert list(remarks({GATEWAY: pending}, {GATEWAY: programmed})) == [
        Remark(GATEWAY, warning=False, reason="Programmed", note="the configuration is in force")
    ]
