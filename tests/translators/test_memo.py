from translators import Memo


def made(name: str, *, size: int = 0) -> list[object]:
    return [name, size]


def test_equal_arguments_give_the_same_object() -> None:
    memo = Memo()
    assert memo(made, "a") is memo(made, "a")
    assert memo(made, "a", size=1) is memo(made, "a", size=1)
    assert memo(made, "a") is not memo(made, "a", size=1)


def test_a_function_remembers_for_itself() -> None:
    memo = Memo()

    def other(name: str) -> list[object]:
        return ["other", name]

    assert memo(made, "a") == ["a", 0]
    assert memo(other, "a") == ["other", "a"]


def test_what_was_used_in_the_last_translation_is_kept() -> None:
    memo = Memo()
    first = memo(made, "a")
    memo.turn()
    assert memo(made, "a") is first
    memo.turn()
    assert memo(made, "a") is first


def test_what_was_not_used_is_forgotten() -> None:
    memo = Memo()
    first = memo(made, "a")
    memo.turn()
    memo.turn()
    assert memo(made, "a") is not first


def measured(each: list[int], unit: str) -> list[object]:
    return [each, unit]


def test_the_very_same_argument_gives_the_same_object() -> None:
    memo = Memo()
    one, other = [1], [1]
    first = memo.same(measured, one, "s")
    assert memo.same(measured, one, "s") is first
    assert memo.same(measured, one, "ms") is not first
    assert memo.same(measured, other, "s") is not first


def test_each_of_many_is_remembered_by_itself() -> None:
    memo = Memo()
    one, other, another = [1], [2], [3]
    first = memo.each(measured, [one, other], "s")
    memo.turn()
    second = memo.each(measured, [other, another, one], "s")
    assert second == [[[2], "s"], [[3], "s"], [[1], "s"]]
    assert second[0] is first[1]
    assert second[2] is first[0]
    memo.turn()
    memo.turn()
    assert memo.each(measured, [one], "s")[0] is not first[0]


def test_a_place_is_kept_while_it_is_asked_for() -> None:
    memo = Memo()
    place = memo.place(list, "a")
    place.append(1)
    memo.turn()
    assert memo.place(list, "a") is place
    assert memo.place(list, "b") == []
    memo.forget()
    assert memo.place(list, "a") == []
