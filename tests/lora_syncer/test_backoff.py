from lora_syncer.backoff import Backoff


def test_waits_double_up_to_five_minutes() -> None:
    backoff = Backoff(5.0)
    assert backoff.may_try("a", 0.0)
    now, waits = 100.0, []
    for _ in range(8):
        waits.append(backoff.failed("a", now))
        assert not backoff.may_try("a", now + waits[-1] - 0.01)
        now += waits[-1]
        assert backoff.may_try("a", now)
    assert waits == [5, 10, 20, 40, 80, 160, 300, 300]


def test_others_do_not_wait_and_what_is_not_kept_is_forgotten() -> None:
    backoff = Backoff(5.0)
    backoff.failed("a", 0.0)
    assert backoff.may_try("b", 0.0)
    backoff.keep(["b"])
    assert backoff.may_try("a", 0.0)
