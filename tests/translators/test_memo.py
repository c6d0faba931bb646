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
