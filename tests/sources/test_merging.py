"""What is written into a status, given what is there."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from sources.kubernetes.merging import Json, is_atomic, merge

NOW, BEFORE = "2026-01-02T00:00:00Z", "2026-01-01T00:00:00Z"
OURS, THEIRS = "example.com/ours", "example.com/theirs"


def owns(entry: Json) -> bool:
    return entry.get("controllerName") == OURS


def condition(kind: str, status: str = "True", **more: Any) -> dict[str, Any]:
    return {"type": kind, "status": status, "reason": kind, "message": "", "observedGeneration": 1, **more}


def parent(name: str, controller: str, *conditions: Json) -> dict[str, Any]:
    return {"parentRef": {"name": name}, "controllerName": controller, "conditions": list(conditions)}


def merged(current: Json, desired: Json) -> dict[str, Any] | None:
    return merge(current, desired, owns=owns, now=NOW)


def test_a_condition_that_stays_keeps_its_time() -> None:
    current = {"conditions": [condition("Accepted", lastTransitionTime=BEFORE)]}
    assert merged(current, {"conditions": [condition("Accepted")]}) is None
    again = merged(current, {"conditions": [condition("Accepted", observedGeneration=2)]})
    assert again == {"conditions": [condition("Accepted", observedGeneration=2, lastTransitionTime=BEFORE)]}
    turned = merged(current, {"conditions": [condition("Accepted", "False")]})
    assert turned == {"conditions": [condition("Accepted", "False", lastTransitionTime=NOW)]}


def test_conditions_of_other_types_are_left_to_their_owners() -> None:
    theirs = condition("Healthy", lastTransitionTime=BEFORE)
    current = {"conditions": [theirs, condition("Accepted", lastTransitionTime=BEFORE)]}
    assert merged(current, {"conditions": [condition("Accepted")]}) is None
    written = merged(current, {"conditions": [condition("Accepted", "False")]})
    assert written == {"conditions": [condition("Accepted", "False", lastTransitionTime=NOW)]}


def test_a_warning_that_is_over_is_taken_back() -> None:
    def listener(*conditions: Json) -> dict[str, Any]:
        return {"listeners": [{"name": "https", "conditions": list(conditions)}]}

    good = condition("Accepted", lastTransitionTime=BEFORE)
    overlap = condition("OverlappingTLSConfig", lastTransitionTime=BEFORE)
    assert merged(listener(good, overlap), listener(condition("Accepted"))) == listener(good)
    assert merged(listener(good), listener(condition("Accepted"))) is None


def test_what_stands_for_a_controller_goes_once_one_has_something_to_say() -> None:
    placeholder = {"parentRef": {"kind": "Status", "name": "default"}, "conditions": []}
    said = {"parentRef": {"name": "gateway"}, "conditions": []}
    assert merged({"parent": [placeholder]}, {"parent": [said]}) == {"parent": [said]}
    assert merged({"parent": [placeholder]}, {"parent": []}) is None


def test_parents_of_other_controllers_stay_where_they_are() -> None:
    theirs = parent("gateway", THEIRS, condition("Accepted", "False", lastTransitionTime=BEFORE))
    old = parent("gone", OURS, condition("Accepted", lastTransitionTime=BEFORE))
    kept = parent("gateway", OURS, condition("Accepted", lastTransitionTime=BEFORE))
    desired = {"parents": [parent("gateway", OURS, condition("Accepted")), parent("new", OURS, condition("Accepted"))]}
    new = parent("new", OURS, condition("Accepted", lastTransitionTime=NOW))
    assert merged({"parents": [old, theirs, kept]}, desired) == {"parents": [theirs, kept, new]}
    assert merged({"parents": [theirs, kept, new]}, desired) is None
    assert merged({"parents": [theirs, kept, new]}, {"parents": []}) == {"parents": [theirs]}
    assert merged({"parents": [theirs]}, {"parents": []}) is None


def test_an_entry_that_names_no_controller_is_ours_where_it_is_about_the_same_parent() -> None:
    # InferencePool v1alpha2 has no controllerName.
    there = {"parentRef": {"name": "gateway"}, "conditions": [condition("Accepted", lastTransitionTime=BEFORE)]}
    other = {"parentRef": {"name": "other"}, "conditions": []}
    desired = {"parentRef": {"name": "gateway"}, "conditions": [condition("Accepted", "False")]}
    written = merged({"parent": [other, there]}, {"parent": [desired]})
    assert written is not None
    assert written["parent"] == [
        other,
        {**desired, "conditions": [condition("Accepted", "False", lastTransitionTime=NOW)]},
    ]


def test_listeners_keep_their_times_one_by_one() -> None:
    def listener(name: str, attached: int, since: str | None) -> dict[str, Any]:
        more = {"lastTransitionTime": since} if since else {}
        return {"name": name, "attachedRoutes": attached, "conditions": [condition("Accepted", **more)]}

    current = {"listeners": [listener("a", 1, BEFORE), listener("b", 2, BEFORE)]}
    assert merged(current, {"listeners": [listener("a", 1, None), listener("b", 2, None)]}) is None
    written = merged(current, {"listeners": [listener("a", 2, None), listener("c", 0, None)]})
    assert written == {"listeners": [listener("a", 2, BEFORE), listener("c", 0, NOW)]}


def test_only_lists_that_several_write_need_a_guard() -> None:
    assert is_atomic({"parents": []})
    assert not is_atomic({"conditions": [], "listeners": []})


entries = st.builds(
    lambda name, controller, status: parent(name, controller, condition("Accepted", status)),
    st.sampled_from("abc"),
    st.sampled_from((OURS, THEIRS)),
    st.sampled_from(("True", "False")),
)


def unique(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return list({(each["parentRef"]["name"], each["controllerName"]): each for each in found}.values())


@given(st.lists(entries), st.lists(entries))
def test_what_is_written_needs_no_second_writing_and_hurts_nobody(
    current: list[dict[str, Any]], desired: list[dict[str, Any]]
) -> None:
    before = {"parents": unique(current)}
    wanted = {"parents": [each for each in unique(desired) if each["controllerName"] == OURS]}
    written = merged(before, wanted) or before
    assert merged(written, wanted) is None
    theirs = [each for each in before["parents"] if each["controllerName"] == THEIRS]
    assert [each for each in written["parents"] if each["controllerName"] == THEIRS] == theirs
    ours = {each["parentRef"]["name"] for each in written["parents"] if each["controllerName"] == OURS}
    assert ours == {each["parentRef"]["name"] for each in wanted["parents"]}
