"""Which document's word counts, and what stays when one is broken."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from resources import Delete, Key, Object, Pod, Upsert, decode
from sources import Reading
from sources.entries import Entry, keep_last_good, read_entries
from sources.ledger import Ledger, are_sound

A, B = Path("folder/a.yaml"), Path("folder/b.yaml")


def service(name: str, port: object = 80) -> str:
    return f"apiVersion: v1\nkind: Service\nmetadata:\n  name: {name}\nspec:\n  ports:\n  - port: {port}\n"


def entries(*documents: str, before: tuple[Entry, ...] = ()) -> tuple[Entry, ...]:
    return keep_last_good(before, read_entries("---\n".join(documents).encode(), as_json=False))


def key(name: str) -> Key:
    return Key("", "Service", "default", name)


def balance(ledger: Ledger, **files: tuple[Entry, ...]) -> tuple[Ledger, Reading]:
    return ledger.balance({Path(f"folder/{name}.yaml"): each for name, each in files.items()})


def changed(reading: Reading) -> list[str]:
    return [f"-{each.key}" if isinstance(each, Delete) else f"+{each.object.key}" for each in reading.changes]


def object_of(ledger: Ledger, name: str) -> Object:
    return ledger.objects[key(name)]


class TestLastGoodVersion:
    def test_a_broken_document_keeps_its_object(self) -> None:
        before = entries(service("a"), service("b"))
        after = entries(service("a", "x"), service("b", 81), before=before)
        first, _ = balance(Ledger(), a=before)
        second, reading = balance(first, a=after)
        assert changed(reading) == ["+Service default/b"]
        assert object_of(second, "a") is object_of(first, "a")
        (problem,) = reading.problems
        assert str(problem) == "folder/a.yaml:7: Service default/a: spec.ports[0].port: expected int, got str"

    def test_at_start_up_it_has_none(self) -> None:
        ledger, reading = balance(Ledger(), a=entries(service("a", "x"), service("b")))
        assert set(ledger.objects) == {key("b")}
        assert len(reading.problems) == 1

    def test_a_document_that_does_not_tell_whose_it_is_keeps_every_object_of_the_file(self) -> None:
        before = entries(service("a"), service("b"))
        for broken in ("a: [1\n", service("Wrong"), "- not an object\n"):
            after = entries(broken, service("b", 81), before=before)
            first, _ = balance(Ledger(), a=before)
            second, reading = balance(first, a=after)
            assert changed(reading) == ["+Service default/b"]
            assert set(second.objects) == {key("a"), key("b")}

    def test_it_stays_through_several_broken_versions_and_goes_when_deleted(self) -> None:
        ledger, _ = balance(Ledger(), a=(versions := entries(service("a"), service("b"))))
        for broken in ("[\n", service("a", "x"), service("a", "y")):
            versions = entries(broken, service("b"), before=versions)
            ledger, reading = balance(ledger, a=versions)
            assert not reading.changes
        ledger, reading = balance(ledger, a=entries(service("b"), before=versions))
        assert changed(reading) == ["-Service default/a"]
        assert not reading.problems

    def test_an_object_that_moves_within_the_file_stays_one(self) -> None:
        before = entries(service("a"), service("b"))
        after = entries("[\n", service("a"), before=before)
        _, reading = balance(Ledger(), a=after)
        assert len(reading.problems) == 1
        assert sorted(changed(reading)) == ["+Service default/a", "+Service default/b"]


class TestDoubles:
    def test_the_first_stays_and_both_places_are_named(self) -> None:
        ledger, reading = balance(Ledger(), a=entries(service("x"), service("a", 1)), b=entries(service("a", 2)))
        (problem,) = reading.problems
        assert (problem.path, problem.line) == (B, 1)
        assert "Service default/a" in problem.message
        assert "folder/a.yaml:9" in problem.message
        assert object_of(ledger, "a") == decode_service("a", 1)

    def test_the_second_takes_over(self) -> None:
        ledger, _ = balance(Ledger(), a=entries(service("a", 1)), b=entries(service("a", 2)))
        ledger, reading = balance(ledger, b=entries(service("a", 2)))
        assert object_of(ledger, "a") == decode_service("a", 2)
        assert changed(reading) == ["+Service default/a"]
        assert not reading.problems

    def test_within_one_file(self) -> None:
        ledger, reading = balance(Ledger(), a=entries(service("a", 1), service("a", 2)))
        assert object_of(ledger, "a") == decode_service("a", 1)
        assert [problem.line for problem in reading.problems] == [9]

    def test_a_broken_first_keeps_its_place(self) -> None:
        first = entries(service("a", 1))
        ledger, _ = balance(Ledger(), a=first, b=entries(service("a", 2)))
        ledger, reading = balance(ledger, a=entries(service("a", "x"), before=first), b=entries(service("a", 2)))
        assert not reading.changes
        assert [problem.path for problem in reading.problems] == [A, B]


class TestDelta:
    def test_what_is_equal_is_no_change(self) -> None:
        first, _ = balance(Ledger(), a=entries(service("a")))
        second, reading = balance(first, a=entries("# a comment\n" + service("a")))
        assert not reading.changes
        assert object_of(second, "a") is object_of(first, "a")

    def test_moving_an_object_to_another_file_is_no_change(self) -> None:
        first, _ = balance(Ledger(), a=entries(service("a")))
        _, reading = balance(first, b=entries(service("a")))
        assert not reading.changes

    def test_changes_are_upserts_and_deletes(self) -> None:
        first, reading = balance(Ledger(), a=entries(service("a"), service("b")))
        assert changed(reading) == ["+Service default/a", "+Service default/b"]
        _, reading = balance(first, a=entries(service("b", 81)))
        assert changed(reading) == ["-Service default/a", "+Service default/b"]
        assert isinstance(reading.changes[1], Upsert)


class TestNotices:
    def test_a_kind_is_named_once(self) -> None:
        stranger = "apiVersion: x.io/v1\nkind: Strange\nmetadata: {name: a}\n"
        _, reading = balance(Ledger(), a=entries(stranger, stranger), b=entries(stranger))
        assert [str(notice) for notice in reading.notices] == [
            "folder/a.yaml:1: kind Strange of x.io/v1: unknown kind, ignored"
        ]

    def test_a_field_is_named_with_its_line(self) -> None:
        text = (
            "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: a}\n"
            "spec:\n  rules:\n  - matches:\n    - path: {value: /}\n      colour: red\n"
        )
        _, reading = balance(Ledger(), a=entries(text))
        assert [str(notice) for notice in reading.notices] == [
            "folder/a.yaml:8: HTTPRoute default/a: spec.rules[0].matches[0].colour: unknown field, ignored"
        ]

    def test_what_secrets_hold_is_not_looked_at(self) -> None:
        text = "apiVersion: v1\nkind: Secret\nmetadata: {name: a}\nstringData: {password: [hunter2]}\n"
        _, reading = balance(Ledger(), a=entries(text))
        assert (reading.problems, reading.notices) == ((), ())
        assert "hunter2" not in str(reading)


class TestLists:
    def test_lists_are_their_items(self) -> None:
        text = (
            "apiVersion: v1\nkind: List\nitems:\n"
            "- {apiVersion: v1, kind: Service, metadata: {name: a}}\n"
            "- apiVersion: v1\n  kind: Service\n  metadata: {name: b}\n  spec:\n    ports:\n    - port: x\n"
            "- 3\n"
        )
        ledger, reading = balance(Ledger(), a=entries(text))
        assert set(ledger.objects) == {key("a")}
        assert [(problem.line, problem.message) for problem in reading.problems] == [
            (10, "Service default/b: spec.ports[0].port: expected int, got str"),
            (11, "expected an object with apiVersion and kind, got a plain value"),
        ]

    def test_an_empty_list_is_nothing(self) -> None:
        assert entries("apiVersion: v1\nkind: List\nitems:\n") == ()


def test_what_is_not_utf8_is_a_problem() -> None:
    (entry,) = read_entries(b"a: 1\nb: \xff\n", as_json=False)
    assert entry.complaint is not None
    assert entry.complaint.line == 2


def decode_service(name: str, port: int) -> Object:
    found = decode(
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": {"ports": [{"port": port}]}}
    )
    assert found.object is not None
    return found.object


def pod(address: str = "") -> str:
    status = f"\nstatus: {{podIP: {address}}}" if address else ""
    return f"apiVersion: v1\nkind: Pod\nmetadata: {{name: a}}\nspec: {{containers: [{{name: c}}]}}{status}\n"


def test_a_pod_that_runs_is_the_one_that_is_asked_for_in_any_order() -> None:
    wanted, running = entries(pod()), entries(pod("127.0.0.2"))
    for files in ({"a": wanted, "b": running}, {"a": running, "b": wanted}):
        ledger, reading = balance(Ledger(), **files)
        (found,) = ledger.objects.values()
        assert isinstance(found, Pod)
        assert found.addresses == ("127.0.0.2",)
        assert reading.problems == ()
    # Two that run, or two that are asked for, are one too many.
    for both in (wanted, running):
        _, reading = balance(Ledger(), a=both, b=both)
        assert len(reading.problems) == 1


sound_files = st.dictionaries(st.sampled_from("abc"), st.integers(80, 82), max_size=3)


@given(sound_files, sound_files)
def test_to_amend_is_to_balance_where_all_is_sound(before: dict[str, int], after: dict[str, int]) -> None:
    was = entries(*(service(name, port) for name, port in before.items()))
    now = entries(*(service(name, port) for name, port in after.items()))
    other = entries(service("other"))
    assert are_sound(was)
    assert are_sound(now)
    first, _ = balance(Ledger(), a=was, b=other)
    balanced, expected = balance(first, a=now, b=other)
    amended, reading = first.amend([(was, now)])
    assert amended.objects == balanced.objects
    assert sorted(changed(reading)) == sorted(changed(expected))
    for each, found in first.objects.items():
        if amended.objects.get(each) == found:
            assert amended.objects[each] is found


ROUTE = "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: a}\nspec: {odd: 1}\n"


def test_what_there_is_something_to_say_of_is_not_sound() -> None:
    for text in ("[", ROUTE, "apiVersion: a/v1\nkind: Odd\n", service("a", "x")):
        assert not are_sound(entries(text))
    assert not are_sound(entries(service("a"), service("a")))
